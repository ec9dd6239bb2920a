"""How the world is touched: Postgres, the queue, model files, metrics."""
