"""What a solver returns: a point, its multipliers, and a word per sample.

Data first: `status` says why, `ok` says whether; exceptions are made from them later.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from torch import Tensor

from optlayers.errors import ParameterError


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
class EventLog:
    """When one event fired, and in which state, in order of time.

    Attributes:
        times: [B, K], NaN where a sample had fewer than K; differentiable.
        states: before a jump, [B, K, n], NaN likewise.
        lost: samples that ended because the function of the event was NaN, bool [B].
    """

    times: Tensor
    states: Tensor
    lost: Tensor | None = None

    def reshaped(self, batch_shape: Sequence[int]) -> "EventLog":
        """With the user's batch axes instead of B."""
        return EventLog(
            self.times.reshape(*batch_shape, *self.times.shape[1:]),
            self.states.reshape(*batch_shape, *self.states.shape[1:]),
            None if self.lost is None else self.lost.reshape(tuple(batch_shape)),
        )

    def without_gradient(self, rows: Tensor) -> "EventLog":
        """The same numbers, of which some samples, bool [B], have no derivative."""
        return EventLog(
            self.times.detach().where(rows[:, None], self.times),
            self.states.detach().where(rows[:, None, None], self.states),
            self.lost,
        )


@dataclass(frozen=True)
class Solution:
    """Solutions of a batch of B programs.

    Attributes:
        value: the primal solution, [B, *shape].
        duals: multipliers by constraint name, each [B, *shape].
        status: a `Status` per sample, int8 [B].
        stats: numbers per sample: "steps", "residual", "seconds",
            "gradient_condition", each [B].
        events: what fired during an integration, a log for each event (ODE only).
        operator: the factorized linearization at the solution, if the solver has one
            that is exact there.
        dense: the solution of an integration at any times, if it was kept.
    """

    value: Tensor
    duals: Mapping[str, Tensor]
    status: Tensor
    stats: Mapping[str, Tensor] = field(default_factory=dict)
    events: tuple[EventLog, ...] = ()
    operator: Any = None
    dense: Callable[[Any], Any] | None = None

    def at(self, times: Tensor | float) -> Any:
        """The solution of an integration at any times between its first and last.

        Args:
            times: [M] or [*batch, M], in any order, or one number.

        Returns:
            [*batch, M, n], differentiable as the solution is, and in the times; of a
            pytree each leaf [B, M, ...]. Of one number there is no axis of time.

        Raises:
            ParameterError: the steps were not kept, or a time lies outside.
        """
        if self.dense is None:
            raise ParameterError(
                "solution.at(t) needs the steps of the integration, which were not "
                "kept: call integrate(..., dense=True)."
            )
        return self.dense(times)

    @property
    def ok(self) -> Tensor:
        """Whether each sample was solved, bool [B]."""
        return self.status == Status.SOLVED
