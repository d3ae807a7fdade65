import pytest
import torch

from optlayers.errors import ParameterError, UnknownName
from optlayers.programs.minimize import MinimizeProgram
from optlayers.solution import Status
from optlayers.solvers.minimize.augmented_lagrangian import AugmentedLagrangian
from optlayers.solvers.minimize.interior_point import InteriorPoint
from tests.solvers.minimize.constrained import (
    kkt_errors,
    perturbed_starts,
    program_of,
)
from tests.solvers.minimize.hock_schittkowski import PROBLEMS

# The book gives f* to eight or more digits.
OBJECTIVE_TOLERANCE = 1e-6
# A hundred times what is asked of the solver, and what counts as KKT in the books.
KKT_TOLERANCE = 1e-6


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


def squares(x):
    return x.square().sum(1)


def statuses(program, start):
    return AugmentedLagrangian().solve(program, start).status.tolist()


def reaches(number):
    """Whether the least minimum is found; the KKT conditions must hold anyway."""
    problem = PROBLEMS[number]
    program = program_of(problem)
    found = AugmentedLagrangian().solve(program, problem.start.unsqueeze(0))
    assert found.ok.all(), number
    for condition, error in kkt_errors(program, found).items():
        assert (error <= KKT_TOLERANCE).all(), (number, condition)
    gap = (problem.objective(found.value) - problem.minimum).abs().item()
    return gap <= OBJECTIVE_TOLERANCE * max(1.0, abs(problem.minimum))


def test_a_projection_on_a_line_and_a_half_plane_has_its_multipliers():
    # Closed form: |x - (3, 1)|^2 / 2 on x0 = x1, x0 <= 1 has x = (1, 1),
    # x - a + y (1, -1) + lam (1, 0) = 0, so y = 0 and lam = 2.
    program = MinimizeProgram(
        lambda x: 0.5 * (x - numbers(3, 1)).square().sum(1), 1, 2,
        lambda x: x[:, :1] - x[:, 1:], lambda x: x[:, :1] - 1, 1, 1,
    )  # fmt: skip
    found = AugmentedLagrangian().solve(program, numbers(0, 0)[None])
    torch.testing.assert_close(found.value, numbers(1, 1)[None])
    torch.testing.assert_close(found.duals["equalities"], numbers(0)[None])
    torch.testing.assert_close(found.duals["inequalities"], numbers(2)[None])


@pytest.mark.parametrize("number", [6, 10, 12, 16, 24, 33, 35, 44, 62, 71, 76])
def test_the_least_minimum_is_reached_from_the_standard_start(number):
    assert reaches(number)


@pytest.mark.slow
def test_of_sixty_seven_problems_all_but_two_end_at_the_least_minimum():
    missed = [number for number in PROBLEMS if not reaches(number)]
    assert len(missed) <= 2, missed


@pytest.mark.parametrize("number", [10, 43, 65, 71])
def test_a_sample_is_solved_alike_in_any_company(number):
    problem = PROBLEMS[number]
    starts = perturbed_starts(problem, 6)
    together = AugmentedLagrangian().solve(program_of(problem, 6), starts)
    alone = AugmentedLagrangian().solve(program_of(problem), starts[2:3])
    assert together.ok.all()
    assert together.stats["steps"][2] == alone.stats["steps"][0]
    # Batched and single factorizations round differently.
    torch.testing.assert_close(together.value[2:3], alone.value, rtol=1e-9, atol=1e-9)


def test_it_agrees_with_the_interior_point_method_on_samples_of_different_data():
    radius = numbers(0.5, 1.0, 2.0)
    program = MinimizeProgram(
        lambda x: (1 - x[:, 0]) ** 2 + 100 * (x[:, 1] - x[:, 0] ** 2) ** 2, 3, 2,
        None, lambda x: squares(x).unsqueeze(1) - radius.square().unsqueeze(1), 0, 1,
    )  # fmt: skip
    start = torch.zeros(3, 2, dtype=torch.float64)
    ours = AugmentedLagrangian().solve(program, start)
    other = InteriorPoint().solve(program, start)
    assert ours.ok.all()
    torch.testing.assert_close(ours.value, other.value, rtol=1e-8, atol=1e-8)
    for name, duals in ours.duals.items():
        torch.testing.assert_close(duals, other.duals[name], rtol=1e-6, atol=1e-8)


def test_minimizations_may_do_without_hessians():
    problem = PROBLEMS[43]
    solver = AugmentedLagrangian(minimizer="lbfgs")
    found = solver.solve(program_of(problem), problem.start.unsqueeze(0))
    assert found.ok.all()
    value = problem.objective(found.value).item()
    assert value == pytest.approx(problem.minimum, rel=OBJECTIVE_TOLERANCE)


def test_equations_that_repeat_each_other_are_solved():
    program = MinimizeProgram(
        squares, 1, 2, lambda x: x.sum(1, keepdim=True) * numbers(1, 2) - numbers(1, 2),
        equality_count=2,
    )  # fmt: skip
    found = AugmentedLagrangian().solve(program, numbers(0, 3)[None])
    assert found.ok.all()
    torch.testing.assert_close(found.value, numbers(0.5, 0.5)[None])


def test_a_start_at_which_a_logarithm_is_infinite_is_moved_into_the_bounds():
    program = MinimizeProgram(
        lambda x: -x.log().sum(1), 1, 2, None, lambda x: x.sum(1, keepdim=True) - 1,
        0, 1, lower=numbers(0, 0),
    )  # fmt: skip
    found = AugmentedLagrangian().solve(program, numbers(5, -3)[None])
    torch.testing.assert_close(found.value, numbers(0.5, 0.5)[None])


@pytest.mark.parametrize(
    ("inequalities", "start"),
    [
        (lambda x: torch.cat([x[:, :1] + 1, 1 - x[:, :1]], 1), [0.3, 0.0]),
        (
            lambda x: torch.stack([squares(x) - 1, squares(x - 3) - 1], 1),
            [0.0, 1.0],
        ),
    ],
    ids=["half lines apart", "circles apart"],
)
def test_inequalities_that_exclude_each_other_are_infeasible(inequalities, start):
    program = MinimizeProgram(squares, 1, 2, None, inequalities, 0, 2)
    assert statuses(program, numbers(*start)[None]) == [Status.INFEASIBLE]


def test_bounds_that_exclude_an_equation_are_infeasible():
    program = MinimizeProgram(
        squares, 1, 2, lambda x: x.sum(1, keepdim=True) - 5, equality_count=1,
        lower=numbers(0, 0), upper=numbers(1, 1),
    )  # fmt: skip
    assert statuses(program, numbers(0.5, 0.5)[None]) == [Status.INFEASIBLE]


@pytest.mark.parametrize(
    "objective", [lambda x: -x.sum(1), lambda x: -squares(x)], ids=["linear", "square"]
)
def test_an_objective_that_falls_forever_is_unbounded(objective):
    program = MinimizeProgram(objective, 1, 2, lower=numbers(0, 0))
    assert statuses(program, numbers(1, 2)[None]) == [Status.UNBOUNDED]


def test_a_minimum_without_multipliers_is_not_called_solved():
    # x^2 <= 0 leaves x = 0 alone, where no multiplier balances the slope of x.
    program = MinimizeProgram(lambda x: x[:, 0], 1, 1, None, lambda x: x**2, 0, 1)
    assert statuses(program, numbers(3)[None]) != [Status.SOLVED]


def test_a_sample_of_broken_data_leaves_the_others_alone():
    aim = numbers(1, torch.nan, 2)
    program = MinimizeProgram(
        lambda x: (x[:, 0] - aim).square(), 3, 1, lower=numbers(1.5)
    )
    start = torch.zeros(3, 1, dtype=torch.float64)
    found = AugmentedLagrangian().solve(program, start)
    assert found.status.tolist() == [Status.SOLVED, Status.NOT_FINITE, Status.SOLVED]
    torch.testing.assert_close(found.value[::2], numbers(1.5, 2)[:, None])


def test_too_few_steps_are_said():
    program = MinimizeProgram(lambda x: (x - 3).square().sum(1), 1, 1, upper=numbers(1))
    found = AugmentedLagrangian(max_steps=1).solve(program, numbers(0)[None])
    assert found.status.tolist() == [Status.STEP_LIMIT]


def test_single_precision_stays_single():
    program = MinimizeProgram(
        lambda x: (x - 3).square().sum(1), 2, 1, upper=torch.ones(1)
    )
    found = AugmentedLagrangian(tolerance=1e-5).solve(program, torch.zeros(2, 1))
    assert found.value.dtype == torch.float32
    assert found.ok.all()
    torch.testing.assert_close(found.value, torch.ones(2, 1))


def test_an_empty_batch_is_solved():
    program = MinimizeProgram(squares, 0, 2, lower=numbers(0, 0))
    start = torch.zeros(0, 2, dtype=torch.float64)
    found = AugmentedLagrangian().solve(program, start)
    assert found.value.shape == (0, 2)
    assert found.duals["inequalities"].shape == (0, 2)


def test_a_minimizer_that_is_not_known_or_does_not_fit_is_refused():
    with pytest.raises(UnknownName, match="newtn"):
        AugmentedLagrangian(minimizer="newtn")
    with pytest.raises(ParameterError, match="itself"):
        AugmentedLagrangian(minimizer="augmented_lagrangian")
    program = MinimizeProgram(squares, 1, 2, lower=numbers(0, 0))
    refusal = AugmentedLagrangian(minimizer="gauss_newton").refuses(program)
    assert refusal is not None
    assert "sums of squares" in refusal
