import pytest
import torch

from optlayers.errors import ParameterError, UnknownName
from optlayers.programs.minimize import MinimizeProgram
from optlayers.solution import Status
from optlayers.solvers.minimize.sqp import Sqp
from tests.solvers.minimize.constrained import crossing


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


def squares(x):
    return x.square().sum(1)


def test_a_quadratic_program_whose_hessian_is_the_identity_takes_one_step():
    program = MinimizeProgram(
        lambda x: 0.5 * (x - 3).square().sum(1), 1, 2, upper=numbers(1, torch.inf)
    )
    found = Sqp().solve(program, numbers(0, 0)[None])
    assert found.stats["steps"].tolist() == [1]
    torch.testing.assert_close(found.value, numbers(1, 3)[None])
    torch.testing.assert_close(found.duals["inequalities"], numbers(2)[None])


def test_a_start_whose_linear_constraints_conflict_is_left_by_elastic_steps():
    # At zero the gradient of x^2 - 4 vanishes: no step meets its linearization.
    program = MinimizeProgram(
        lambda x: (x - 1).square().sum(1), 1, 1, lambda x: x**2 - 4, equality_count=1
    )
    found = Sqp().solve(program, numbers(0.0)[None])
    assert found.ok.all()
    torch.testing.assert_close(found.value, numbers(2)[None])


def test_a_start_at_which_a_logarithm_is_infinite_is_moved_into_the_bounds():
    program = MinimizeProgram(
        lambda x: -x.log().sum(1), 1, 2, None, lambda x: x.sum(1, keepdim=True) - 1,
        0, 1, lower=numbers(0, 0),
    )  # fmt: skip
    found = Sqp().solve(program, numbers(5, -3)[None])
    torch.testing.assert_close(found.value, numbers(0.5, 0.5)[None])


def test_equations_that_repeat_each_other_are_solved():
    program = MinimizeProgram(
        squares, 1, 2, lambda x: x.sum(1, keepdim=True) * numbers(1, 2) - numbers(1, 2),
        equality_count=2,
    )  # fmt: skip
    found = Sqp().solve(program, numbers(0, 3)[None])
    assert found.ok.all()
    torch.testing.assert_close(found.value, numbers(0.5, 0.5)[None])


def test_circles_that_lie_apart_are_infeasible():
    program = MinimizeProgram(
        squares, 1, 2, None,
        lambda x: torch.stack([squares(x) - 1, squares(x - 3) - 1], 1), 0, 2,
    )  # fmt: skip
    found = Sqp().solve(program, numbers(0, 1)[None])
    assert found.status.tolist() == [Status.INFEASIBLE]


def test_a_minimum_of_the_violation_is_left_where_its_squares_have_none():
    # (-1, 0, 0) is a minimum of the sum of both violations, and no solution.
    found = Sqp().solve(crossing(), numbers(-2, 3, 1)[None])
    assert found.ok.all()
    torch.testing.assert_close(found.value, numbers(1, 0, 0.5)[None])


def test_an_equation_without_a_solution_is_infeasible():
    program = MinimizeProgram(
        lambda x: x[:, 0], 1, 1, lambda x: x**2 + 1, equality_count=1
    )
    found = Sqp().solve(program, numbers(2)[None])
    assert found.status.tolist() == [Status.INFEASIBLE]


@pytest.mark.parametrize(
    "objective", [lambda x: -x.sum(1), lambda x: -squares(x)], ids=["linear", "square"]
)
def test_an_objective_that_falls_forever_is_unbounded(objective):
    program = MinimizeProgram(objective, 1, 2, lower=numbers(0, 0))
    found = Sqp().solve(program, numbers(1, 2)[None])
    assert found.status.tolist() == [Status.UNBOUNDED]


def test_a_minimum_without_multipliers_is_not_called_solved():
    program = MinimizeProgram(lambda x: x[:, 0], 1, 1, None, lambda x: x**2, 0, 1)
    found = Sqp(max_steps=60).solve(program, numbers(3)[None])
    assert not found.ok.any()


def test_a_sample_of_broken_data_leaves_the_others_alone():
    aim = numbers(1, torch.nan, 2)
    program = MinimizeProgram(
        lambda x: (x[:, 0] - aim).square(), 3, 1, lower=numbers(1.5)
    )
    found = Sqp().solve(program, torch.zeros(3, 1, dtype=torch.float64))
    assert found.status.tolist() == [Status.SOLVED, Status.NOT_FINITE, Status.SOLVED]
    torch.testing.assert_close(found.value[::2], numbers(1.5, 2)[:, None])


def test_a_program_without_unknowns_is_refused():
    assert "unknown" in (Sqp().refuses(MinimizeProgram(squares, 1, 0)) or "")


def test_another_convex_solver_may_be_named():
    program = MinimizeProgram(lambda x: (x - 3).square().sum(1), 1, 1, upper=numbers(1))
    found = Sqp(quadratic_solver="clarabel").solve(program, numbers(0)[None])
    assert found.ok.all()


def test_a_convex_solver_of_no_known_name_is_an_error():
    program = MinimizeProgram(squares, 1, 1, upper=numbers(-1))
    with pytest.raises(UnknownName, match="dapq"):
        Sqp(quadratic_solver="dapq").solve(program, numbers(0)[None])


def test_a_step_limit_below_one_is_refused():
    with pytest.raises(ParameterError, match="max_steps"):
        Sqp(max_steps=0)
