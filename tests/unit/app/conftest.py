"""Hypothesis is not hurried: a loaded machine is no counterexample."""

from hypothesis import settings

settings.register_profile("unhurried", deadline=None, max_examples=60)
settings.load_profile("unhurried")
