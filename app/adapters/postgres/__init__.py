"""Postgres, the only truth: schema, unit of work, and a repository for each step."""
