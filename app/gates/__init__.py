"""When to promote: one gate a file, registered by name."""

from app.domain.promotion import Gate
from app.domain.registry import Registry

gates: Registry[Gate] = Registry("gate")
