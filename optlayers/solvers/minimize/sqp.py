"""Sequential quadratic programming with damped BFGS matrices.

Each step is the solution of a convex quadratic program; an l1 merit function says how
much of it to take. Source: J. Nocedal, S. Wright, Numerical Optimization (2006),
algorithm 18.3, procedure 18.2 and section 18.3 on second-order correction.
"""

from dataclasses import dataclass
from functools import cache
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from optlayers import registry
from optlayers.interfaces import Kind, Solver
from optlayers.linalg.dense import times
from optlayers.programs.minimize import MinimizeProgram
from optlayers.solution import Solution, Status
from optlayers.solvers.iterative import (
    RUNNING,
    Outcome,
    iterate,
    size_of,
    start_or_zero,
)
from optlayers.solvers.minimize.barrier import (
    Scales,
    Slopes,
    Values,
    scales_at,
    slopes_at,
    stationarity,
    unscaled,
    values_at,
)
from optlayers.solvers.minimize.finish import finished
from optlayers.solvers.minimize.restoration import Restored, inside, restored
from optlayers.solvers.minimize.subproblem import QuadraticStep, quadratic_step
from optlayers.solvers.root.options import check_options

ARMIJO = 1e-4
MOST_HALVINGS = 30
ROUNDINGS = 10
# Powell's damping keeps s'y above this share of s'Bs.
DAMPING = 0.2
# The penalty stays above the largest multiplier by this factor, and falls slowly:
# M. Powell, A fast algorithm for nonlinearly constrained optimization (1978), eq. 4.6.
PENALTY_MARGIN = 1.5
UNBOUNDED_BELOW = 1e15
# A violation above this stays if a step lowers no more than that share of it, and if
# its slope, of multipliers scaled to 1, is no more than this.
VIOLATED, HOPELESS, FLAT = 1e-6, 1e-6, 1e-3
# So often may the search begin again nearer to the constraints, where it lowers the
# sum of their violations no more, but the sum of squares can be lowered to that share.
MOST_RESTORED, RESTORED_SHARE = 3, 1e-3
# Near a solution a residual that has not fallen to that share of its least for so many
# steps will not: rounding, or multipliers that are not unique. The last polish may do.
NEAR, FALLEN, MOST_IDLE = 1e-5, 0.5, 15
# A start at which a function is not finite is moved by this share into the bounds.
PUSH = 1e-2


class SqpState(NamedTuple):
    """Where every sample stands, scaled.

    Attributes:
        x: [B, n].
        values, slopes: of the functions there.
        B: the approximate Hessian of the Lagrangian, [B, n, n].
        penalty: nu of the merit f + nu (|h|_1 + |max(r, 0)|_1), [B].
        is_fresh: whether B has not learned anything yet, bool [B].
        restored: how often the search has begun again, [B].
        least, idle: the least residual, and for how many steps it was not lowered, [B].
        scales: of the functions.
        point: z = (x, y, v), not scaled, [B, n + me + m].
        residual: its violation, [B].
        fault: a status where the method gives up, int8 [B].
    """

    x: Tensor
    values: Values
    slopes: Slopes
    B: Tensor
    penalty: Tensor
    is_fresh: Tensor
    restored: Tensor
    least: Tensor
    idle: Tensor
    scales: Scales
    point: Tensor
    residual: Tensor
    fault: Tensor


@dataclass(frozen=True, kw_only=True)
class Sqp:
    """A dense quadratic program per sample and step; Hessians only in the last polish.

    Attributes:
        max_steps: most steps per sample.
        tolerance: largest relative entry of the KKT residual that counts as zero.
        quadratic_solver: a registered name of kind "convex".

    Raises:
        ParameterError: an option out of its range.
    """

    max_steps: int = 300
    tolerance: float = 1e-8
    quadratic_solver: str = "daqp"
    kind: ClassVar[Kind] = Kind.MINIMIZE

    def __post_init__(self) -> None:
        check_options(self)

    def refuses(self, program: MinimizeProgram) -> str | None:
        """One sentence on why this program cannot be solved, or None."""
        if program.size == 0:
            return "needs at least one unknown."
        return None

    def solve(self, program: MinimizeProgram, start: Tensor | None = None) -> Solution:
        """Solve every sample; failures are statuses."""
        found = iterate(
            self, program, start_or_zero(program, start).detach(),
            tolerance=self.tolerance, max_steps=self.max_steps,
        )  # fmt: skip
        return finished(program, found, self.tolerance)

    def init(self, program: MinimizeProgram, start: Tensor) -> SqpState:
        """The start, an identity for the Hessian, no multipliers."""
        finite = values_at(program, start, scales_at(program, start)).is_finite
        start = torch.where(finite.unsqueeze(1), start, inside(program, start, PUSH))
        scales = scales_at(program, start)
        values = values_at(program, start, scales)
        slopes = slopes_at(program, start, scales)
        y = torch.zeros_like(values.equalities)
        point = program.point_at(start, y, torch.zeros_like(values.rows))
        fault = torch.full_like(values.objective, RUNNING, dtype=torch.int8)
        zero = torch.zeros_like(values.objective)
        return SqpState(
            start, values, slopes, _identity(start), torch.ones_like(values.objective),
            torch.ones_like(fault, dtype=torch.bool), zero, zero + torch.inf, zero,
            scales, point, program.violation(point), fault,
        )  # fmt: skip

    def step(
        self, program: MinimizeProgram, state: SqpState, active: Tensor
    ) -> SqpState:
        """One quadratic program, one line search, one update."""
        solver = _convex_solver(self.quadratic_solver)
        found = quadratic_step(solver, state.B, state.values, state.slopes, active)
        state, elsewhere = _unmet(program, state, found, active)
        largest = size_of(torch.cat([found.y, found.lam], 1))
        needed = PENALTY_MARGIN * largest
        penalty = torch.maximum(needed, (state.penalty + needed) / 2)
        begins = elsewhere.improved
        penalty = torch.where(begins, 1.0, penalty)
        state = state._replace(penalty=torch.where(found.ok, penalty, state.penalty))
        trying = active & found.ok & (state.fault == RUNNING) & ~begins
        move, length = _searched(program, solver, state, found, trying)
        taken = trying & (length > 0)
        x = torch.where(
            taken.unsqueeze(1), state.x + length.unsqueeze(1) * move, state.x
        )
        x = torch.where(begins.unsqueeze(1), elsewhere.x, x)
        new = _moved(program, state, x, found, taken)
        # Without a step: a fresh matrix; with a fresh one, there is nothing to do.
        lost = active & ~taken & (state.fault == RUNNING)
        falls = new.residual <= FALLEN * state.least
        idle = torch.where(falls | (new.residual > NEAR), 0, state.idle + 1)
        least = torch.where(falls, new.residual, state.least)
        is_idle = (idle > MOST_IDLE) & (new.fault == RUNNING)
        stalled = (lost & state.is_fresh & ~begins) | is_idle
        B = torch.where(lost.view(-1, 1, 1), _identity(x), new.B)
        return new._replace(
            B=B, is_fresh=new.is_fresh | lost, least=least, idle=idle,
            fault=new.fault.masked_fill(stalled, int(Status.STALLED)),
        )  # fmt: skip

    def outcome(self, state: SqpState) -> Outcome:
        """The last point with its violation."""
        return Outcome(state.point, state.residual, state.fault)


@cache
def _convex_solver(name: str) -> Solver:
    return registry.create("convex", name)


def _identity(x: Tensor) -> Tensor:
    n = x.shape[1]
    return torch.eye(n, dtype=x.dtype, device=x.device).expand(len(x), -1, -1)


def _missed(values: Values) -> Tensor:
    """|h|_1 + |max(r, 0)|_1, [B]."""
    return values.equalities.abs().sum(1) + values.rows.clamp_min(0.0).sum(1)


def _unmet(
    program: MinimizeProgram, state: SqpState, found: QuadraticStep, active: Tensor
) -> tuple[SqpState, Restored]:
    """What to do where no step lowers the violation: begin elsewhere, or give up.

    Returns:
        The state, INFEASIBLE or UNBOUNDED where that is found, and where to begin
        again, in its `improved` samples.
    """
    missed = _missed(state.values)
    hopeless = (found.missed >= (1 - HOPELESS) * missed) & (missed > VIOLATED)
    pull = stationarity(state.slopes, found.y, found.lam) - state.slopes.gradient
    flat = size_of(pull) <= FLAT * size_of(torch.cat([found.y, found.lam], 1))
    stuck = active & found.ok & hopeless & flat
    objective = state.values.objective / state.scales.objective
    falls = active & (objective < -UNBOUNDED_BELOW) & (missed <= VIOLATED)
    fault = state.fault.masked_fill(falls, int(Status.UNBOUNDED))
    none = torch.zeros_like(stuck)
    elsewhere = Restored(state.x, none, none)
    if stuck.any():
        # The sum of absolute values may have a minimum where that of squares has none.
        trying = stuck & (state.restored < MOST_RESTORED)
        elsewhere = restored(program, state.scales, state.x, trying, RESTORED_SHARE)
        again = trying & elsewhere.improved & ~elsewhere.infeasible
        elsewhere = elsewhere._replace(improved=again)
        fault = fault.masked_fill(stuck & ~again, int(Status.INFEASIBLE))
    count = state.restored + elsewhere.improved
    return state._replace(fault=fault, restored=count), elsewhere


def _searched(
    program: MinimizeProgram,
    solver: Solver,
    state: SqpState,
    found: QuadraticStep,
    trying: Tensor,
) -> tuple[Tensor, Tensor]:
    """The step to take and the share of it, [B, n] and [B]; 0 where none is good."""
    x, values, slopes = state.x, state.values, state.slopes
    merit = values.objective + state.penalty * _missed(values)
    slope = (slopes.gradient * found.d).sum(1)
    slope = slope - state.penalty * (_missed(values) - found.missed)
    slack = ROUNDINGS * torch.finfo(x.dtype).eps * merit.abs()

    def accepted(at: Values, length: Tensor) -> Tensor:
        trial = at.objective + state.penalty * _missed(at)
        return trial <= merit + ARMIJO * length * slope.clamp_max(0.0) + slack

    move, length = found.d, torch.ones_like(merit)
    pending = trying
    for count in range(MOST_HALVINGS):
        at = values_at(program, x + length.unsqueeze(1) * move, state.scales)
        pending = pending & ~accepted(at, length)
        if not pending.any():
            break
        if count == 0:
            other = _corrected(solver, state, found.d, at, pending)
            at = values_at(program, x + other, state.scales)
            better = pending & accepted(at, length)
            move = torch.where(better.unsqueeze(1), other, move)
            pending = pending & ~better
        length = torch.where(pending, length / 2, length)
    return move, length.masked_fill(pending, 0.0)


def _corrected(
    solver: Solver, state: SqpState, d: Tensor, at: Values, which: Tensor
) -> Tensor:
    """The step of constraints that have the values of x + d at d, [B, n]."""
    shifted = Values(
        at.objective,
        at.equalities - times(state.slopes.equalities, d),
        at.rows - times(state.slopes.rows, d),
    )
    again = quadratic_step(solver, state.B, shifted, state.slopes, which)
    return torch.where(again.ok.unsqueeze(1), again.d, d)


def _moved(
    program: MinimizeProgram,
    state: SqpState,
    x: Tensor,
    found: QuadraticStep,
    taken: Tensor,
) -> SqpState:
    """Functions at the new point, the updated matrix, and the measured violation."""
    values = values_at(program, x, state.scales)
    slopes = slopes_at(program, x, state.scales)
    change = stationarity(slopes, found.y, found.lam) - stationarity(
        state.slopes, found.y, found.lam
    )
    B = _updated(state.B, x - state.x, change, state.is_fresh)
    point = program.point_at(x, *unscaled(state.scales, found.y, found.lam))
    point = torch.where(found.ok.unsqueeze(1), point, state.point)
    return state._replace(
        x=x, values=values, slopes=slopes,
        B=torch.where(taken.view(-1, 1, 1), B, state.B),
        is_fresh=state.is_fresh & ~taken,
        point=point, residual=program.violation(point),
    )  # fmt: skip


def _updated(B: Tensor, s: Tensor, y: Tensor, is_fresh: Tensor) -> Tensor:
    """Damped BFGS, procedure 18.2; a fresh matrix first gets the size of y."""
    tiny = torch.finfo(s.dtype).tiny
    sy, yy, ss = (s * y).sum(1), y.square().sum(1), s.square().sum(1)
    size = torch.where(
        sy > 0, yy / sy.clamp_min(tiny), (yy / ss.clamp_min(tiny)).sqrt()
    )
    size = torch.where(is_fresh, size.clamp(1e-4, 1e4), 1.0)
    B = B * size.view(-1, 1, 1)
    Bs = times(B, s)
    sBs = (s * Bs).sum(1)
    damped = (1 - DAMPING) * sBs / (sBs - sy)
    theta = torch.where(sy >= DAMPING * sBs, 1.0, damped).unsqueeze(1)
    r = theta * y + (1 - theta) * Bs
    sr = (s * r).sum(1).clamp_min(tiny)
    less = Bs.unsqueeze(2) * Bs.unsqueeze(1) / sBs.clamp_min(tiny).view(-1, 1, 1)
    new = B - less + r.unsqueeze(2) * r.unsqueeze(1) / sr.view(-1, 1, 1)
    usable = new.isfinite().flatten(1).all(1) & (sBs > tiny)
    return torch.where(usable.view(-1, 1, 1), (new + new.mT) / 2, B)
