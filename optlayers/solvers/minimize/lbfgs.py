"""Limited-memory BFGS: steps from the last pairs of moves and gradient changes.

Source: J. Nocedal, S. Wright, Numerical Optimization (2006), algorithm 7.4; the line
search halves and doubles until the Wolfe conditions hold, A. Lewis, M. Overton,
Nonsmooth optimization via quasi-Newton methods (2013), algorithm 2.6.
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
    UNBOUNDED_BELOW,
    chosen,
    dot,
    fault_of,
    refuse_constraints,
    rounding_of,
    slope_size,
    solved_by,
)
from optlayers.solvers.root.options import check_options

ARMIJO, CURVATURE = 1e-4, 0.9
# Trials of one line search before the memory, and then the sample, is given up.
MOST_TRIALS = 80


class LbfgsState(NamedTuple):
    """Where every sample stands, in the middle of its line search.

    Attributes:
        point, gradient: x and grad f at the last accepted point, [B, n].
        value: f there, [B].
        direction: where the search looks, [B, n].
        slope: the derivative of f along it, [B].
        share: the multiple of the direction to try next, [B].
        low, high: the shares that are too short and too long, [B].
        trials: trials of this search so far, int64 [B].
        moves, changes: the memory, oldest first, [B, k, n]; zero where unused.
        curvatures: 1 / (move' change), [B, k]; zero where unused.
        stalled: whether steepest descent has failed too, bool [B].
    """

    point: Tensor
    value: Tensor
    gradient: Tensor
    direction: Tensor
    slope: Tensor
    share: Tensor
    low: Tensor
    high: Tensor
    trials: Tensor
    moves: Tensor
    changes: Tensor
    curvatures: Tensor
    stalled: Tensor


@dataclass(frozen=True, kw_only=True)
class Lbfgs:
    """Gradients only, a few vectors of memory; for many unknowns.

    Attributes:
        max_steps: most evaluations, one a trial of a line search.
        tolerance: largest entry of the gradient that counts as zero.
        memory: how many pairs are kept.

    Raises:
        ParameterError: an option out of its range.
    """

    max_steps: int = 2000
    tolerance: float = 1e-8
    memory: int = 10
    kind: ClassVar[Kind] = Kind.MINIMIZE

    def __post_init__(self) -> None:
        check_options(self)
        if isinstance(self.memory, bool) or not self.memory >= 1:
            raise ParameterError(
                f"Lbfgs(memory={self.memory!r}): give an integer from 1 on."
            )

    def refuses(self, program: MinimizeProgram) -> str | None:
        """Constraints and bounds."""
        return refuse_constraints(program)

    def solve(self, program: MinimizeProgram, start: Tensor | None = None) -> Solution:
        """Solve every sample; failures are statuses."""
        return solved_by(self, program, start)

    def init(self, program: MinimizeProgram, start: Tensor) -> LbfgsState:
        """Steepest descent with a first trial of length one at most."""
        value, gradient = program.value_and_gradient(start)
        zero = torch.zeros_like(value)
        memory = gradient.new_zeros(len(start), self.memory, start.shape[1])
        state = LbfgsState(
            start, value, gradient, gradient, zero, zero, zero, zero,
            torch.zeros_like(zero, dtype=torch.int64), memory, memory, memory.sum(2),
            torch.zeros_like(zero, dtype=torch.bool),
        )  # fmt: skip
        return _searching(state)

    def step(
        self, program: MinimizeProgram, state: LbfgsState, active: Tensor
    ) -> LbfgsState:
        """One trial of each sample's line search."""
        trial = state.point + state.share.unsqueeze(1) * state.direction
        value, gradient = program.value_and_gradient(trial)
        is_long, is_short = _judged(state, value, gradient)
        accepted = active & ~is_long & ~is_short
        searched = _narrowed(state, is_long, is_short)
        lost = active & ~accepted & (searched.trials >= MOST_TRIALS)
        # Without memory the direction was steepest descent already.
        fresh = (state.curvatures == 0).all(1)
        searched = searched._replace(stalled=lost & fresh)
        moved = _remembered(searched, trial, value, gradient)
        moved = _merged(accepted, moved, _forgotten(searched))
        restarted = _searching(moved)
        return _merged(accepted | (lost & ~fresh), restarted, searched)

    def outcome(self, state: LbfgsState) -> Outcome:
        """The last accepted point."""
        size = slope_size(state.value, state.gradient)
        return Outcome(state.point, size, fault_of(state.value, state.stalled))


def _judged(
    state: LbfgsState, value: Tensor, gradient: Tensor
) -> tuple[Tensor, Tensor]:
    """Whether the share tried is too long, and else whether it is too short."""
    slope = dot(gradient, state.direction)
    falls = value <= state.value + ARMIJO * state.share * state.slope
    # Within rounding the slopes decide: W. Hager, H. Zhang (2005), equation 4.1.
    is_level = value <= state.value + rounding_of(state.value)
    falls = falls | (is_level & (slope <= (2 * ARMIJO - 1) * state.slope))
    is_finite = value.isfinite() & gradient.isfinite().all(1)
    is_long = ~(falls & is_finite)
    # There is no use in searching on where f has no bound.
    is_short = (slope < CURVATURE * state.slope) & (value > UNBOUNDED_BELOW)
    return is_long, ~is_long & is_short


def _narrowed(state: LbfgsState, is_long: Tensor, is_short: Tensor) -> LbfgsState:
    high = torch.where(is_long, state.share, state.high)
    low = torch.where(is_short, state.share, state.low)
    share = torch.where(high.isfinite(), (low + high) / 2, 2 * low)
    return state._replace(share=share, low=low, high=high, trials=state.trials + 1)


def _remembered(
    state: LbfgsState, point: Tensor, value: Tensor, gradient: Tensor
) -> LbfgsState:
    """The state at an accepted point, with one more pair in the memory."""
    move, change = point - state.point, gradient - state.gradient
    product = dot(move, change)
    is_curved = product > torch.finfo(value.dtype).eps * move.norm(dim=1) * change.norm(
        dim=1
    )
    curvature = torch.where(is_curved, 1 / product, 0.0)
    return state._replace(
        point=point,
        value=value,
        gradient=gradient,
        moves=torch.cat([state.moves[:, 1:], move.unsqueeze(1)], 1),
        changes=torch.cat([state.changes[:, 1:], change.unsqueeze(1)], 1),
        curvatures=torch.cat([state.curvatures[:, 1:], curvature.unsqueeze(1)], 1),
    )


def _forgotten(state: LbfgsState) -> LbfgsState:
    return state._replace(curvatures=torch.zeros_like(state.curvatures))


def _searching(state: LbfgsState) -> LbfgsState:
    """The start of a line search along the two-loop direction."""
    direction = -_two_loops(state)
    slope = dot(direction, state.gradient)
    steepest = (state.curvatures == 0).all(1) | ~(slope < 0)
    direction = chosen(steepest, -state.gradient, direction)
    state = state._replace(
        curvatures=state.curvatures.masked_fill(steepest.unsqueeze(1), 0.0)
    )
    length = state.gradient.norm(dim=1).clamp_min(torch.finfo(slope.dtype).tiny)
    # The length of the first step is not known; a unit one, shorter near a solution.
    share = torch.where(steepest, (1 / length).clamp_max(1.0), 1.0)
    return state._replace(
        direction=direction, slope=dot(direction, state.gradient), share=share,
        low=torch.zeros_like(share), high=torch.full_like(share, torch.inf),
        trials=torch.zeros_like(state.trials),
    )  # fmt: skip


def _two_loops(state: LbfgsState) -> Tensor:
    """The inverse Hessian of the memory times the gradient, [B, n]."""
    q = state.gradient
    count = state.moves.shape[1]
    weights = []
    for i in reversed(range(count)):
        weight = state.curvatures[:, i] * dot(state.moves[:, i], q)
        q = q - weight.unsqueeze(1) * state.changes[:, i]
        weights.append(weight)
    last = state.changes[:, -1]
    rho = state.curvatures[:, -1]
    scale = torch.where(rho > 0, 1 / (rho * dot(last, last)), 1.0)
    q = q * scale.unsqueeze(1)
    for i, weight in zip(range(count), reversed(weights), strict=True):
        back = state.curvatures[:, i] * dot(state.changes[:, i], q)
        q = q + (weight - back).unsqueeze(1) * state.moves[:, i]
    return q


def _merged(which: Tensor, first: LbfgsState, second: LbfgsState) -> LbfgsState:
    return LbfgsState(
        *(chosen(which, a, b) for a, b in zip(first, second, strict=True))
    )
