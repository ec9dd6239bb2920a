"""Celery jobs: take the lease, do the work, hand the outcome to one use case."""
