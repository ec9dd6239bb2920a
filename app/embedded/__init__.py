"""Postgres, Valkey and the processes of one machine, started and stopped together."""
