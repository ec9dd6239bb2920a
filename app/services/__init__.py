"""What happens: one step a file, one use case a function."""
