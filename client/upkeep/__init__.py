"""The REST client of Upkeep."""
