"""Derivatives of constrained minima against central differences."""

import pytest
import torch

from optlayers.functional import minimize
from tests.solvers.minimize.hock_schittkowski import PROBLEMS

# Central differences of a solution exact to 1e-13 with steps of 1e-5: the error of the
# formula is about 1e-10 times a third derivative, that of rounding 1e-8.
STEP = 1e-5
TOLERANCE = 1e-5
# All have active inequalities or bounds at their solution; not 17, where a multiplier
# of an active row is zero and the solution has a kink.
NUMBERS = (10, 11, 12, 14, 15, 18, 21, 22, 24, 29, 34, 35, 36, 37, 41, 43, 45,
           66, 71, 73, 76, 100, 113)  # fmt: skip


def shifted_minimum(number, shift, solver):
    """x, and the multipliers, with p'x added to f and r subtracted from g."""
    problem = PROBLEMS[number]
    n = len(problem.start)
    p, r = shift.split((n, shift.shape[1] - n), 1)
    g = problem.inequalities
    found = minimize(
        lambda x: problem.objective(x) + (p * x).sum(-1),
        problem.start.expand(len(shift), -1),
        equalities=problem.equalities,
        inequalities=None if g is None else lambda x: g(x) - r,
        lower=problem.lower, upper=problem.upper, solver=solver,
    )  # fmt: skip
    return torch.cat([found.value, *found.duals.values()], 1)


def central_differences(number, shift, solver):
    """d(x, multipliers)/d(p, r), all perturbations as one batch."""
    steps = STEP * torch.eye(shift.shape[1], dtype=shift.dtype)
    values = shifted_minimum(number, torch.cat([shift + steps, shift - steps]), solver)
    ahead, behind = values.chunk(2)
    return (ahead - behind).T / (2 * STEP)


@pytest.mark.parametrize("number", NUMBERS)
def test_derivatives_with_active_inequalities_are_those_of_differences(number):
    problem = PROBLEMS[number]
    size = len(problem.start) + problem.counts()[1]
    shift = torch.zeros(1, size, dtype=torch.float64)
    with torch.no_grad():
        expected = central_differences(number, shift, "interior_point")
    jacobian = torch.autograd.functional.jacobian(
        lambda s: shifted_minimum(number, s, "interior_point")[0], shift
    )[:, 0]
    scale = expected.abs().max().clamp_min(1.0)
    torch.testing.assert_close(
        jacobian / scale, expected / scale, rtol=0, atol=TOLERANCE
    )


@pytest.mark.parametrize("number", [12, 43, 71])
def test_both_solvers_have_the_same_derivative(number):
    problem = PROBLEMS[number]
    size = len(problem.start) + problem.counts()[1]
    shift = torch.zeros(1, size, dtype=torch.float64, requires_grad=True)
    slopes = []
    for solver in ("interior_point", "sqp"):
        value = shifted_minimum(number, shift, solver)
        slopes.append(torch.autograd.grad(value.square().sum(), shift)[0])
    torch.testing.assert_close(*slopes, rtol=1e-8, atol=1e-8)
