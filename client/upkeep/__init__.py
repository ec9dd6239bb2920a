"""The REST client of Upkeep; `upkeep.champion` and `upkeep.images` need the `[predict]` extra."""

from upkeep.client import Upkeep
from upkeep.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    StillWaiting,
    Unauthorized,
    Unavailable,
    UnsafeArtifact,
    UpkeepError,
)
from upkeep.model import Model
from upkeep.receipts import Receipt, with_ids
from upkeep.retrying import Retries

__all__ = [
    "Conflict",
    "Forbidden",
    "Invalid",
    "Model",
    "NotFound",
    "Receipt",
    "Retries",
    "StillWaiting",
    "Unauthorized",
    "Unavailable",
    "UnsafeArtifact",
    "Upkeep",
    "UpkeepError",
    "with_ids",
]
