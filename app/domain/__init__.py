"""What is true: values and rules, with the standard library and numpy alone."""
