import math

import pytest
import torch
from torch.testing import assert_close

from optlayers import registry
from optlayers.errors import ParameterError, ShapeError
from optlayers.programs.minimize import MinimizeProgram
from optlayers.solution import Status
from optlayers.solvers.minimize import (
    Auto,
    GradientDescent,
    Lbfgs,
    LevenbergMarquardt,
    Newton,
    NewtonCg,
)

METHODS = (
    "newton", "newton_cg", "lbfgs", "bfgs", "gradient_descent", "levenberg_marquardt",
    "gauss_newton", "auto",
)  # fmt: skip
PLAIN = tuple(name for name in METHODS if name not in {"gauss_newton"})
FOR_ANY = tuple(name for name in PLAIN if name != "levenberg_marquardt")


def double(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def squares(batch, n, shift):
    """Curved residuals x - shift + sin(x) / 2 with one minimum of value zero."""

    def residuals(x):
        return x + torch.sin(x) / 2 - shift

    return MinimizeProgram(
        lambda x: residuals(x).square().sum(1), batch, n, residuals=residuals
    )


@pytest.mark.parametrize("name", METHODS)
def test_a_quadratic_has_its_closed_form_minimum(name):
    A = double([2.0, 0.5], [0.0, 1.0])
    b = double([1.0, -1.0], [3.0, 2.0], [0.0, 0.5])

    def residuals(x):
        return x @ A.mT - b

    program = MinimizeProgram(
        lambda x: residuals(x).square().sum(1), 3, 2, residuals=residuals
    )
    found = registry.create("minimize", name).solve(program)
    assert found.ok.all()
    # The gradient is at most 1e-8, and the least eigenvalue of 2A'A is 1.6.
    assert_close(found.value, torch.linalg.solve(A, b.mT).mT, atol=1e-7, rtol=0)


@pytest.mark.parametrize("rule", ["fixed", "backtracking", "accelerated"])
def test_every_rule_of_gradient_descent_reaches_the_minimum(rule):
    scale = double(1.0, 10.0)
    program = MinimizeProgram(lambda x: (scale * (x - 1) ** 2).sum(1), 1, 2)
    found = GradientDescent(rule=rule, step_size=0.04).solve(program)
    assert found.ok.all()
    assert_close(found.value, double([1.0, 1.0]))


def test_momentum_saves_most_steps_on_an_ill_conditioned_quadratic():
    scale = torch.logspace(0, 2, 10, dtype=torch.float64)
    program = MinimizeProgram(lambda x: (scale * (x - 1) ** 2).sum(1), 1, 10)
    plain = GradientDescent(rule="backtracking").solve(program)
    fast = GradientDescent(rule="accelerated").solve(program)
    assert fast.ok.all()
    assert int(fast.stats["steps"]) < int(plain.stats["steps"]) / 2


@pytest.mark.parametrize("name", METHODS)
def test_no_answer_depends_on_the_company_it_is_solved_in(name):
    generator = torch.Generator().manual_seed(5)
    own = torch.rand(8, 6, generator=generator, dtype=torch.float64)
    harder = own.clone()
    harder[3] *= 40

    def solved(shift):
        return registry.create("minimize", name).solve(squares(8, 6, shift))

    others = torch.arange(8) != 3
    easy, mixed = solved(own), solved(harder)
    assert easy.ok.all()
    assert torch.equal(mixed.value[others], easy.value[others])
    assert torch.equal(mixed.stats["steps"][others], easy.stats["steps"][others])


@pytest.mark.parametrize("name", METHODS)
def test_a_sample_of_nan_leaves_the_others_bitwise(name):
    shift = torch.linspace(0.1, 1.2, 12, dtype=torch.float64).reshape(4, 3)
    broken = shift.clone()
    broken[2, 1] = math.nan
    solver = registry.create("minimize", name)
    whole, mixed = (
        solver.solve(squares(4, 3, shift)),
        solver.solve(squares(4, 3, broken)),
    )
    others = torch.arange(4) != 2
    assert mixed.status.tolist() == [0, 0, Status.NOT_FINITE, 0]
    assert torch.equal(mixed.value[others], whole.value[others])


@pytest.mark.parametrize("name", FOR_ANY)
@pytest.mark.parametrize(
    "objective",
    [lambda x: -x.sum(1), lambda x: -x.square().sum(1), lambda x: -x.exp().sum(1)],
    ids=["linear", "concave", "exponential"],
)
def test_an_objective_without_bound_is_called_so(name, objective):
    program = MinimizeProgram(objective, 1, 2)
    found = registry.create("minimize", name).solve(program, double([1.0, 1.0]))
    assert found.status.tolist() == [Status.UNBOUNDED]


@pytest.mark.parametrize("name", FOR_ANY)
def test_an_unbounded_sample_leaves_the_others_bitwise(name):
    sign = double(1.0, -1.0, 1.0)

    def objective(x):
        return sign * (x - 1).square().sum(1)

    def alone(x):
        return (x - 1).square().sum(1)

    solver = registry.create("minimize", name)
    start = double([3.0, 0.5], [3.0, 0.5], [-2.0, 0.0])
    mixed = solver.solve(MinimizeProgram(objective, 3, 2), start)
    good = solver.solve(MinimizeProgram(alone, 3, 2), start)
    assert mixed.status.tolist() == [0, Status.UNBOUNDED, 0]
    assert torch.equal(mixed.value[[0, 2]], good.value[[0, 2]])


@pytest.mark.parametrize("name", METHODS)
def test_single_precision_reaches_what_it_can(name):
    shift = torch.linspace(0.1, 1.2, 12).reshape(4, 3)
    solver = registry.create("minimize", name, tolerance=1e-4)
    found = solver.solve(squares(4, 3, shift), torch.zeros(4, 3))
    assert found.value.dtype == torch.float32
    assert found.ok.all()


@pytest.mark.parametrize("name", METHODS)
def test_an_empty_batch_has_an_empty_solution(name):
    shift = torch.zeros(0, 3, dtype=torch.float64)
    found = registry.create("minimize", name).solve(squares(0, 3, shift), shift)
    assert found.value.shape == (0, 3)
    assert found.status.shape == (0,)


@pytest.mark.parametrize("name", METHODS)
def test_no_unknowns_are_solved_at_once(name):
    nothing = torch.zeros(2, 0, dtype=torch.float64)
    found = registry.create("minimize", name).solve(squares(2, 0, nothing), nothing)
    assert found.ok.all()
    assert found.stats["steps"].tolist() == [0, 0]


def test_newton_leaves_a_start_of_negative_curvature():
    # Along x1 the start is a maximum up to rounding, along x2 a minimum.
    program = MinimizeProgram(
        lambda x: x[:, 0] ** 4 - x[:, 0] ** 2 + x[:, 1] ** 2, 1, 2
    )
    found = Newton().solve(program, double([1e-9, 1.0]))
    assert found.ok.all()
    assert_close(found.value.abs(), double([0.5**0.5, 0.0]), atol=1e-8, rtol=0)


@pytest.mark.parametrize("solver", [NewtonCg(), Lbfgs()], ids=["newton_cg", "lbfgs"])
def test_two_thousand_unknowns_are_solved_without_a_matrix(solver):
    n = 2000
    slope = torch.linspace(-1, 1, n, dtype=torch.float64)

    def objective(x):
        bends = (x[:, 1:] - x[:, :-1]).square().sum(1)
        return bends + x.square().sum(1) / 2 + (x**4).sum(1) / 4 - x @ slope

    program = MinimizeProgram(objective, 2, n)
    found = solver.solve(program, torch.zeros(2, n, dtype=torch.float64))
    assert found.ok.all()
    assert (program.gradient(found.value).abs() <= 1e-8).all()


def test_auto_solves_what_its_first_method_gives_up():
    # Newton is allowed too few steps; limited-memory BFGS then counts its own.
    def objective(x):
        return 100 * (x[:, 1] - x[:, 0] ** 2) ** 2 + (1 - x[:, 0]) ** 2

    program = MinimizeProgram(objective, 1, 2)
    start = double([1.05, 1.1])
    most = int(Newton().solve(program, start).stats["steps"])
    found = Auto(max_steps=most - 1).solve(program, start)
    assert int(found.stats["steps"]) > most - 1


@pytest.mark.parametrize("name", [n for n in FOR_ANY if n != "auto"] + ["gauss_newton"])
def test_bounds_are_refused_with_a_remedy(name):
    program = MinimizeProgram(
        lambda x: x.sum(1), 1, 2, lower=double(0.0, 0.0), residuals=lambda x: x
    )
    refusal = registry.create("minimize", name).refuses(program)
    assert refusal == "takes no constraints or bounds; use interior_point."


def test_methods_for_squares_refuse_other_objectives():
    program = MinimizeProgram(lambda x: x.sum(1), 1, 2)
    assert "sums of squares" in (LevenbergMarquardt().refuses(program) or "")


def test_options_out_of_range_are_refused():
    with pytest.raises(ParameterError, match="rule='fast'"):
        GradientDescent(rule="fast")
    with pytest.raises(ParameterError, match="memory"):
        Lbfgs(memory=0)
    with pytest.raises(ParameterError, match="tolerance"):
        Auto(tolerance=-1.0)


def test_a_start_of_another_shape_is_refused():
    with pytest.raises(ShapeError, match=r"\[1, 3\]"):
        Newton().solve(MinimizeProgram(lambda x: x.sum(1), 1, 2), torch.zeros(1, 3))
