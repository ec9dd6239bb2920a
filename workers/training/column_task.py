"""What have task types that read columns in common, whatever answers for them?"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from upkeep.tables import COLUMN_TYPES, Column
from workers.training import tables
from workers.training.task_type import Inputs


class LoadedColumns:
    """A version loaded for inference that reads columns."""

    __slots__ = ()

    @property
    def columns(self) -> Sequence[Column]:
        """The columns as they were fitted."""
        raise NotImplementedError

    @property
    def column_names(self) -> tuple[str, ...]:
        """Return the fields that it reads."""
        return tuple(column.name for column in self.columns)

    def features(self, inputs: Inputs) -> NDArray[np.float32]:
        """Return the columns in scale, categories one place each, shape (n, d)."""
        return tables.features(self.columns, self.encoded(inputs))

    def encoded(self, inputs: Inputs) -> NDArray[np.float64]:
        """Return inputs as numbers, shape (n, c)."""
        return tables.encoded(self.columns, inputs)


class ColumnsTaskType:
    """Rows of columns; how unlike the reference they are together is told of each row."""

    default_contract: ClassVar[list[dict[str, Any]]] = []
    column_types: ClassVar[tuple[str, ...]] = COLUMN_TYPES

    def fit_signals(self, reference: Inputs) -> dict[str, Any]:
        """Return the counts of categories and the bounds of numbers."""
        return tables.signal_state(reference)

    def signals(
        self,
        inputs: Inputs,
        state: Mapping[str, Any] | None = None,
        *,
        of_reference: bool = False,
    ) -> dict[str, NDArray[np.float64]]:
        """Return missing_share, unseen_share, outside_share, category_surprise, mean_distance."""
        return tables.signals(inputs, state, of_reference=of_reference)
