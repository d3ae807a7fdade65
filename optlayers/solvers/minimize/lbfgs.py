"""Limited-memory BFGS: steps from the last pairs of moves and gradient changes.

Source: J. Nocedal, S. Wright, Numerical Optimization (2006), algorithm 7.4.
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
    slope_size,
    solved_by,
)
from optlayers.solvers.minimize.wolfe import MOST_TRIALS, Search, judged, narrowed
from optlayers.solvers.root.options import check_options


class LbfgsState(NamedTuple):
    """Where every sample stands, in the middle of its line search.

    Attributes:
        search: the line search from the last accepted point.
        moves, changes: the memory, oldest first, [B, k, n]; zero where unused.
        curvatures: 1 / (move' change), [B, k]; zero where unused.
        stalled: whether steepest descent has failed too, bool [B].
    """

    search: Search
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
        is_new = torch.ones_like(value, dtype=torch.bool)
        search = Search.along(start, value, gradient, -gradient, is_new)
        memory = gradient.new_zeros(len(start), self.memory, start.shape[1])
        return LbfgsState(search, memory, memory, memory.sum(2), ~is_new)

    def step(
        self, program: MinimizeProgram, state: LbfgsState, active: Tensor
    ) -> LbfgsState:
        """One trial of each sample's line search."""
        search = state.search
        trial = search.trial()
        value, gradient = program.value_and_gradient(trial)
        is_long, is_short = judged(search, value, gradient)
        accepted = active & ~(is_long | is_short)
        # Rows that are not active may become what they like.
        is_pending = active & ~accepted
        moved = _remembered(state, trial, gradient, ~is_pending)
        if not is_pending.any():
            return _searching(moved, trial, value, gradient)
        longer = narrowed(search, is_long, is_short)
        lost = is_pending & (longer.trials >= MOST_TRIALS)
        # Without memory the direction was steepest descent already.
        fresh = (moved.curvatures == 0).all(1)
        restarted = lost & ~fresh
        # A search that has failed begins again at its point, without a memory.
        kept = torch.where(restarted.unsqueeze(1), 0.0, moved.curvatures)
        moved = _searching(
            moved._replace(curvatures=kept, stalled=lost & fresh),
            chosen(accepted, trial, search.point),
            torch.where(accepted, value, search.value),
            chosen(accepted, gradient, search.gradient),
        )
        merged = moved.search.where(accepted | restarted, longer)
        return moved._replace(search=merged)

    def outcome(self, state: LbfgsState) -> Outcome:
        """The last accepted point."""
        search = state.search
        size = slope_size(search.value, search.gradient)
        return Outcome(search.point, size, fault_of(search.value, state.stalled))


def _remembered(
    state: LbfgsState, point: Tensor, gradient: Tensor, accepted: Tensor
) -> LbfgsState:
    """The state with one more pair in the memory of the samples that accept it."""
    move, change = point - state.search.point, gradient - state.search.gradient
    product = dot(move, change)
    length = (dot(move, move) * dot(change, change)).sqrt()
    is_curved = product > torch.finfo(move.dtype).eps * length
    curvature = torch.where(is_curved, 1 / product, 0.0)
    # A pair that is not curved has no weight, and must not bring NaN or infinity.
    column = is_curved.unsqueeze(1)
    move, change = torch.where(column, move, 0.0), torch.where(column, change, 0.0)
    moves = torch.cat([state.moves[:, 1:], move.unsqueeze(1)], 1)
    changes = torch.cat([state.changes[:, 1:], change.unsqueeze(1)], 1)
    curvatures = torch.cat([state.curvatures[:, 1:], curvature.unsqueeze(1)], 1)
    if not accepted.all():
        moves = chosen(accepted, moves, state.moves)
        changes = chosen(accepted, changes, state.changes)
        curvatures = chosen(accepted, curvatures, state.curvatures)
    return state._replace(moves=moves, changes=changes, curvatures=curvatures)


def _searching(
    state: LbfgsState, point: Tensor, value: Tensor, gradient: Tensor
) -> LbfgsState:
    """The start of a line search along the two-loop direction."""
    direction = -_two_loops(state, gradient)
    steepest = (state.curvatures == 0).all(1) | ~(dot(direction, gradient) < 0)
    if steepest.any():
        direction = chosen(steepest, -gradient, direction)
        kept = state.curvatures.masked_fill(steepest.unsqueeze(1), 0.0)
        state = state._replace(curvatures=kept)
    search = Search.along(point, value, gradient, direction, steepest)
    return state._replace(search=search)


def _two_loops(state: LbfgsState, gradient: Tensor) -> Tensor:
    """The inverse Hessian of the memory times the gradient, [B, n]."""
    q = gradient
    moves, changes = state.moves.unbind(1), state.changes.unbind(1)
    curvatures = state.curvatures.unsqueeze(2).unbind(1)
    pairs = list(zip(moves, changes, curvatures, strict=True))
    weights = []
    for move, change, rho in reversed(pairs):
        weight = rho * (move * q).sum(1, keepdim=True)
        q = torch.addcmul(q, weight, change, value=-1)
        weights.append(weight)
    _, last, rho = pairs[-1]
    scale = 1 / (rho * (last * last).sum(1, keepdim=True))
    q = q * torch.where(rho > 0, scale, 1.0)
    for (move, change, rho), weight in zip(pairs, reversed(weights), strict=True):
        back = rho * (change * q).sum(1, keepdim=True)
        q = torch.addcmul(q, weight - back, move)
    return q
