"""What can be done with a service from a shell? The sub-commands that speak REST."""
