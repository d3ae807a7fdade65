"""Gauss-Newton for sums of squares or losses: least-squares steps, shortened to fall.

The step d makes |A d + b| least, the shortest such where A loses rank. Source:
J. Nocedal, S. Wright, Numerical Optimization (2006), section 10.3.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from optlayers.interfaces import Kind
from optlayers.linalg.dense import times
from optlayers.programs.minimize import MinimizeProgram
from optlayers.programs.squares import local_model
from optlayers.solution import Solution
from optlayers.solvers.iterative import Outcome
from optlayers.solvers.minimize.options import (
    chosen,
    dot,
    fault_of,
    refuse_constraints,
    refuse_without_residuals,
    rounding_of,
    slope_size,
    solved_by,
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
        value: f(x), [B].
        right: b of the `LocalModel` there, [B, k].
        matrix: A, [B, k, n].
        move: the full step, [B, n].
        share: the part of it to try next, [B].
        stalled: whether no part of it falls, bool [B].
    """

    point: Tensor
    value: Tensor
    right: Tensor
    matrix: Tensor
    move: Tensor
    share: Tensor
    stalled: Tensor


@dataclass(frozen=True, kw_only=True)
class GaussNewton:
    """For sums of small squares near the solution, where it is quadratic; dense.

    Attributes:
        max_steps: most trial steps, accepted or not.
        tolerance: largest entry of the gradient that counts as zero, relative to the
            terms it is the sum of where these are above 1.

    Raises:
        ParameterError: an option out of its range.
    """

    max_steps: int = 200
    tolerance: float = 1e-8
    kind: ClassVar[Kind] = Kind.MINIMIZE

    def __post_init__(self) -> None:
        check_options(self)

    def refuses(self, program: MinimizeProgram) -> str | None:
        """Objectives that are no sums of squares or losses; constraints and bounds."""
        return refuse_without_residuals(program) or refuse_constraints(program)

    def solve(self, program: MinimizeProgram, start: Tensor | None = None) -> Solution:
        """Solve every sample; failures are statuses."""
        return solved_by(self, program, start)

    def init(self, program: MinimizeProgram, start: Tensor) -> GaussState:
        """The local model and the first step."""
        share = start.new_ones(len(start))
        stalled = torch.zeros_like(share, dtype=torch.bool)
        return _state(program, start, share, stalled)

    def step(
        self, program: MinimizeProgram, state: GaussState, active: Tensor
    ) -> GaussState:
        """One trial of a share of the step; a new step if any sample accepts it."""
        trial = state.point + state.share.unsqueeze(1) * state.move
        new = _state(program, trial, torch.ones_like(state.share), state.stalled)
        accepted = active & _falls(state, new)
        share = torch.where(accepted, 1.0, state.share / 2)
        stalled = active & ~accepted & (share < SMALLEST_SHARE)
        merged = (chosen(accepted, a, b) for a, b in zip(new, state, strict=True))
        return GaussState(*merged)._replace(share=share, stalled=stalled)

    def outcome(self, state: GaussState) -> Outcome:
        """The last accepted point."""
        slope = 2 * times(state.matrix.mT, state.right)
        terms = 2 * times(state.matrix.mT.abs(), state.right.abs()).clamp_min(0.5)
        size = slope_size(state.value, slope / terms)
        return Outcome(state.point, size, fault_of(state.value, state.stalled))


def _state(
    program: MinimizeProgram, point: Tensor, share: Tensor, stalled: Tensor
) -> GaussState:
    # Dense, whatever is known of the pattern.
    found = local_model(replace(program, pattern=None), point)
    move = _least_squares(found.matrix, found.right)
    return GaussState(
        point, found.value, found.right, found.matrix, move, share, stalled
    )


def _falls(old: GaussState, new: GaussState) -> Tensor:
    """Whether f falls enough, or within rounding its gradient, bool [B]."""
    before, after = times(old.matrix.mT, old.right), times(new.matrix.mT, new.right)
    bound = old.value + ARMIJO * old.share * 2 * dot(before, old.move)
    is_blurred = (new.value - old.value).abs() <= rounding_of(old.value)
    is_shorter = after.norm(dim=1) < before.norm(dim=1)
    is_enough = torch.where(is_blurred, is_shorter, new.value <= bound)
    return is_enough & new.value.isfinite() & new.matrix.isfinite().all(2).all(1)


def _least_squares(jacobian: Tensor, residual: Tensor) -> Tensor:
    """The shortest d with least |A d + b|, [B, n]; zero where J is not finite."""
    lost = ~jacobian.isfinite().all(2).all(1) | ~residual.isfinite().all(1)
    jacobian = jacobian.masked_fill(lost.view(-1, 1, 1), 0.0)
    residual = residual.masked_fill(lost.unsqueeze(1), 0.0)
    rtol = max(ZERO_SINGULAR_VALUE, 10 * torch.finfo(jacobian.dtype).eps)
    return -times(torch.linalg.pinv(jacobian, rtol=rtol), residual)
