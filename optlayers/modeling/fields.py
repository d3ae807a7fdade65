"""Fields of a declaration: Variable, Parameter, State, Control, Time.

A `Field` is what the signature says; a `BoundField` is the same with sizes known.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Any


class Role(Enum):
    """What a field is to the problem."""

    VARIABLE = "variable"
    PARAMETER = "parameter"
    STATE = "state"
    CONTROL = "control"
    TIME = "time"


@dataclass(frozen=True, eq=False)
class BoundField:
    """A field whose sizes are known.

    Attributes:
        name: its name in the signature.
        role: what it is to the problem.
        shape: shape of one sample at one stage.
        knots: stages it has: steps + 1 for a State, steps for a Control, else None.
        nonneg, nonpos, symmetric, psd: declared attributes.
        lower, upper, start: bounds and first guess as declared: number, tensor or None.
        doc: the user's sentence on it.
        text: the declaration's source, e.g. `Variable("n", nonneg=True)`.
    """

    name: str
    role: Role
    shape: tuple[int, ...]
    knots: int | None = None
    nonneg: bool = False
    nonpos: bool = False
    symmetric: bool = False
    psd: bool = False
    lower: Any = None
    upper: Any = None
    start: Any = None
    doc: str = ""
    text: str = ""

    @property
    def is_variable(self) -> bool:
        """Whether the solver chooses its value."""
        return self.role in (Role.VARIABLE, Role.STATE, Role.CONTROL)
