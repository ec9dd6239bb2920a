"""What can be done with one maintained model?"""

from upkeep.feeding import Feeding
from upkeep.steering import Steering


class Model(Feeding, Steering):
    """A handle on one model: `Upkeep().model("fraud")`; making one asks the service nothing.

    Feeding: `log`, `labels`, `upload`, `import_version`.
    Steering: `check`, `retrain`, `cancel`, `promote`, `rollback`, `pause`, `resume`, `add_labels`,
    `change_policy`, and the waits `wait_for_check`, `wait_for_run`, `wait_until_settled`;
    `follow` tells of a run as it goes on.
    Reading: `document`, `champion`, `versions`, `runs`, `decisions`, `reports`, `performance`, ...
    """
