"""One step of the barrier problem, whole, shortened, or corrected to second order.

Source: A. Waechter, L. Biegler, On the implementation of an interior-point filter
line-search algorithm (2006), equations 15, 26 and 27.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from optlayers.programs.minimize import MinimizeProgram
from optlayers.solvers.minimize.barrier import (
    Direction,
    NewtonSystem,
    Values,
    values_at,
)
from optlayers.solvers.minimize.line_filter import Merit, Searched

LEAST_FRACTION = 0.99  # of the way to the boundary


@dataclass(frozen=True)
class BarrierStep:
    """Where a sample stands and the direction it looks.

    Attributes:
        program: of B samples.
        state: an `InteriorState`.
        system: the factorized matrix.
        move: the step.
        longest: the largest share of it that keeps the slacks positive, [B].
    """

    program: MinimizeProgram
    state: Any
    system: NewtonSystem
    move: Direction
    longest: Tensor

    @classmethod
    def of(
        cls, program: MinimizeProgram, state: Any, system: NewtonSystem
    ) -> "BarrierStep":
        """The step from a state."""
        values = state.model.values
        move = system.direction(
            state.model.slopes, (state.y, state.lam), state.s, state.mu,
            values.equalities, values.rows + state.s,
        )  # fmt: skip
        longest = share_to_boundary(state.s, move.s, state.mu)
        return cls(program, state, system, move, longest)

    @property
    def merit(self) -> Merit:
        """The merit where the step begins."""
        values, s = self.state.model.values, self.state.s
        return Merit(values.violation(s), values.barrier(s, self.state.mu))

    @property
    def slope(self) -> Tensor:
        """The derivative of the barrier objective along the step, [B]."""
        s, mu = self.state.s, self.state.mu
        gradient = self.state.model.slopes.gradient
        return (gradient * self.move.x).sum(1) - mu * (self.move.s / s).sum(1)

    def merit_after(self, length: Tensor) -> Merit:
        """The merit after a share of the step, [B]."""
        return self._merit(self.move, length)

    def corrected_merit(self, length: Tensor) -> Merit:
        """The merit after the corrected step; `length` is the longest share."""
        return self._merit(*self._corrected)

    def chosen(self, found: Searched) -> tuple[Direction, Tensor]:
        """The step that a search took, and the share of it."""
        if not found.corrected.any():
            return self.move, found.length
        other, length = self._corrected
        rows = found.corrected.unsqueeze(1)
        pairs = zip(other, self.move, strict=True)
        move = Direction(*(torch.where(rows, one, two) for one, two in pairs))
        return move, torch.where(found.corrected, length, found.length)

    @cached_property
    def _corrected(self) -> tuple[Direction, Tensor]:
        """The step with the constraints' curvature along it, and its longest share."""
        state, share = self.state, self.longest.unsqueeze(1)
        values, (trial, slack) = state.model.values, self._after(self.move, share)
        other = self.system.direction(
            state.model.slopes, (state.y, state.lam), state.s, state.mu,
            share * values.equalities + trial.equalities,
            share * (values.rows + state.s) + trial.rows + slack,
        )  # fmt: skip
        return other, share_to_boundary(state.s, other.s, state.mu)

    def _merit(self, move: Direction, length: Tensor) -> Merit:
        values, slack = self._after(move, length.unsqueeze(1))
        return Merit(values.violation(slack), values.barrier(slack, self.state.mu))

    def _after(self, move: Direction, share: Tensor) -> tuple[Values, Tensor]:
        x = self.state.x + share * move.x
        values = values_at(self.program, x, self.state.scales)
        return values, self.state.s + share * move.s


def share_to_boundary(value: Tensor, move: Tensor, mu: Tensor) -> Tensor:
    """The largest share of a move that leaves 1 - tau of positive values, [B].

    Args:
        value: positive, [B, m].
        move: [B, m].
        mu: the barrier parameter, [B]; tau = max(0.99, 1 - mu).
    """
    if value.shape[1] == 0:
        return torch.ones_like(mu)
    tau = (1 - mu).clamp_min(LEAST_FRACTION)
    share = torch.where(move < 0, -value / move, torch.inf).amin(1)
    return (tau * share).clamp_max(1.0)
