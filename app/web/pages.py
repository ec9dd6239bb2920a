"""The pages: a list of models, and one model's story."""

from fastapi import FastAPI


def mount(api: FastAPI) -> None:
    """Add the pages to the API's app."""
