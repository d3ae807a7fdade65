"""BFGS: steps by an inverse Hessian that is learned from the gradients met.

Source: J. Nocedal, S. Wright, Numerical Optimization (2006), algorithm 6.1 and
equation 6.20; the line search is that of `lbfgs`.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from optlayers.interfaces import Kind
from optlayers.linalg.dense import times
from optlayers.programs.minimize import MinimizeProgram
from optlayers.solution import Solution
from optlayers.solvers.iterative import Outcome
from optlayers.solvers.minimize.options import (
    chosen,
    dot,
    fault_of,
    refuse_constraints,
    slope_size,
    solved_by,
)
from optlayers.solvers.minimize.wolfe import MOST_TRIALS, Search, judged, narrowed
from optlayers.solvers.root.options import check_options


class BfgsState(NamedTuple):
    """Where every sample stands, in the middle of its line search.

    Attributes:
        search: the line search from the last accepted point.
        inverse: of the Hessian, as learned, [B, n, n].
        fresh: whether it is the identity still, so that the step has no length, [B].
        stalled: whether steepest descent has failed too, bool [B].
    """

    search: Search
    inverse: Tensor
    fresh: Tensor
    stalled: Tensor


@dataclass(frozen=True, kw_only=True)
class Bfgs:
    """Gradients only and a dense matrix; fastest where few unknowns have a cheap f.

    Attributes:
        max_steps: most evaluations, one a trial of a line search.
        tolerance: largest entry of the gradient that counts as zero.

    Raises:
        ParameterError: an option out of its range.
    """

    max_steps: int = 2000
    tolerance: float = 1e-8
    kind: ClassVar[Kind] = Kind.MINIMIZE

    def __post_init__(self) -> None:
        check_options(self)

    def refuses(self, program: MinimizeProgram) -> str | None:
        """Constraints and bounds."""
        return refuse_constraints(program)

    def solve(self, program: MinimizeProgram, start: Tensor | None = None) -> Solution:
        """Solve every sample; failures are statuses."""
        return solved_by(self, program, start)

    def init(self, program: MinimizeProgram, start: Tensor) -> BfgsState:
        """Steepest descent with a first trial of length one at most."""
        value, gradient = program.value_and_gradient(start)
        unit = torch.eye(start.shape[1], dtype=start.dtype, device=start.device)
        fresh = torch.ones_like(value, dtype=torch.bool)
        search = Search.along(start, value, gradient, -gradient, fresh)
        inverse = unit.repeat(len(start), 1, 1)
        return BfgsState(search, inverse, fresh, torch.zeros_like(fresh))

    def step(
        self, program: MinimizeProgram, state: BfgsState, active: Tensor
    ) -> BfgsState:
        """One trial of each sample's line search."""
        search = state.search
        trial = search.trial()
        value, gradient = program.value_and_gradient(trial)
        is_long, is_short = judged(search, value, gradient)
        accepted = active & ~(is_long | is_short)
        inverse, fresh = _learned(state, trial, gradient, accepted)
        # Rows that are not active may become what they like.
        is_pending = active & ~accepted
        if not is_pending.any():
            return _searching(trial, value, gradient, inverse, fresh, state.stalled)
        longer = narrowed(search, is_long, is_short)
        lost = is_pending & (longer.trials >= MOST_TRIALS)
        stalled = lost & fresh
        restarted = lost & ~fresh
        # A search that has failed begins again at its point, as steepest descent.
        moved = _searching(
            chosen(accepted, trial, search.point),
            torch.where(accepted, value, search.value),
            chosen(accepted, gradient, search.gradient),
            inverse, fresh | restarted, stalled,
        )  # fmt: skip
        merged = moved.search.where(accepted | restarted, longer)
        return moved._replace(search=merged)

    def outcome(self, state: BfgsState) -> Outcome:
        """The last accepted point."""
        search = state.search
        size = slope_size(search.value, search.gradient)
        return Outcome(search.point, size, fault_of(search.value, state.stalled))


def _learned(
    state: BfgsState, trial: Tensor, gradient: Tensor, accepted: Tensor
) -> tuple[Tensor, Tensor]:
    """The inverse Hessian after accepted moves, and where it is the identity still."""
    search, inverse, fresh = state.search, state.inverse, state.fresh
    s, y = trial - search.point, gradient - search.gradient
    product, change = dot(s, y), dot(y, y)
    least = torch.finfo(s.dtype).eps * (dot(s, s) * change).sqrt()
    curved = accepted & (product > least)
    rho = (1 / product).unsqueeze(1)
    if not curved.all():
        # Others may hold NaN, which no factor of zero removes.
        column = curved.unsqueeze(1)
        s, y = torch.where(column, s, 0.0), torch.where(column, y, 0.0)
        rho = torch.where(column, rho, 0.0)
    first = curved & fresh
    if first.any():
        unit = torch.eye(s.shape[1], dtype=s.dtype, device=s.device)
        scaled = (product / change).view(-1, 1, 1) * unit
        inverse = torch.where(first.view(-1, 1, 1), scaled, inverse)
    Hy = times(inverse, y)
    curvature = (y * Hy).sum(1, keepdim=True)
    w = rho * (Hy - (0.5 + 0.5 * rho * curvature) * s)
    # H - w s' - s w' by entries: as small products, these take four times as long.
    inverse = torch.addcmul(inverse, w.unsqueeze(2), s.unsqueeze(1), value=-1)
    inverse = inverse.addcmul_(s.unsqueeze(2), w.unsqueeze(1), value=-1)
    return inverse, fresh & ~curved


def _searching(
    point: Tensor,
    value: Tensor,
    gradient: Tensor,
    inverse: Tensor,
    fresh: Tensor,
    stalled: Tensor,
) -> BfgsState:
    """The start of a line search along the quasi-Newton direction."""
    direction = -times(inverse, gradient)
    lost = ~(dot(direction, gradient) < 0) | fresh
    if lost.any():
        # Rounding has spoiled the matrix, or there is none yet.
        unit = torch.eye(point.shape[1], dtype=point.dtype, device=point.device)
        inverse = torch.where(lost.view(-1, 1, 1), unit, inverse)
        direction = torch.where(lost.unsqueeze(1), -gradient, direction)
    search = Search.along(point, value, gradient, direction, lost)
    return BfgsState(search, inverse, lost, stalled)
