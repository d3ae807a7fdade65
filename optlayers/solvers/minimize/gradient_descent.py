"""Gradient descent: steps of one size, of a searched size, or with momentum.

x+ = y - t grad f(y), and y = x for all rules but "accelerated". Source: Y. Nesterov
(1983); B. O'Donoghue, E. Candes, Adaptive restart for accelerated gradient schemes
(2015), section 3.2, the gradient scheme.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from optlayers.errors import ParameterError
from optlayers.interfaces import Kind
from optlayers.programs.minimize import MinimizeProgram
from optlayers.solution import Solution
from optlayers.solvers.iterative import Outcome
from optlayers.solvers.minimize.options import (
    chosen,
    dot,
    fault_of,
    refuse_constraints,
    rounding_of,
    slope_size,
    solved_by,
)
from optlayers.solvers.root.options import check_options

RULES = ("backtracking", "fixed", "accelerated")
# A step that was good is tried a little longer next time.
LENGTHENING = 1.3
SMALLEST_STEP = 1e-20


class DescentState(NamedTuple):
    """Where every sample stands.

    Attributes:
        point, gradient: y and grad f(y), [B, n].
        value: f(y), [B].
        before: the x that came before, [B, n].
        step_size: t, [B].
        momentum: the counter theta of Nesterov's sequence, [B].
        stalled: whether t has become too small to move, bool [B].
    """

    point: Tensor
    value: Tensor
    gradient: Tensor
    before: Tensor
    step_size: Tensor
    momentum: Tensor
    stalled: Tensor


@dataclass(frozen=True, kw_only=True)
class GradientDescent:
    """The simplest method: many cheap steps, linear convergence at best.

    Attributes:
        max_steps: most evaluations.
        tolerance: largest entry of the gradient that counts as zero.
        step_size: t; where it is searched for, the first one tried.
        rule: "backtracking" (t halves until f falls enough), "fixed", or
            "accelerated" (backtracking and Nesterov's momentum, restarted).

    Raises:
        ParameterError: an option out of its range.
    """

    max_steps: int = 20_000
    tolerance: float = 1e-8
    step_size: float = 1.0
    rule: str = "backtracking"
    kind: ClassVar[Kind] = Kind.MINIMIZE

    def __post_init__(self) -> None:
        check_options(self, "step_size")
        if self.rule not in RULES:
            raise ParameterError(
                f"GradientDescent(rule={self.rule!r}): one of {', '.join(RULES)}."
            )

    def refuses(self, program: MinimizeProgram) -> str | None:
        """Constraints and bounds."""
        return refuse_constraints(program)

    def solve(self, program: MinimizeProgram, start: Tensor | None = None) -> Solution:
        """Solve every sample; failures are statuses."""
        return solved_by(self, program, start)

    def init(self, program: MinimizeProgram, start: Tensor) -> DescentState:
        """Value and gradient at the start."""
        value, gradient = program.value_and_gradient(start)
        step_size = torch.full_like(value, self.step_size)
        stalled = torch.zeros_like(value, dtype=torch.bool)
        one = torch.ones_like(value)
        return DescentState(start, value, gradient, start, step_size, one, stalled)

    def step(
        self, program: MinimizeProgram, state: DescentState, active: Tensor
    ) -> DescentState:
        """One trial step."""
        aim = state.point - state.step_size.unsqueeze(1) * state.gradient
        if self.rule == "fixed":
            value, gradient = program.value_and_gradient(aim)
            return state._replace(point=aim, value=value, gradient=gradient)
        if self.rule == "accelerated":
            return self._accelerated(program, state, aim, active)
        value, gradient = program.value_and_gradient(aim)
        accepted = active & _falls(state, value, gradient)
        new = state._replace(point=aim, value=value, gradient=gradient)
        return _stepped(accepted, active, new, state)

    def outcome(self, state: DescentState) -> Outcome:
        """The last accepted point."""
        size = slope_size(state.value, state.gradient)
        return Outcome(state.point, size, fault_of(state.value, state.stalled))

    def _accelerated(
        self, program: MinimizeProgram, state: DescentState, aim: Tensor, active: Tensor
    ) -> DescentState:
        there, slope = program.value_and_gradient(aim)
        accepted = active & _falls(state, there, slope)
        move = aim - state.before
        # Momentum that climbs is forgotten.
        theta = torch.where(dot(state.gradient, move) > 0, 1.0, state.momentum)
        following = (1 + (1 + 4 * theta.square()).sqrt()) / 2
        beta = ((theta - 1) / following).unsqueeze(1)
        y = aim + beta * move
        value, gradient = program.value_and_gradient(y)
        new = state._replace(
            point=y, value=value, gradient=gradient, before=aim, momentum=following
        )
        # Where the extrapolated point is lost, the step itself is not.
        is_lost = ~(value.isfinite() & gradient.isfinite().all(1))
        plain = new._replace(
            point=aim, value=there, gradient=slope, momentum=torch.ones_like(theta)
        )
        new = DescentState(
            *(chosen(is_lost, a, b) for a, b in zip(plain, new, strict=True))
        )
        return _stepped(accepted, active, new, state)


def _falls(state: DescentState, value: Tensor, gradient: Tensor) -> Tensor:
    """Whether f falls by half of what the slope promises, or the gradient, bool [B]."""
    squared = dot(state.gradient, state.gradient)
    is_enough = value <= state.value - state.step_size * squared / 2
    is_blurred = (value - state.value).abs() <= rounding_of(state.value)
    shorter = dot(gradient, gradient) < squared
    is_enough = torch.where(is_blurred, shorter, is_enough)
    return is_enough & value.isfinite() & gradient.isfinite().all(1)


def _stepped(
    accepted: Tensor, active: Tensor, new: DescentState, old: DescentState
) -> DescentState:
    """The new state where it is accepted, and the next step size to try."""
    factor = torch.where(accepted, LENGTHENING, 0.5)
    step_size = old.step_size * factor
    stalled = active & ~accepted & (step_size < SMALLEST_STEP)
    merged = (chosen(accepted, a, b) for a, b in zip(new, old, strict=True))
    return DescentState(*merged)._replace(step_size=step_size, stalled=stalled)
