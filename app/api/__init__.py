"""How programs speak to Upkeep: a router for each step."""
