"""A primal-dual interior-point method with a filter line search.

Slacks keep rows and bounds strictly, a barrier parameter per sample goes to zero.
Source: A. Waechter, L. Biegler, On the implementation of an interior-point filter
line-search algorithm for large-scale nonlinear programming (2006).
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from optlayers.interfaces import Kind
from optlayers.programs.minimize import MinimizeProgram
from optlayers.programs.violation import largest_violation
from optlayers.solution import Solution, Status
from optlayers.solvers.iterative import RUNNING, Outcome, iterate, start_or_zero
from optlayers.solvers.minimize.barrier import (
    BarrierError,
    Model,
    NewtonSystem,
    Scales,
    least_squares_multipliers,
    model_at,
    scales_at,
    transposed,
    unscaled,
    values_at,
)
from optlayers.solvers.minimize.barrier_step import BarrierStep, share_to_boundary
from optlayers.solvers.minimize.finish import finished
from optlayers.solvers.minimize.line_filter import Filter, Judge, Merit, search
from optlayers.solvers.minimize.restoration import inside, restored
from optlayers.solvers.root.options import check_options

# The start is moved by this share into the bounds.
PUSH = 1e-2
# The barrier parameter falls to mu^1.5, at most to a fifth, where the error is ten mu.
BARRIER_ERROR, BARRIER_SHARE, BARRIER_POWER = 10.0, 0.2, 1.5
LEAST_BARRIER = 1e-5  # of the tolerance
# Multipliers stay within this factor of mu / s.
PRIMAL_DUAL = 1e10
MOST_FAILURES = 5
UNBOUNDED_BELOW = 1e15
NEARLY_FEASIBLE = 1e-6
# A step below so many roundings of the point is none.
TINY_ROUNDINGS = 10


class InteriorState(NamedTuple):
    """Where every sample stands; all but `scales` and `point` is scaled.

    Attributes:
        x, s: the unknowns [B, n] and the slacks [B, m].
        y, lam: the multipliers, [B, me] and [B, m].
        mu: the barrier parameter, [B].
        model: functions and derivatives at x.
        shift: what the Hessian needed last, [B].
        filter: of the line search.
        failures: how often in a row no step was found, [B].
        scales: of the functions.
        point: z = (x, y, v), not scaled, [B, n + me + m].
        residual: its violation, [B].
        fault: a status where the method gives up, int8 [B].
    """

    x: Tensor
    s: Tensor
    y: Tensor
    lam: Tensor
    mu: Tensor
    model: Model
    shift: Tensor
    filter: Filter
    failures: Tensor
    scales: Scales
    point: Tensor
    residual: Tensor
    fault: Tensor


@dataclass(frozen=True, kw_only=True)
class InteriorPoint:
    """For any smooth constraints; dense, superlinear near a solution.

    Attributes:
        max_steps: most steps per sample.
        tolerance: largest relative entry of the KKT residual that counts as zero.
        barrier: the first barrier parameter.

    Raises:
        ParameterError: an option out of its range.
    """

    max_steps: int = 300
    tolerance: float = 1e-8
    barrier: float = 0.1
    kind: ClassVar[Kind] = Kind.MINIMIZE

    def __post_init__(self) -> None:
        check_options(self, "barrier")

    def refuses(self, program: MinimizeProgram) -> str | None:
        """Nothing: any smooth program will do."""
        return None

    def solve(self, program: MinimizeProgram, start: Tensor | None = None) -> Solution:
        """Solve every sample; failures are statuses."""
        found = iterate(
            self, program, start_or_zero(program, start).detach(),
            tolerance=self.tolerance, max_steps=self.max_steps,
        )  # fmt: skip
        return finished(program, found, self.tolerance)

    def init(self, program: MinimizeProgram, start: Tensor) -> InteriorState:
        """A point within the bounds, with slacks and multipliers."""
        x = inside(program, start, PUSH)
        scales = scales_at(program, x)
        rows = values_at(program, x, scales).rows
        s = _first_slacks(program, rows)
        lam = torch.ones_like(s)
        mu = x.new_full(x.shape[:1], self.barrier)
        y = least_squares_multipliers(program, x, lam, scales)
        model = model_at(program, x, y, lam, scales)
        zero = torch.zeros_like(mu)
        state = InteriorState(
            x, s, y, lam, mu, model, zero, Filter.empty(model.values.violation(s)),
            zero, scales, x, zero, torch.full_like(mu, RUNNING, dtype=torch.int8),
        )  # fmt: skip
        return _measured(program, state)

    def step(
        self, program: MinimizeProgram, state: InteriorState, active: Tensor
    ) -> InteriorState:
        """One step of Newton's method on the barrier problem."""
        state = _with_next_barrier(state, active, LEAST_BARRIER * self.tolerance)
        x, s, y, lam, mu = state[:5]
        system = NewtonSystem.of(
            state.model.hessian, state.model.slopes, lam / s, mu, state.shift
        )
        step = BarrierStep.of(program, state, system)
        merit, move = step.merit, step.move
        is_tiny = _is_tiny(x, move.x) & (merit.violation <= NEARLY_FEASIBLE)
        judge = Judge(state.filter, merit, step.slope)
        found = search(
            judge, step.longest, active & ~is_tiny, step.merit_after,
            step.corrected_merit,
        )  # fmt: skip
        move, length = step.chosen(found)
        is_lost = active & ~is_tiny & ~(length > 0)
        state = state._replace(
            shift=torch.where(system.shift > 0, system.shift, state.shift),
            filter=state.filter.extended(merit, active & found.extends & ~is_lost),
            failures=torch.where(is_lost, state.failures + 1, 0),
        )
        ahead, along = length.unsqueeze(1), share_to_boundary(lam, move.lam, mu)
        new = _moved(
            program, state,
            (x + ahead * move.x, s + ahead * move.s, y + ahead * move.y,
             lam + along.unsqueeze(1) * move.lam),
            active & ~is_lost,
        )  # fmt: skip
        if is_lost.any():
            new = _rescued(program, new, merit, is_lost)
        return _measured(program, _judged(new, is_tiny, self.tolerance))

    def outcome(self, state: InteriorState) -> Outcome:
        """The last point with its violation."""
        return Outcome(state.point, state.residual, state.fault)


def _first_slacks(program: MinimizeProgram, rows: Tensor) -> Tensor:
    """Those of the rows; of rows that are not met by a margin a small one, [B, m]."""
    margin = PUSH * rows.abs().clamp_min(1.0)
    # The start is within the bounds, and stays there if the slacks are exactly theirs.
    margin[:, program.inequality_count :] = 0.0
    s = torch.maximum(-rows, margin)
    return torch.where(s > 0, s, PUSH)


def _with_next_barrier(
    state: InteriorState, active: Tensor, least: float
) -> InteriorState:
    """With a smaller mu, and an empty filter, where the barrier problem is solved."""
    values, slopes, _ = state.model
    mu, changed = state.mu, torch.zeros_like(active)
    error = BarrierError.of(slopes, values, state.s, state.y, state.lam)
    for _ in range(4):
        solved = active & (error.at(mu) <= BARRIER_ERROR * mu) & (mu > least)
        if not solved.any():
            break
        next_mu = torch.minimum(BARRIER_SHARE * mu, mu**BARRIER_POWER)
        mu = torch.where(solved, next_mu.clamp_min(least), mu)
        changed = changed | solved
    if not changed.any():
        return state
    return state._replace(mu=mu, filter=state.filter.cleared(changed))


def _is_tiny(x: Tensor, move: Tensor) -> Tensor:
    """Whether a step is lost in rounding, bool [B]."""
    relative = move.abs() / x.abs().clamp_min(1.0)
    return relative.amax(1) <= TINY_ROUNDINGS * torch.finfo(x.dtype).eps


def _moved(
    program: MinimizeProgram,
    state: InteriorState,
    new: tuple[Tensor, Tensor, Tensor, Tensor],
    chosen: Tensor,
) -> InteriorState:
    """The chosen samples at new x, s, y and lam."""
    rows = chosen.unsqueeze(1)
    pairs = zip(new, state[:4], strict=True)
    x, s, y, lam = (torch.where(rows, one, other) for one, other in pairs)
    center = state.mu.unsqueeze(1) / s
    lam = torch.minimum(torch.maximum(lam, center / PRIMAL_DUAL), center * PRIMAL_DUAL)
    model = model_at(program, x, y, lam, state.scales)
    return state._replace(x=x, s=s, y=y, lam=lam, model=model)


def _rescued(
    program: MinimizeProgram, state: InteriorState, merit: Merit, lost: Tensor
) -> InteriorState:
    """The samples without a step: nearer to their constraints, or with smaller mu."""
    margin = torch.minimum(state.s, 0.1 * state.mu.unsqueeze(1))
    broken = lost & (merit.violation > 1e-2 * state.mu.clamp(1e-8, 1e-2))
    found = restored(program, state.scales, state.x, broken)
    rows = values_at(program, found.x, state.scales).rows
    s = torch.maximum(-rows, margin)
    lam = state.mu.unsqueeze(1) / s
    y = least_squares_multipliers(program, found.x, lam, state.scales)
    state = state._replace(
        filter=state.filter.cleared(lost),
        mu=torch.where(lost & ~broken, BARRIER_SHARE * state.mu, state.mu),
        fault=state.fault.masked_fill(found.infeasible, int(Status.INFEASIBLE)),
    )
    return _moved(program, state, (found.x, s, y, lam), broken & found.improved)


def _judged(state: InteriorState, tiny: Tensor, tolerance: float) -> InteriorState:
    """With a fault where nothing more is to be hoped for."""
    least = LEAST_BARRIER * tolerance
    values, slopes, _ = state.model
    error = BarrierError.of(slopes, values, state.s, state.y, state.lam).at(state.mu)
    is_done = (state.mu <= least) & ((error <= BARRIER_ERROR * least) | tiny)
    is_stuck = (state.failures >= MOST_FAILURES) | is_done
    objective = values.objective / state.scales.objective
    is_met = values.violation(state.s) <= NEARLY_FEASIBLE
    falls = (objective < -UNBOUNDED_BELOW) & is_met
    fault, open_ = state.fault, state.fault == RUNNING
    fault = fault.masked_fill(open_ & is_stuck, int(Status.STALLED))
    return state._replace(fault=fault.masked_fill(falls, int(Status.UNBOUNDED)))


def _measured(program: MinimizeProgram, state: InteriorState) -> InteriorState:
    """With the KKT point and its violation, from the functions that are known here."""
    (values, slopes, _), (a, b, c, slack) = state.model, state.scales
    y, lam = unscaled(state.scales, state.y, state.lam)
    point = program.point(state.x, y, lam, state.s / c)
    _, y, lam, s = program.split(point)
    pulled = transposed(slopes.equalities, y / b) + transposed(slopes.rows, lam / c)
    residual = largest_violation(
        values.objective, slopes.gradient / a.unsqueeze(1), pulled,
        values.equalities / b, values.rows / c + slack, s,
    )  # fmt: skip
    return state._replace(point=point, residual=residual)
