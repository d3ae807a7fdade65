"""Gauss-Newton for sums of squares: the linear least-squares step, shortened to fall.

The step d makes |r(x) + J d| least, the shortest such where J loses rank. Source:
J. Nocedal, S. Wright, Numerical Optimization (2006), section 10.3.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from optlayers.interfaces import Kind
from optlayers.programs.minimize import MinimizeProgram
from optlayers.solution import Solution
from optlayers.solvers.iterative import Outcome
from optlayers.solvers.minimize.levenberg_marquardt import linearized
from optlayers.solvers.minimize.options import (
    chosen,
    dot,
    fault_of,
    refuse_without_residuals,
    rounding_of,
    slope_size,
    solved_by,
    times,
)
from optlayers.solvers.root.options import check_options

ARMIJO = 1e-4
# Singular values of J below this share of the largest count as zero.
ZERO_SINGULAR_VALUE = 1e-12
SMALLEST_SHARE = 1e-12


class GaussState(NamedTuple):
    """Where every sample stands.

    Attributes:
        point: x, [B, n].
        residual: r(x), [B, k].
        jacobian: J = dr/dx, [B, k, n].
        move: the full step, [B, n].
        share: the part of it to try next, [B].
        stalled: whether no part of it falls, bool [B].
    """

    point: Tensor
    residual: Tensor
    jacobian: Tensor
    move: Tensor
    share: Tensor
    stalled: Tensor


@dataclass(frozen=True, kw_only=True)
class GaussNewton:
    """For sums of small squares near the solution, where it is quadratic; dense.

    Attributes:
        max_steps: most trial steps, accepted or not.
        tolerance: largest entry of the gradient 2 J'r that counts as zero.

    Raises:
        ParameterError: an option out of its range.
    """

    max_steps: int = 200
    tolerance: float = 1e-8
    kind: ClassVar[Kind] = Kind.MINIMIZE

    def __post_init__(self) -> None:
        check_options(self)

    def refuses(self, program: MinimizeProgram) -> str | None:
        """Objectives that are no sums of squares; constraints and bounds."""
        return refuse_without_residuals(program)

    def solve(self, program: MinimizeProgram, start: Tensor | None = None) -> Solution:
        """Solve every sample; failures are statuses."""
        return solved_by(self, program, start)

    def init(self, program: MinimizeProgram, start: Tensor) -> GaussState:
        """Residuals, their Jacobian and the first step."""
        residual, jacobian = linearized(program, start)
        share = start.new_ones(len(start))
        stalled = torch.zeros_like(share, dtype=torch.bool)
        move = _least_squares(jacobian, residual)
        return GaussState(start, residual, jacobian, move, share, stalled)

    def step(
        self, program: MinimizeProgram, state: GaussState, active: Tensor
    ) -> GaussState:
        """One trial of a share of the step; a new step if any sample accepts it."""
        trial = state.point + state.share.unsqueeze(1) * state.move
        residual, jacobian = linearized(program, trial)
        accepted = active & _falls(state, residual, jacobian)
        share = torch.where(accepted, 1.0, state.share / 2)
        stalled = active & ~accepted & (share < SMALLEST_SHARE)
        state = state._replace(share=share, stalled=stalled)
        if not accepted.any():
            return state
        move = _least_squares(jacobian, residual)
        new = GaussState(trial, residual, jacobian, move, share, stalled)
        merged = (chosen(accepted, a, b) for a, b in zip(new, state, strict=True))
        return GaussState(*merged)

    def outcome(self, state: GaussState) -> Outcome:
        """The last accepted point."""
        value = state.residual.square().sum(1)
        size = slope_size(value, 2 * times(state.jacobian.mT, state.residual))
        return Outcome(state.point, size, fault_of(value, state.stalled))


def _falls(state: GaussState, residual: Tensor, jacobian: Tensor) -> Tensor:
    """Whether |r|^2 falls enough, or within rounding its gradient, bool [B]."""
    before, after = state.residual.square().sum(1), residual.square().sum(1)
    old, new = times(state.jacobian.mT, state.residual), times(jacobian.mT, residual)
    slope = 2 * dot(old, state.move)
    is_enough = after <= before + ARMIJO * state.share * slope
    is_blurred = (after - before).abs() <= rounding_of(before)
    is_enough = torch.where(is_blurred, new.norm(dim=1) < old.norm(dim=1), is_enough)
    return is_enough & after.isfinite() & jacobian.isfinite().all(2).all(1)


def _least_squares(jacobian: Tensor, residual: Tensor) -> Tensor:
    """The shortest d with least |r + J d|, [B, n]; zero where J is not finite."""
    lost = ~jacobian.isfinite().all(2).all(1) | ~residual.isfinite().all(1)
    jacobian = jacobian.masked_fill(lost.view(-1, 1, 1), 0.0)
    residual = residual.masked_fill(lost.unsqueeze(1), 0.0)
    rtol = max(ZERO_SINGULAR_VALUE, 10 * torch.finfo(jacobian.dtype).eps)
    return -times(torch.linalg.pinv(jacobian, rtol=rtol), residual)
