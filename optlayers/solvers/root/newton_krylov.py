"""Newton's method whose linear systems are solved by GMRES: no Jacobian is formed.

Source: D. A. Knoll, D. E. Keyes, Jacobian-free Newton-Krylov methods (2004); the
accuracy of the inner solve from S. C. Eisenstat, H. F. Walker (1996), choice 2; line
search of C. T. Kelley (1995), algorithm 8.2.1.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from optlayers.interfaces import Kind
from optlayers.linalg.krylov import gmres
from optlayers.programs.root import RootProgram
from optlayers.solution import Solution, Status
from optlayers.solvers.iterative import RUNNING, Outcome, size_of
from optlayers.solvers.root.options import check_options, solved_by

SUFFICIENT_DECREASE = 1e-4
MOST_FORCING = 0.5


class NewtonKrylovState(NamedTuple):
    """Where every sample stands.

    Attributes:
        point, residual: z and F(z), [B, n].
        step: the inexact Newton step, [B, n].
        damping: the share of it to try next, [B].
        fault: a status where the method gives up, int8 [B].
    """

    point: Tensor
    residual: Tensor
    step: Tensor
    damping: Tensor
    fault: Tensor


@dataclass(frozen=True, kw_only=True)
class NewtonKrylov:
    """For large systems: products with the Jacobian by differentiating twice.

    Attributes:
        max_steps: most trial steps, accepted or not.
        tolerance: largest entry of the residual that counts as zero.
        inner_steps: most Jacobian products per system.
        restart: largest dimension of a Krylov space.
        min_damping: a step that must be shortened below this share has stalled.

    Raises:
        ParameterError: an option out of its range.
    """

    max_steps: int = 100
    tolerance: float = 1e-10
    inner_steps: int = 120
    restart: int = 40
    min_damping: float = 1e-6
    kind: ClassVar[Kind] = Kind.ROOT

    def __post_init__(self) -> None:
        check_options(self, "inner_steps", "restart", shares=["min_damping"])

    def refuses(self, program: RootProgram) -> str | None:
        """Nothing: any square system will do."""
        return None

    def solve(self, program: RootProgram, start: Tensor | None = None) -> Solution:
        """Solve every sample; failures are statuses."""
        return solved_by(self, program, start)

    def init(self, program: RootProgram, start: Tensor) -> NewtonKrylovState:
        """The residual and the first step."""
        with torch.no_grad():
            residual = program.residual(start)
        ones = start.new_ones(len(start))
        fault = torch.full_like(ones, RUNNING, dtype=torch.int8)
        step = self._newton_step(program, start, residual, 0.1 * ones)
        return NewtonKrylovState(start, residual, step, ones, fault)

    def step(
        self, program: RootProgram, state: NewtonKrylovState, active: Tensor
    ) -> NewtonKrylovState:
        """One trial; a new system for each sample that takes its step."""
        damping = state.damping
        trial = program.clamp(state.point + damping.unsqueeze(1) * state.step)
        with torch.no_grad():
            residual = program.residual(trial)
        before, after = state.residual.norm(dim=1), residual.norm(dim=1)
        is_solved = size_of(residual) <= self.tolerance
        accepted = (after <= (1 - SUFFICIENT_DECREASE * damping) * before) | is_solved
        stalled = active & ~accepted & (damping / 2 < self.min_damping)
        fault = torch.where(stalled, int(Status.STALLED), state.fault).to(torch.int8)
        rows = accepted.unsqueeze(1)
        point = torch.where(rows, trial, state.point)
        residual = torch.where(rows, residual, state.residual)
        damping = torch.where(accepted, 1.0, damping / 2)
        going_on, step = active & accepted & ~is_solved, state.step
        if going_on.any():
            forcing = (0.9 * (after / before).square()).clamp(1e-6, MOST_FORCING)
            wanted = torch.where(going_on.unsqueeze(1), residual, 0.0)
            new = self._newton_step(program, point, wanted, forcing)
            step = torch.where(going_on.unsqueeze(1), new, step)
        return NewtonKrylovState(point, residual, step, damping, fault)

    def outcome(self, state: NewtonKrylovState) -> Outcome:
        """The last accepted point."""
        return Outcome(state.point, size_of(state.residual), state.fault)

    def _newton_step(
        self, program: RootProgram, point: Tensor, residual: Tensor, forcing: Tensor
    ) -> Tensor:
        # Rows that are finished or not finite ask for nothing.
        is_open = (size_of(residual) > self.tolerance) & residual.isfinite().all(1)
        right = torch.where(is_open.unsqueeze(1), -residual, 0.0)
        found = gmres(
            program.products(point), right, tolerance=forcing,
            max_steps=self.inner_steps, restart=self.restart,
        )  # fmt: skip
        return found.value
