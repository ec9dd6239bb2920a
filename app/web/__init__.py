"""How people see Upkeep: plain pages over the same use cases."""
