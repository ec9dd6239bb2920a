"""Where does a machine's state live?"""

import hashlib
import os
from pathlib import Path

from app.embedded.owners import make_shared

_ROOTS_STATE = Path("/var/lib/upkeep")


def state_home(explicit: Path | None, checkout: Path) -> Path:
    """Return the directory of all state, created if need be.

    An explicit one wins. Else an ordinary user's is `.upkeep` in the checkout. Root's lies
    outside it, named after it, because there the servers run as a lesser user who must be able
    to pass through; what is private is so in folders below.

    Args:
        explicit: the setting UPKEEP_HOME, or None.
        checkout: the directory the command was started in.
    """
    if explicit is not None:
        return make_shared(explicit.expanduser().absolute())
    checkout = checkout.resolve()
    if os.geteuid() != 0:
        return make_shared(checkout / ".upkeep")
    digest = hashlib.sha256(os.fsencode(checkout)).hexdigest()[:8]
    return make_shared(_ROOTS_STATE / f"{checkout.name or 'root'}-{digest}")
