"""The augmented Lagrangian method of Powell, Hestenes and Rockafellar.

Each step minimizes f + rho/2 (|h + y/rho|^2 + |max(r + lam/rho, 0)|^2) without
constraints, then learns y and lam from it. Source: E. Birgin, J. Martinez, Practical
Augmented Lagrangian Methods for Constrained Optimization (2014), algorithm 4.1.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from optlayers import registry
from optlayers.errors import ParameterError
from optlayers.interfaces import Kind, Solver
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
    Values,
    scales_at,
    unscaled,
    values_at,
)
from optlayers.solvers.minimize.finish import finished, polish
from optlayers.solvers.minimize.options import chosen
from optlayers.solvers.minimize.restoration import inside, restored
from optlayers.solvers.root.options import check_options

# The first penalty balances f and the violation, within these.
LEAST_PENALTY, FIRST_PENALTY = 1e-1, 1e1
# Above this the constraints are looked at alone.
MOST_PENALTY = 1e8
# The violation is to fall to this share, else the penalty grows by this factor.
ENOUGH, GROWTH = 0.5, 10.0
# Multipliers beyond this would outweigh every penalty.
MOST_MULTIPLIER = 1e8
# The gradient left by a minimization, of functions scaled to gradients of 100.
INNER_TOLERANCE = 1e-7
UNBOUNDED_BELOW, NEARLY_FEASIBLE = 1e15, 1e-6
# A start at which a function is not finite is moved by this share into the bounds.
PUSH = 1e-2


class AugmentedState(NamedTuple):
    """Where every sample stands; multipliers, penalty and violation are scaled.

    Attributes:
        x: [B, n].
        y, lam: multipliers of equalities [B, me] and of rows [B, m].
        penalty: rho, [B].
        missed: the violation of the constraints and of complementarity, [B].
        scales: of the functions.
        point: z = (x, y, v), not scaled, [B, n + me + m].
        residual: its violation, [B].
        fault: a status where the method gives up, int8 [B].
    """

    x: Tensor
    y: Tensor
    lam: Tensor
    penalty: Tensor
    missed: Tensor
    scales: Scales
    point: Tensor
    residual: Tensor
    fault: Tensor


@dataclass(frozen=True, kw_only=True)
class AugmentedLagrangian:
    """Minimizes without constraints, again and again; bounds are constraints, too.

    Attributes:
        max_steps: most minimizations per sample.
        tolerance: largest relative entry of the KKT residual that counts as zero.
        minimizer: a registered name of kind "minimize" that needs no constraints:
            "newton" for few unknowns, "lbfgs" for many.

    Raises:
        ParameterError: an option out of its range.
    """

    max_steps: int = 60
    tolerance: float = 1e-8
    minimizer: str = "newton"
    kind: ClassVar[Kind] = Kind.MINIMIZE

    def __post_init__(self) -> None:
        check_options(self)
        if self.minimizer == "augmented_lagrangian":
            raise ParameterError(
                "AugmentedLagrangian(minimizer='augmented_lagrangian') would call "
                'itself; give a method without constraints, such as "newton".'
            )
        self._minimizer()

    def refuses(self, program: MinimizeProgram) -> str | None:
        """One sentence on why this program cannot be solved, or None."""
        if program.size == 0:
            return "needs at least one unknown."
        free = MinimizeProgram(program.objective, program.batch_size, program.size)
        return self._minimizer().refuses(free)

    def solve(self, program: MinimizeProgram, start: Tensor | None = None) -> Solution:
        """Solve every sample; failures are statuses."""
        found = iterate(
            self, program, start_or_zero(program, start).detach(),
            tolerance=self.tolerance, max_steps=self.max_steps,
        )  # fmt: skip
        return finished(program, found, self.tolerance)

    def init(self, program: MinimizeProgram, start: Tensor) -> AugmentedState:
        """The start without multipliers, and a penalty of the size of f."""
        finite = values_at(program, start, scales_at(program, start)).is_finite
        x = torch.where(finite.unsqueeze(1), start, inside(program, start, PUSH))
        scales = scales_at(program, x)
        values = values_at(program, x, scales)
        y, lam = torch.zeros_like(values.equalities), torch.zeros_like(values.rows)
        squares = values.equalities.square().sum(1)
        squares = squares + values.rows.clamp_min(0.0).square().sum(1)
        size = values.objective.abs().clamp_min(1.0)
        penalty = (2 * size / squares).nan_to_num(nan=FIRST_PENALTY)
        point = program.point_at(x, y, lam)
        return AugmentedState(
            x, y, lam, penalty.clamp(LEAST_PENALTY, FIRST_PENALTY),
            torch.full_like(size, torch.inf), scales, point, program.violation(point),
            torch.full_like(size, RUNNING, dtype=torch.int8),
        )  # fmt: skip

    def step(
        self, program: MinimizeProgram, state: AugmentedState, active: Tensor
    ) -> AugmentedState:
        """One minimization, new multipliers, and a penalty that is large enough."""
        found = self._minimizer().solve(_augmented(program, state, active), state.x)
        values = values_at(program, found.value, state.scales)
        new = _learned(program, state, found.value, values)
        usable = active & values.is_finite & (found.status != Status.UNBOUNDED)
        enough = usable & (new.missed <= ENOUGH * state.missed)
        met = size_of(torch.cat([values.equalities, values.rows.clamp_min(0)], 1))
        objective = values.objective / state.scales.objective
        falls = active & (objective < -UNBOUNDED_BELOW) & (met <= NEARLY_FEASIBLE)
        state = _merged(usable, new, state)
        state = state._replace(
            penalty=torch.where(enough, state.penalty, GROWTH * state.penalty),
            fault=state.fault.masked_fill(falls, int(Status.UNBOUNDED)),
        )
        return _restored(program, state, active)

    def outcome(self, state: AugmentedState) -> Outcome:
        """The last point with its violation."""
        return Outcome(state.point, state.residual, state.fault)

    def _minimizer(self) -> Solver:
        return registry.create(
            Kind.MINIMIZE.value, self.minimizer, tolerance=INNER_TOLERANCE
        )


def _learned(
    program: MinimizeProgram, state: AugmentedState, x: Tensor, values: Values
) -> AugmentedState:
    """The multipliers that the minimum x [B, n] has without constraints."""
    rho = state.penalty.unsqueeze(1)
    y = state.y + rho * values.equalities
    lam = (state.lam + rho * values.rows).clamp_min(0.0)
    # A row counts as far as it is violated, or slack with a multiplier.
    least = torch.minimum(-values.rows, state.lam / rho)
    point = program.point_at(x, *unscaled(state.scales, y, lam))
    point, residual = polish(program, point, program.violation(point))
    return state._replace(
        x=x, y=y.clamp(-MOST_MULTIPLIER, MOST_MULTIPLIER),
        lam=lam.clamp_max(MOST_MULTIPLIER), point=point, residual=residual,
        missed=size_of(torch.cat([values.equalities, least], 1)),
    )  # fmt: skip


def _augmented(
    program: MinimizeProgram, state: AugmentedState, active: Tensor
) -> MinimizeProgram:
    """The problem without constraints; zero for samples that are not active."""
    a, b, c, slack = state.scales
    rho = state.penalty.unsqueeze(1)

    def objective(x: Tensor) -> Tensor:
        h = program.equality(x) * b + state.y / rho
        r = (program.rows(x) - slack) * c + state.lam / rho
        squares = h.square().sum(1) + r.clamp_min(0.0).square().sum(1)
        value = program.value(x) * a + state.penalty / 2 * squares
        return torch.where(active, value, 0.0)

    return MinimizeProgram(objective, program.batch_size, program.size)


def _restored(
    program: MinimizeProgram, state: AugmentedState, active: Tensor
) -> AugmentedState:
    """Begun anew from a point that violates less where no penalty is large enough."""
    lost = active & (state.penalty > MOST_PENALTY) & (state.fault == RUNNING)
    if not lost.any():
        return state
    # Bounds, which were constraints till here, are kept from now on.
    found = restored(program, state.scales, inside(program, state.x, 0.0), lost)
    fault = state.fault.masked_fill(lost & ~found.improved, int(Status.STALLED))
    new = state._replace(
        x=found.x, y=torch.zeros_like(state.y), lam=torch.zeros_like(state.lam),
        penalty=torch.full_like(state.penalty, FIRST_PENALTY),
        missed=torch.full_like(state.missed, torch.inf),
        fault=fault.masked_fill(found.infeasible, int(Status.INFEASIBLE)),
    )  # fmt: skip
    return _merged(lost, new, state)


def _merged(
    which: Tensor, first: AugmentedState, second: AugmentedState
) -> AugmentedState:
    """The first of samples where `which`, bool [B], holds, the second elsewhere."""
    names = [name for name in AugmentedState._fields if name != "scales"]
    return second._replace(
        **{k: chosen(which, getattr(first, k), getattr(second, k)) for k in names}
    )
