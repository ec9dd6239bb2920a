"""Under which name is a value kept that nobody may read again?"""

import hmac
from enum import StrEnum

from app.domain.errors import Conflict


class Privacy(StrEnum):
    """What becomes of a field's values before anything is stored.

    `hash`: a pseudonym stands for each, the same for the same value of the same model and field.
    `drop`: they are judged, and forgotten.
    """

    HASH = "hash"
    DROP = "drop"


def pseudonym(secret: bytes, field: str, value: str) -> str:
    """Return the name under which a value is kept: HMAC-SHA-256 (RFC 2104) as hex.

    Without the secret it tells nothing of the value, not even to who guesses; with it, guesses
    can be tried. Another field or model gives another name.

    Raises:
        Conflict: the model's secret was deleted.
    """
    if not secret:
        raise Conflict(
            "the secret of this model's hashed fields was deleted; register the model anew"
        )
    return hmac.digest(secret, f"{field}\0{value}".encode(), "sha256").hex()
