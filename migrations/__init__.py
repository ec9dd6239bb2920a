"""The schema's history; one head, each step reversible."""
