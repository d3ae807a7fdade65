"""Where the entries of the declared variables stand, before cvxpy orders them.

A variable's entries are numbered in F order, as cvxpy numbers them, the stage axis
first; a symmetric matrix has those of its upper triangle only.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from optlayers.modeling.expressions import Expression
from optlayers.modeling.fields import BoundField


class ColumnLayout:
    """Provisional columns of every declared variable, one variable after another.

    Attributes:
        first: the first column of each variable.
        size: number of columns of all variables.
    """

    def __init__(self, fields: Mapping[str, BoundField]) -> None:
        self.first: dict[str, int] = {}
        self._columns: dict[str, np.ndarray] = {}
        self.size = 0
        for name, field in fields.items():
            if field.is_variable:
                own = entry_numbers(field)
                self.first[name] = self.size
                self._columns[name] = own + self.size
                self.size += int(own.max(initial=-1)) + 1

    def spans(self) -> Iterator[tuple[str, int, int]]:
        """Name, first column and number of columns of each variable."""
        starts = [*self.first.values(), self.size]
        for name, first, last in zip(self.first, starts, starts[1:], strict=False):
            yield name, first, last - first

    def columns(self, field: BoundField) -> np.ndarray:
        """Columns of a variable, [*shape], or [knots, *shape] if it is staged."""
        return self._columns[field.name]


def is_triangular(field: BoundField) -> bool:
    """Whether the variable is held as the upper triangle of a symmetric matrix."""
    return field.symmetric or field.psd


def window(expression: Expression) -> range:
    """The stages of a staged expression."""
    assert expression.stages is not None
    return expression.stages


def full_shape(field: BoundField) -> tuple[int, ...]:
    """Shape of the variable over all stages."""
    return field.shape if field.knots is None else (field.knots, *field.shape)


def entry_numbers(field: BoundField) -> np.ndarray:
    """Number of the entry of the variable's vector at each position, [*full_shape]."""
    shape = full_shape(field)
    if not is_triangular(field):
        return np.arange(np.prod(shape, dtype=int)).reshape(shape, order="F")
    numbers = np.zeros(shape, dtype=np.int64)
    rows, cols = np.triu_indices(shape[0])
    numbers[rows, cols] = numbers[cols, rows] = np.arange(len(rows))
    return numbers
