"""Stiff problems: accuracy, damping, and steps of each sample alone."""

import pytest
import torch

from optlayers import registry
from optlayers.errors import ParameterError
from optlayers.programs.initial_value import InitialValueProgram
from optlayers.solvers.ode import (
    Dopri5,
    FixedStep,
    ImplicitEuler,
    Kvaerno5,
    Rodas5P,
    Trapezoid,
)
from optlayers.solvers.root.newton import Newton
from tests.solvers.ode.stiff_problems import RATES, STIFF, program, robertson

TOLERANCE = 1e-6
IMPLICIT = (Rodas5P, Kvaerno5, Trapezoid, ImplicitEuler)
QUICK = [("rodas5p", name) for name in STIFF] + [
    ("kvaerno5", "robertson"), ("auto", "robertson"), ("auto", "van der pol"),
]  # fmt: skip
LONG = [("kvaerno5", "van der pol"), ("kvaerno5", "oregonator"), ("auto", "oregonator")]


def check(method: str, name: str) -> None:
    """Every entry is right to 50 times the tolerance of a step."""
    problem = STIFF[name]
    solver = registry.create("ode", method, rtol=TOLERANCE, atol=problem.absolute)
    solved = solver.solve(problem.program())
    wanted = torch.tensor(problem.value, dtype=torch.float64)
    error = (solved.value[0, -1] - wanted).abs() / wanted.abs()
    assert bool(solved.ok.all())
    assert float(error.max()) < 50 * TOLERANCE


@pytest.mark.parametrize(("method", "name"), QUICK)
def test_the_reference_solution_is_met(method, name):
    check(method, name)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "name"), LONG)
def test_the_reference_solution_is_met_in_many_steps(method, name):
    check(method, name)


@pytest.mark.parametrize("method", [Rodas5P, Kvaerno5, ImplicitEuler])
def test_a_fast_transient_is_gone_after_one_long_step(method):
    # Prothero and Robinson: x' = -1e6 (x - cos t) - sin t, far from cos t at first.
    def field(time, state):
        column = time.unsqueeze(1)
        return -1e6 * (state - column.cos()) - column.sin()

    solver = method(control=FixedStep(size=0.1))
    found = solver.solve(program(field, [[1.5]], [0.0, 1.0])).value[0, -1, 0]
    # The reduced order of stiff problems leaves less than the square of the step / 10.
    assert float((found - torch.tensor(1.0).cos()).abs()) < 1e-3


def test_the_trapezoidal_rule_keeps_what_it_cannot_resolve():
    solver = Trapezoid(control=FixedStep(size=0.1))
    solved = solver.solve(program(lambda t, x: -1e6 * x, [[1.0]], [0.0, 1.0]))
    # (1 - z/2) / (1 + z/2) of z = 1e5, ten times.
    expected = ((1 - 5e4) / (1 + 5e4)) ** 10
    assert float(solved.value[0, -1, 0]) == pytest.approx(expected, rel=1e-9)


def test_implicit_euler_on_a_linear_problem_is_the_closed_form():
    solver = ImplicitEuler(control=FixedStep(size=0.25))
    solved = solver.solve(program(lambda t, x: -3 * x, [[2.0]], [0.0, 0.25, 1.0]))
    expected = [2.0, 2 / 1.75, 2 / 1.75**4]
    found = solved.value[0, :, 0]
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-9)


def test_far_fewer_steps_are_taken_than_by_an_explicit_method():
    steps = {}
    for method in (Dopri5, Rodas5P):
        solved = method().solve(program(lambda t, x: -1e3 * x, [[1.0]], [0.0, 10.0]))
        steps[method] = int(solved.stats["steps"])
    assert 20 * steps[Rodas5P] < steps[Dopri5]


@pytest.mark.parametrize("method", IMPLICIT)
def test_a_sample_takes_its_own_steps_in_any_company(method):
    torch.manual_seed(0)
    rates = torch.tensor(RATES, dtype=torch.float64)
    rates = rates * (0.5 + torch.rand(5, 3, dtype=torch.float64))
    start = [[1.0, 0.0, 0.0]] * 5
    # Trapezoid and implicit Euler take thousands of steps at their usual tolerance.
    solver = method(rtol=1e-3, atol=1e-7)
    times = [0.0, 0.1, 2.0]
    before = solver.solve(program(robertson(rates), start, times))
    others = rates.roll(1, 0)
    others[2] = rates[2]
    after = solver.solve(program(robertson(others), start, times))
    assert torch.equal(before.value[2], after.value[2])
    assert torch.equal(before.stats["steps"][2], after.stats["steps"][2])


@pytest.mark.parametrize("method", [Rodas5P, Kvaerno5])
def test_a_sample_that_blows_up_leaves_the_others_alone(method):
    def field(time, state):
        return state * state

    solver = method()
    solved = [
        solver.solve(program(field, [[-1.0], [middle], [-0.5]], [0.0, 2.0]))
        for middle in (1.0, -0.7)
    ]
    assert solved[0].ok.tolist() == [True, False, True]
    assert torch.equal(solved[0].value[::2], solved[1].value[::2])


def test_stages_that_are_not_found_shorten_the_step():
    # The Jacobian at the start says nothing of the wall at x = 1.
    def field(time, state):
        return 1 - state.clamp_min(1.0).sub(1).mul(1e5)

    solver = Kvaerno5(first_step=2.0)
    solved = solver.solve(program(field, [[0.0]], [0.0, 2.0]))
    assert bool(solved.ok)
    assert int(solved.stats["rejected"]) > 0
    assert float(solved.value[0, -1, 0]) == pytest.approx(1 + 1e-5, abs=1e-6)


def test_stages_that_are_not_found_in_a_fixed_step_are_a_failure():
    # x = 1 + x^2 has no real solution.
    solver = ImplicitEuler(control=FixedStep(size=1.0))
    solved = solver.solve(program(lambda t, x: x * x, [[1.0]], [0.0, 1.0]))
    assert not bool(solved.ok)


@pytest.mark.parametrize("stage_solver", ["newton", "anderson", Newton(tolerance=1e-3)])
def test_another_root_solver_may_find_the_stages(stage_solver):
    problem = STIFF["robertson"]
    solver = Kvaerno5(atol=problem.absolute, stage_solver=stage_solver)
    solved = solver.solve(program(problem.field, [problem.start], [0.0, 0.4]))
    usual = Rodas5P(rtol=1e-9, atol=1e-13)
    wanted = usual.solve(program(problem.field, [problem.start], [0.0, 0.4]))
    assert torch.allclose(solved.value, wanted.value, rtol=1e-5, atol=0.0)


def test_a_stage_solver_of_another_kind_is_refused():
    with pytest.raises(ParameterError, match='of kind "ode"'):
        Kvaerno5(stage_solver=Rodas5P())  # pyright: ignore


@pytest.mark.parametrize("method", ["rodas5p", "kvaerno5", "auto"])
def test_single_precision_is_kept(method):
    problem = STIFF["robertson"]
    start = torch.tensor([problem.start])
    times = torch.tensor([[0.0, 40.0]])
    rates = torch.tensor(RATES)
    # Less than atol = 1e-7 would be below the rounding of the largest concentration.
    solver = registry.create("ode", method, rtol=1e-4, atol=1e-7)
    solved = solver.solve(InitialValueProgram(robertson(rates), start, times))
    assert solved.value.dtype == torch.float32
    wanted = torch.tensor(problem.value)
    assert torch.allclose(solved.value[0, -1], wanted, rtol=1e-3, atol=0.0)


def test_many_states_are_solved_by_triangular_factors():
    # Heat conduction in 60 pieces: a mode decays as its eigenvalue says.
    n = 60
    place = torch.arange(1, n + 1, dtype=torch.float64) * torch.pi / (n + 1)
    laplacian = torch.diag(torch.full((n,), -2.0, dtype=torch.float64))
    laplacian += torch.diag(torch.ones(n - 1, dtype=torch.float64), 1)
    laplacian += torch.diag(torch.ones(n - 1, dtype=torch.float64), -1)
    scale = (n + 1) ** 2

    def field(time, state):
        return scale * state @ laplacian

    start = place.sin().unsqueeze(0)
    eigenvalue = scale * (2 * torch.tensor(torch.pi / (n + 1)).double().cos() - 2)
    solved = Rodas5P().solve(program(field, start, [0.0, 0.1]))
    expected = start[0] * (0.1 * eigenvalue).exp()
    assert torch.allclose(solved.value[0, -1], expected, rtol=1e-5)
