"""Broyden's good method with a limited memory: no Jacobian, no n x n matrix.

H approximates J^-1 as sigma I plus rank-one terms u v'. Source: C. G. Broyden (1965);
the limited-memory form is in C. T. Kelley, Iterative Methods for Linear and Nonlinear
Equations (1995), section 7.3.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from optlayers.interfaces import Kind
from optlayers.programs.root import RootProgram
from optlayers.solution import Solution, Status
from optlayers.solvers.iterative import RUNNING, Outcome, size_of
from optlayers.solvers.root.options import check_options, solved_by

# A trial whose residual is larger by this factor teaches H but is not gone to.
GROWTH_LIMIT = 2.0
# So many trials in a row refused, or of no use, and no step helps.
REFUSALS = 12
# Relative length of the trial step that measures sigma.
PROBE = 1e-4


class BroydenState(NamedTuple):
    """The memory of every sample.

    Attributes:
        point, residual: z and F(z), [B, n].
        size: |F(z)|, [B].
        sigma: the first inverse Jacobian is sigma I, [B, 1].
        left, right: the terms u and v, [B, memory, n].
        known: how many terms there are.
        refused: trials in a row that were refused or taught nothing, int64 [B].
    """

    point: Tensor
    residual: Tensor
    size: Tensor
    sigma: Tensor
    left: Tensor
    right: Tensor
    known: int
    refused: Tensor


@dataclass(frozen=True, kw_only=True)
class Broyden:
    """One evaluation a step; superlinear; for large n or costly Jacobians.

    Attributes:
        max_steps: most steps.
        tolerance: largest entry of the residual that counts as zero.
        memory: how many rank-one terms are kept before the memory is cleared.

    Raises:
        ParameterError: an option out of its range.
    """

    max_steps: int = 200
    tolerance: float = 1e-10
    memory: int = 30
    kind: ClassVar[Kind] = Kind.ROOT

    def __post_init__(self) -> None:
        check_options(self, "memory")

    def refuses(self, program: RootProgram) -> str | None:
        """Nothing: any square system will do."""
        return None

    def solve(self, program: RootProgram, start: Tensor | None = None) -> Solution:
        """Solve every sample; failures are statuses."""
        return solved_by(self, program, start)

    def init(self, program: RootProgram, start: Tensor) -> BroydenState:
        """The residual at the start, and sigma from a small step along it."""
        batch, n = start.shape
        with torch.no_grad():
            residual = program.residual(start)
        memory = start.new_zeros(batch, self.memory, n)
        return BroydenState(
            start, residual, residual.norm(dim=1),
            _first_sigma(program, start, residual), memory, memory.clone(), 0,
            torch.zeros(batch, dtype=torch.int64, device=start.device),
        )  # fmt: skip

    def step(
        self, program: RootProgram, state: BroydenState, active: Tensor
    ) -> BroydenState:
        """One trial, from which H learns whether or not it is gone to."""
        u, v = state.left[:, : state.known], state.right[:, : state.known]
        step = -_apply(state.sigma, u, v, state.residual)
        trial = program.clamp(state.point + step)
        with torch.no_grad():
            residual = program.residual(trial)
        size = residual.norm(dim=1)
        accepted = size <= GROWTH_LIMIT * state.size
        learned, taught = self._learned(
            state, trial - state.point, residual - state.residual
        )
        rows = accepted.unsqueeze(1)
        return learned._replace(
            point=torch.where(rows, trial, state.point),
            residual=torch.where(rows, residual, state.residual),
            size=torch.where(accepted, size, state.size),
            # Where the residual does not change at all, no step will help either.
            refused=torch.where(accepted & taught, 0, state.refused + 1),
        )

    def outcome(self, state: BroydenState) -> Outcome:
        """The last point gone to."""
        fault = torch.where(state.refused > REFUSALS, int(Status.STALLED), RUNNING)
        return Outcome(state.point, size_of(state.residual), fault.to(torch.int8))

    def _learned(
        self, state: BroydenState, s: Tensor, y: Tensor
    ) -> tuple[BroydenState, Tensor]:
        """H corrected such that H y = s, and where it could be, bool [B].

        The memory is cleared when it is full.
        """
        if state.known == self.memory:
            state = state._replace(known=0)
        u, v = state.left[:, : state.known], state.right[:, : state.known]
        Hy, sH = _apply(state.sigma, u, v, y), _apply(state.sigma, v, u, s)
        divisor = (sH * y).sum(1, keepdim=True)
        new = (s - Hy) / divisor
        # A trial without a finite residual, or a step of nothing, teaches nothing.
        usable = torch.cat([new, sH], 1).isfinite().all(1, keepdim=True)
        state.left[:, state.known] = torch.where(usable, new, 0.0)
        state.right[:, state.known] = torch.where(usable, sH, 0.0)
        shrink = torch.where(usable, 1.0, 0.25)
        state = state._replace(known=state.known + 1, sigma=state.sigma * shrink)
        return state, usable.squeeze(1)


def _apply(sigma: Tensor, left: Tensor, right: Tensor, x: Tensor) -> Tensor:
    """sigma x + sum u (v'x), [B, n] -> [B, n]."""
    if left.shape[1] == 0:
        return sigma * x
    weights = torch.bmm(right, x.unsqueeze(2))
    return sigma * x + torch.bmm(left.mT, weights).squeeze(2)


def _first_sigma(program: RootProgram, point: Tensor, residual: Tensor) -> Tensor:
    """The sigma for which sigma J F is nearest to F, signed; 1 where it has none."""
    length = residual.norm(dim=1, keepdim=True)
    span = PROBE * (1 + point.norm(dim=1, keepdim=True)) / length.clamp_min(1e-30)
    with torch.no_grad():
        change = (program.residual(point + span * residual) - residual) / span
    along = (change * residual).sum(1, keepdim=True)
    sigma = along / change.square().sum(1, keepdim=True)
    is_usable = sigma.isfinite() & (sigma != 0)
    return torch.where(is_usable, sigma, 1.0)
