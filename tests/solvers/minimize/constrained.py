"""Programs of the Hock-Schittkowski problems, and the four KKT conditions."""

import torch
from torch import Tensor

from optlayers.programs.minimize import MinimizeProgram
from optlayers.solution import Solution
from tests.solvers.minimize.hock_schittkowski import Problem


def program_of(problem: Problem, batch: int = 1) -> MinimizeProgram:
    equal, below = problem.counts()
    return MinimizeProgram(
        problem.objective, batch, len(problem.start), problem.equalities,
        problem.inequalities, equal, below, problem.lower, problem.upper,
    )  # fmt: skip


def perturbed_starts(problem: Problem, batch: int) -> Tensor:
    """The standard start, then some that are moved by a tenth, [B, n]."""
    generator = torch.Generator().manual_seed(5)
    shape = (batch, len(problem.start))
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    noise[0] = 0
    return problem.start + 0.1 * problem.start.abs().clamp_min(1) * noise


def crossing() -> MinimizeProgram:
    """A parabola and a line whose slacks cannot meet where linear models say.

    Its one minimum is (1, 0, 1/2). Source: A. Waechter, L. Biegler, Failure of global
    convergence for a class of interior point methods for nonlinear programming (2000).
    """
    return MinimizeProgram(
        lambda x: x[:, 0], 1, 3,
        lambda x: torch.stack(
            [x[:, 0] ** 2 - x[:, 1] - 1, x[:, 0] - x[:, 2] - 0.5], 1
        ),
        equality_count=2,
        lower=torch.tensor([-torch.inf, 0, 0], dtype=torch.float64),
    )  # fmt: skip


def kkt_errors(program: MinimizeProgram, solution: Solution) -> dict[str, Tensor]:
    """How far each sample is from each condition, relative to its gradients, [B]."""
    x = solution.value
    y, lam = solution.duals["equalities"], solution.duals["inequalities"]
    Jh, Jr = program.jacobians(x)
    gradient = program.gradient(x)
    pulled = (y.unsqueeze(1) @ Jh + lam.unsqueeze(1) @ Jr).squeeze(1)
    size = 1 + _largest(gradient)
    rows = program.rows(x)
    return {
        "stationarity": _largest(gradient + pulled) / size,
        "equalities": _largest(program.equality(x)),
        "inequalities": _largest(rows.clamp_min(0)),
        "sign": _largest(lam.clamp_max(0)),
        "complementarity": _largest(lam * rows) / size,
    }


def _largest(rows: Tensor) -> Tensor:
    return rows.abs().amax(1) if rows.shape[1] else rows.new_zeros(len(rows))
