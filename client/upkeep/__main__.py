"""`python -m upkeep` is the `upkeep` command."""

import sys

from upkeep.commands import main

sys.exit(main())
