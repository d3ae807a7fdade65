"""What a solver returns: a point, its multipliers, and a word per sample.

Data first: `status` says why, `ok` says whether; exceptions are made from them later.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from torch import Tensor


class Status(IntEnum):
    """Why a solver stopped on one sample."""

    SOLVED = 0
    STEP_LIMIT = 1
    INFEASIBLE = 2
    UNBOUNDED = 3
    STALLED = 4
    NOT_FINITE = 5
    INVALID_DATA = 6

    @property
    def meaning(self) -> str:
        """One phrase for error messages."""
        return _MEANINGS[self]


_MEANINGS = {
    Status.SOLVED: "solved within tolerance",
    Status.STEP_LIMIT: "the step limit was reached first",
    Status.INFEASIBLE: "no point satisfies the constraints",
    Status.UNBOUNDED: "the objective improves without bound",
    Status.STALLED: "no further progress short of the tolerance",
    Status.NOT_FINITE: "the data or an iterate is NaN or infinite",
    Status.INVALID_DATA: "a parameter breaks its declaration",
}


@dataclass(frozen=True)
class Solution:
    """Solutions of a batch of B programs.

    Attributes:
        value: the primal solution, [B, *shape].
        duals: multipliers by constraint name, each [B, *shape].
        status: a `Status` per sample, int8 [B].
        stats: numbers per sample: "steps", "residual", "seconds",
            "gradient_condition", each [B].
        events: what fired during an integration (ODE solvers only).
        operator: the factorized linearization at the solution, if the solver has one
            that is exact there.
    """

    value: Tensor
    duals: Mapping[str, Tensor]
    status: Tensor
    stats: Mapping[str, Tensor] = field(default_factory=dict)
    events: tuple[Any, ...] = ()
    operator: Any = None

    @property
    def ok(self) -> Tensor:
        """Whether each sample was solved, bool [B]."""
        return self.status == Status.SOLVED
