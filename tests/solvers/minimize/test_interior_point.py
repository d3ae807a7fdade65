import pytest
import torch

from optlayers.errors import ParameterError, ShapeError
from optlayers.programs.minimize import MinimizeProgram
from optlayers.solution import Status
from optlayers.solvers.minimize.interior_point import InteriorPoint
from tests.solvers.minimize.constrained import crossing


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


def squares(x):
    return x.square().sum(1)


def statuses(program, start):
    return InteriorPoint().solve(program, start).status.tolist()


def test_an_active_bound_has_the_slope_as_its_multiplier():
    program = MinimizeProgram(
        lambda x: (x - 3).square().sum(1), 1, 2, upper=numbers(1, torch.inf)
    )
    found = InteriorPoint().solve(program, numbers(0, 0)[None])
    # Closed form: x = (1, 3), and 2 (1 - 3) + lam = 0.
    torch.testing.assert_close(found.value, numbers(1, 3)[None])
    torch.testing.assert_close(found.duals["inequalities"], numbers(4)[None])


def test_iterates_stay_where_a_logarithm_is_defined():
    seen = []

    def objective(x):
        seen.append(x.detach().min())
        return -x.log().sum(1)

    program = MinimizeProgram(
        objective, 1, 2, None, lambda x: x.sum(1, keepdim=True) - 1, 0, 1,
        lower=numbers(0, 0),
    )  # fmt: skip
    found = InteriorPoint().solve(program, numbers(5, -3)[None])
    torch.testing.assert_close(found.value, numbers(0.5, 0.5)[None])
    assert min(seen) > 0


def test_an_unknown_that_is_fixed_by_its_bounds_is_kept():
    program = MinimizeProgram(squares, 1, 2, lower=numbers(1, -5), upper=numbers(1, 5))
    found = InteriorPoint().solve(program, numbers(0, 3)[None])
    assert found.ok.all()
    torch.testing.assert_close(found.value, numbers(1, 0)[None])
    lower, _, upper, _ = found.duals["inequalities"][0].unbind()
    torch.testing.assert_close(lower - upper, numbers(2)[0])


def test_a_weakly_active_bound_is_solved_to_rounding():
    found = InteriorPoint().solve(
        MinimizeProgram(squares, 1, 1, lower=numbers(0)), numbers(3)[None]
    )
    assert found.ok.all()
    assert found.value.abs().item() <= 1e-12


def test_equations_that_repeat_each_other_are_solved():
    program = MinimizeProgram(
        squares, 1, 2, lambda x: x.sum(1, keepdim=True) * numbers(1, 2) - numbers(1, 2),
        equality_count=2,
    )  # fmt: skip
    found = InteriorPoint().solve(program, numbers(0, 3)[None])
    assert found.ok.all()
    torch.testing.assert_close(found.value, numbers(0.5, 0.5)[None])


def test_the_example_on_which_line_searches_without_a_filter_fail_is_solved():
    found = InteriorPoint().solve(crossing(), numbers(-2, 3, 1)[None])
    assert found.ok.all()
    torch.testing.assert_close(found.value, numbers(1, 0, 0.5)[None])


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


def test_an_equation_without_a_solution_is_infeasible():
    program = MinimizeProgram(
        lambda x: x[:, 0], 1, 1, lambda x: x**2 + 1, equality_count=1
    )
    assert statuses(program, numbers(2)[None]) == [Status.INFEASIBLE]


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
    assert statuses(program, numbers(3)[None]) == [Status.STALLED]


def test_a_sample_of_broken_data_leaves_the_others_alone():
    aim = numbers(1, torch.nan, 2)
    program = MinimizeProgram(
        lambda x: (x[:, 0] - aim).square(), 3, 1, lower=numbers(1.5)
    )
    found = InteriorPoint().solve(program, torch.zeros(3, 1, dtype=torch.float64))
    assert found.status.tolist() == [Status.SOLVED, Status.NOT_FINITE, Status.SOLVED]
    torch.testing.assert_close(found.value[::2], numbers(1.5, 2)[:, None])


def test_inequalities_are_seen_where_the_caller_takes_no_gradients():
    program = MinimizeProgram(squares, 1, 1, None, lambda x: 2 - x, 0, 1)
    with torch.no_grad():
        found = InteriorPoint().solve(program, numbers(5)[None])
    assert found.ok.all()
    torch.testing.assert_close(found.value, numbers(2)[None])


def test_too_few_steps_are_said():
    program = MinimizeProgram(lambda x: (x - 3).square().sum(1), 1, 1, upper=numbers(1))
    found = InteriorPoint(max_steps=1).solve(program, numbers(0)[None])
    assert found.status.tolist() == [Status.STEP_LIMIT]


def test_single_precision_stays_single():
    program = MinimizeProgram(
        lambda x: (x - 3).square().sum(1), 2, 1, upper=torch.ones(1)
    )
    found = InteriorPoint(tolerance=1e-5).solve(program, torch.zeros(2, 1))
    assert found.value.dtype == torch.float32
    assert found.ok.all()
    torch.testing.assert_close(found.value, torch.ones(2, 1))


def test_an_empty_batch_is_solved():
    program = MinimizeProgram(squares, 0, 2, lower=numbers(0, 0))
    found = InteriorPoint().solve(program, torch.zeros(0, 2, dtype=torch.float64))
    assert found.value.shape == (0, 2)
    assert found.duals["inequalities"].shape == (0, 2)


def test_a_start_of_another_shape_is_refused():
    with pytest.raises(ShapeError, match=r"\[1, 3\]"):
        InteriorPoint().solve(MinimizeProgram(squares, 1, 2), torch.zeros(1, 3))


def test_a_barrier_below_zero_is_refused():
    with pytest.raises(ParameterError, match="barrier"):
        InteriorPoint(barrier=-1.0)


def test_the_violation_known_at_a_step_is_that_of_the_program():
    # Gradients of 1e3 and more, so that every function is scaled.
    program = MinimizeProgram(
        lambda x: 1e3 * x.pow(4).sum(1), 1, 2, lambda x: 1e4 * x[:, :1] - x[:, 1:] ** 2,
        lambda x: 1e3 * (x[:, 1:] - 2), 1, 1, lower=numbers(-1, 0.5),
    )  # fmt: skip
    method = InteriorPoint()
    state = method.init(program, numbers(2, 1)[None])
    for _ in range(3):
        torch.testing.assert_close(state.residual, program.violation(state.point))
        state = method.step(program, state, torch.tensor([True]))
    assert (state.scales.objective < 1).all()
    assert (state.scales.rows < 1).any()
