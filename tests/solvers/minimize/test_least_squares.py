"""Levenberg-Marquardt within bounds, against SciPy and the KKT conditions."""

import pytest
import torch
from scipy import optimize
from torch.testing import assert_close

from optlayers import registry
from optlayers.programs.minimize import MinimizeProgram
from optlayers.solution import Status
from optlayers.solvers.minimize import GaussNewton, LevenbergMarquardt
from optlayers.solvers.minimize.run import certified
from tests.solvers.minimize.more_garbow_hillstrom import PROBLEMS
from tests.solvers.minimize.nist_regression import read

BY_NAME = {one.name: one for one in PROBLEMS}


def double(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def within(name, lower, upper, batch=1):
    """A problem of the collection with bounds, and its starts."""
    problem = BY_NAME[name]
    program = MinimizeProgram(
        lambda x: problem.residuals(x).square().sum(1), batch, len(problem.start),
        lower=lower, upper=upper, residuals=problem.residuals,
    )  # fmt: skip
    return program, problem.starts(batch)


@pytest.mark.parametrize(
    ("name", "lower", "upper"),
    [
        ("rosenbrock", (-2.0, -2.0), (0.5, 2.0)),
        ("rosenbrock", (1.2, -torch.inf), (3.0, torch.inf)),
        ("beale", (0.6, 0.5), (10.0, 100.0)),
        ("bard", (0.1, 0.0, 0.0), (50.0, 100.0, 2.0)),
        ("kowalik", (0.0, -1.0, 0.13, 0.12), (10.0, 0.2, 0.13, 12.0)),
        ("box", (0.0, 5.0, 0.0), (2.0, 9.5, 20.0)),
        ("biggs", (0.0, 0.0, 0.0, 1.0, 0.0, 0.0), (2.0, 8.0, 1.0, 7.0, 5.0, 5.0)),
        ("wood", (-100.0, -100.0, -100.0, -100.0), (0.0, 10.0, 100.0, 100.0)),
    ],
)
def test_bounds_hold_and_scipy_finds_no_lower_point(name, lower, upper):
    program, start = within(name, double(*lower), double(*upper))
    found = certified(program, LevenbergMarquardt(), start, 1e-8)
    assert found.status.tolist() == [Status.SOLVED]
    x = found.point[:, : program.size]
    assert torch.equal(x, program.clamp(x))

    def residuals(one):
        return program.residuals(torch.from_numpy(one)[None])[0].numpy()

    limits = (double(*lower).numpy(), double(*upper).numpy())
    free = limits[0] < limits[1]
    if not free.all():  # SciPy takes no equal bounds
        limits[1][~free] += 1e-12
    begin = program.clamp(start)[0].numpy()
    least = optimize.least_squares(
        residuals, begin, bounds=limits, xtol=1e-14, ftol=1e-14, gtol=1e-14,
        max_nfev=5000,
    )  # fmt: skip
    assert float(program.value(x)) <= 2 * least.cost * (1 + 1e-6) + 1e-10


def test_samples_are_bounded_each_by_its_own():
    lower, upper = double([-2.0, -2.0], [1.5, 0.0]), double([0.5, 2.0], [3.0, 9.0])
    together, start = within("rosenbrock", lower, upper, batch=2)
    both = LevenbergMarquardt().solve(together, start)
    assert both.ok.all()
    for k in range(2):
        alone, first = within("rosenbrock", lower[k], upper[k])
        one = LevenbergMarquardt().solve(alone, first)
        assert_close(both.value[k], one.value[0], rtol=0, atol=1e-12)
    # By hand: the minimum in x2 is x1^2, so x1 goes to the bound nearest to 1.
    assert_close(both.value, double([0.5, 0.25], [1.5, 2.25]))
    # The slope there is -2 (1 - x1) in x1, of the upper bound and of the lower.
    assert_close(both.duals["inequalities"].abs().sum(1), double(1.0, 1.0))


def test_a_bend_of_the_residuals_saves_nine_steps_in_ten():
    # Without acceleration 200 steps are not enough here.
    regression = read("Bennett5")
    program = MinimizeProgram(
        lambda b: regression.residuals(b).square().sum(1), 2, 3,
        residuals=regression.residuals,
    )  # fmt: skip
    found = LevenbergMarquardt(max_steps=40).solve(program, regression.starts)
    assert found.ok.all()


def test_auto_takes_bounded_squares_for_what_they_are():
    program, start = within("rosenbrock", double(-2.0, -2.0), double(0.5, 2.0))
    auto = registry.create("minimize", "auto").solve(program, start)
    own = LevenbergMarquardt().solve(program, start)
    assert torch.equal(auto.value, own.value)


def test_gauss_newton_leaves_bounds_to_others():
    program, _ = within("rosenbrock", double(-2.0, -2.0), double(0.5, 2.0))
    assert "interior_point" in (GaussNewton().refuses(program) or "")
