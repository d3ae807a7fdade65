import pytest
import torch
from torch.testing import assert_close

from optlayers.programs.minimize import MinimizeProgram
from optlayers.solution import Status
from optlayers.solvers.minimize.auto import Auto
from optlayers.solvers.minimize.interior_point import InteriorPoint
from optlayers.solvers.minimize.newton import Newton
from optlayers.solvers.minimize.saddles import without_saddles
from optlayers.solvers.minimize.sqp import Sqp

# A KKT residual of 1e-8 at a condition of some tens.
CLOSE = {"rtol": 0, "atol": 1e-6}


def double(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def wells(x):
    """A saddle at 0, minima -1/4 at (0, +-sqrt 1/2)."""
    return x[:, 0] ** 2 - x[:, 1] ** 2 + x[:, 1] ** 4


def circle(x):
    return x.square().sum(1, keepdim=True) - 1


@pytest.mark.parametrize("solver", [Newton(), Auto()])
def test_newton_leaves_a_saddle_where_it_begins(solver):
    program = MinimizeProgram(wells, 3, 2)
    found = solver.solve(program, double([0.0, 0.0], [1.0, 0.0], [0.3, 0.4]))
    assert found.ok.all()
    assert_close(program.value(found.value), double(-0.25, -0.25, -0.25))


def test_a_maximum_is_left_and_a_flat_minimum_is_not():
    maximum = MinimizeProgram(lambda x: x.cos().sum(1), 1, 2)
    found = Newton().solve(maximum, double([0.0, 0.0]))
    assert_close(maximum.value(found.value), double(-2.0))
    flat = MinimizeProgram(lambda x: x[:, 0] ** 4 + 0 * x[:, 1], 1, 2)
    assert Newton().solve(flat, double([0.0, 0.0])).stats["steps"] == 0


def test_where_nothing_ends_the_fall_that_is_said():
    program = MinimizeProgram(lambda x: x[:, 0] ** 2 - x[:, 1] ** 2, 1, 2)
    found = Newton().solve(program, double([0.0, 0.0]))
    assert found.status == Status.UNBOUNDED


def test_a_fall_without_end_beyond_a_saddle_is_said_by_auto():
    # Levenberg-Marquardt steps end at the saddle, as residuals are stationary there.
    def parts(x):
        return torch.stack([x[:, 0], x[:, 1]], 1)

    def signed(r):
        return r.square() * double(1.0, -1.0)

    program = MinimizeProgram(
        lambda x: signed(parts(x)).sum(1), 2, 2, residuals=parts, loss=signed
    )
    found = Auto().solve(program, double([1.0, 0.0], [0.0, 0.0]))
    assert (found.status == Status.UNBOUNDED).all()


def test_no_later_method_calls_the_saddle_of_an_endless_fall_solved():
    program = MinimizeProgram(lambda x: x[:, 0] ** 2 - x[:, 1] ** 2, 1, 2)
    assert Auto().solve(program, double([1.0, 0.0])).status == Status.UNBOUNDED


def test_where_one_method_ends_nowhere_beside_a_saddle_the_next_is_asked():
    radius = 1e6
    program = MinimizeProgram(
        lambda x: x[:, 0] ** 2 - x[:, 1] ** 2, 1, 2,
        inequalities=lambda x: x.square().sum(1, keepdim=True) - radius**2,
        inequality_count=1,
    )  # fmt: skip
    stuck = InteriorPoint(max_steps=20)
    saddle = Sqp().solve(program, double([0.0, 0.0]))
    assert saddle.ok.all() and saddle.stats["steps"] == 0
    found = without_saddles(program, [stuck, Sqp()], saddle)
    assert found.ok.all()
    assert_close(program.value(found.value), double(-(radius**2)))
    assert_close(found.duals["inequalities"], double([1.0]))
    assert found.stats["steps"] > stuck.max_steps


def test_squares_whose_residuals_are_stationary_are_left():
    t = torch.linspace(0, 1, 5, dtype=torch.float64)

    def residuals(x):
        return x.prod(1, keepdim=True) * t - 3 * t

    program = MinimizeProgram(
        lambda x: residuals(x).square().sum(1), 1, 2, residuals=residuals
    )
    found = Auto().solve(program, double([0.0, 0.0]))
    assert found.ok.all()
    assert_close(found.value.prod(1), double(3.0), **CLOSE)


def test_saddles_along_constraints_are_left():
    # The farthest point of a circle in x1^2 - x0 is (-1/2, +-sqrt 3/4); (1, 0) is a
    # minimum of it, and a KKT point.
    program = MinimizeProgram(lambda x: x[:, 0] - x[:, 1] ** 2, 2, 2, circle, None, 1)
    start = double([1.0, 0.0], [0.0, 1.0])
    stays = InteriorPoint().solve(program, start)
    assert stays.ok.all() and program.value(stays.value)[0] == 1
    found = Auto().solve(program, start)
    assert found.ok.all()
    assert_close(program.value(found.value), double(-1.25, -1.25))
    assert found.stats["steps"][0] > 0


def test_a_vertex_is_found_from_the_middle_of_a_box():
    bound = double(1.0, 1.0)
    program = MinimizeProgram(
        lambda x: -x.square().sum(1), 1, 2, lower=-bound, upper=bound
    )
    found = Auto().solve(program, double([0.0, 0.0]))
    assert_close(found.value.abs(), double([1.0, 1.0]), **CLOSE)
    assert_close(found.duals["inequalities"].amax(), double(2.0)[0], **CLOSE)


def test_a_sample_knows_nothing_of_the_saddles_of_others():
    start = double([1.0, 0.0], [-0.9, 0.3], [0.2, 0.9])

    def solved(rows):
        program = MinimizeProgram(
            lambda x: x[:, 0] - x[:, 1] ** 2, len(rows), 2, circle, None, 1
        )
        return Auto().solve(program, rows)

    together = solved(start)
    for k in range(3):
        alone = solved(start[k : k + 1])
        assert_close(together.value[k], alone.value[0])
        assert together.stats["steps"][k] == alone.stats["steps"][0]
