"""When to retrain: one trigger a file, registered by name."""

from app.domain.decisions import Trigger
from app.domain.registry import Registry

triggers: Registry[Trigger] = Registry("trigger")
