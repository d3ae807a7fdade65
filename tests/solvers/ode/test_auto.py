"""Stiff samples are found, and handed over; the others stay where they are."""

import pytest
import torch

from optlayers import functional
from optlayers.programs.initial_value import Event, InitialValueProgram
from optlayers.solvers.ode import Auto, FixedStep, Rodas5P, Tsit5
from optlayers.solvers.ode.esdirk import DiagonallyImplicit
from optlayers.solvers.ode.explicit import ExplicitRungeKutta
from tests.solvers.ode.problems import oscillator
from tests.solvers.ode.stiff_problems import STIFF, program

# Decay to cos t at each sample's own rate; the first and the last are stiff.
RATES = torch.tensor([1e4, 1.0, 3.0, 3e4], dtype=torch.float64)
TIMES = [0.0, 0.5, 2.5, 5.0]


def decay(rates):
    def field(time, state):
        return -rates.unsqueeze(1) * (state - time.cos().unsqueeze(1))

    return field


def start(count=4):
    return torch.full((count, 1), 2.0, dtype=torch.float64)


def exact(rates, times):
    """(a^2 cos t + a sin t) / (a^2 + 1), and a transient from 2."""
    a, t = rates.unsqueeze(1), torch.tensor(times, dtype=torch.float64)
    steady = (a * a * t.cos() + a * t.sin()) / (a * a + 1)
    return steady + (2 - a * a / (a * a + 1)) * (-a * t).exp()


def test_exactly_the_stiff_samples_change_their_method():
    solved = Auto().solve(program(decay(RATES), start(), TIMES))
    assert solved.stats["is_stiff"].tolist() == [True, False, False, True]


def test_the_values_are_right_before_and_after_the_change():
    solved = Auto(rtol=1e-8).solve(program(decay(RATES), start(), TIMES))
    error = solved.value[..., 0] - exact(RATES, TIMES)
    # Within steps far longer than the transient dense output is less accurate.
    assert float(error.abs().max()) < 1e-6


def test_a_stiff_sample_takes_far_fewer_steps_than_alone_with_an_explicit_method():
    problem = program(decay(RATES[:1]), start(1), [0.0, 0.5, 1.0])
    steps = [int(one.solve(problem).stats["steps"]) for one in (Auto(), Tsit5())]
    assert 10 * steps[0] < steps[1]


@pytest.mark.parametrize("i", [0, 1])
def test_a_sample_takes_its_own_steps_in_any_company(i):
    before = Auto().solve(program(decay(RATES), start(), TIMES))
    others = RATES.roll(2)
    others[i] = RATES[i]
    after = Auto().solve(program(decay(others), start(), TIMES))
    assert torch.equal(before.value[i], after.value[i])
    for name in ("steps", "evaluations", "is_stiff"):
        assert torch.equal(before.stats[name][i], after.stats[name][i])


def test_where_nothing_is_stiff_the_steps_are_those_of_the_explicit_method():
    problem = program(oscillator, [[1.0, 0.0], [0.0, 2.0]], [0.0, 30.0])
    found, usual = Auto().solve(problem), Tsit5().solve(problem)
    assert torch.equal(found.value, usual.value)
    assert not bool(found.stats["is_stiff"].any())


def test_a_sample_out_of_explicit_steps_is_handed_over():
    problem = program(oscillator, [[1.0, 0.0]], [0.0, 30.0])
    most = int(Rodas5P().solve(problem).stats["steps"]) + 1
    assert most < int(Tsit5().solve(problem).stats["steps"])
    solved = Auto(max_steps=most).solve(problem)
    assert bool(solved.ok) and bool(solved.stats["is_stiff"])


def test_a_sample_that_blows_up_fails_after_both():
    values = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    solved = Auto().solve(program(lambda t, x: x * x, values, [0.0, 2.0]))
    assert solved.ok.tolist() == [False, True]


def test_fixed_steps_are_explicit():
    problem = program(decay(RATES[1:3]), start(2), TIMES)
    control = FixedStep(size=0.01)
    found, usual = (one(control=control).solve(problem) for one in (Auto, Tsit5))
    assert torch.equal(found.value, usual.value)


def test_a_joint_step_hands_over_all_samples():
    solved = Auto(joint=True).solve(program(decay(RATES), start(), TIMES))
    assert bool(solved.stats["is_stiff"].all()) and bool(solved.ok.all())


def test_many_states_go_on_with_kvaerno5():
    rates = torch.logspace(0, 4, 40, dtype=torch.float64)
    problem = program(
        lambda t, x: -rates * x, torch.ones(1, 40, dtype=torch.float64), [0.0, 2.0]
    )
    walk = Auto().walk(problem)
    methods = [walk.method]
    while walk.is_running:
        walk.advance()
        methods.append(walk.method)
    assert isinstance(methods[0], ExplicitRungeKutta)
    assert isinstance(methods[-1], DiagonallyImplicit)
    expected = (-2 * rates).exp()
    assert torch.allclose(walk.solution().value[0, -1], expected, atol=1e-5)


@pytest.mark.parametrize("gradient", ["exact", "direct"])
def test_the_gradient_passes_the_change_of_method(gradient):
    rates = RATES.clone().requires_grad_()
    times = torch.tensor(TIMES, dtype=torch.float64)
    solved = functional.integrate(
        decay(rates), start(), times, solver="auto", rtol=1e-9, gradient=gradient
    )
    (found,) = torch.autograd.grad(solved.value.sum(), rates)
    (wanted,) = torch.autograd.grad(exact(rates, TIMES).sum(), rates)
    assert torch.allclose(found, wanted, rtol=1e-6, atol=1e-12)


def test_events_are_found_by_either_method():
    event = Event(lambda time, state: state[:, 0], terminal=False)
    times = torch.tensor([TIMES], dtype=torch.float64).expand(4, -1)
    solved = Auto(rtol=1e-9).solve(
        InitialValueProgram(decay(RATES), start(), times, (event,))
    )
    # The fast ones cross zero with cos t.
    crossings = torch.tensor([torch.pi / 2, 3 * torch.pi / 2], dtype=torch.float64)
    for i in (0, 3):
        found = solved.events[0].times[i]
        assert torch.allclose(found, crossings + 1 / RATES[i], atol=1e-6)


def test_dense_output_joins_both_methods():
    times = torch.tensor([0.0, 5.0], dtype=torch.float64)
    solved = functional.integrate(
        decay(RATES), start(), times, solver="auto", rtol=1e-9, dense=True
    )
    inside = torch.linspace(0.0, 5.0, 41, dtype=torch.float64)
    found = solved.at(inside)[..., 0]
    assert torch.allclose(found, exact(RATES, inside.tolist()), atol=1e-6)


def test_robertson_is_stiff():
    problem = STIFF["robertson"]
    solved = Auto(atol=problem.absolute).solve(problem.program(2))
    assert solved.stats["is_stiff"].tolist() == [True, True]
