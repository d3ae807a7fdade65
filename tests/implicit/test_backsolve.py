"""The adjoint equation by methods that take the Jacobian of what they integrate."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from optlayers.errors import SolverRefused
from optlayers.functional import integrate
from optlayers.implicit import adjoint_states, backsolve
from optlayers.solvers.ode import Leapfrog
from optlayers.solvers.ode.control import FixedStep
from tests.solvers.ode.stiff_problems import (
    RATES,
    robertson,
    robertson_sensitivities,
)

D = torch.float64


def swinging(solver, gradient, **options):
    """Gradients of a forced van der Pol oscillator in its rate and its start."""
    rate = torch.tensor(2.0, dtype=D, requires_grad=True)
    start = torch.tensor([[2.0, 0.0], [1.0, -1.0]], dtype=D, requires_grad=True)

    def field(t, x):
        force = rate * (1 - x[:, 0] ** 2) * x[:, 1] - x[:, 0] + torch.sin(t)
        return torch.stack([x[:, 1], force], 1)

    times = torch.tensor([0.0, 1.0], dtype=D)
    solved = integrate(field, start, times, solver=solver, gradient=gradient, **options)
    return torch.autograd.grad(solved.value[:, -1].square().sum(), (rate, start))


@pytest.mark.parametrize("solver", ["rodas5p", "kvaerno5"])
def test_gradients_are_those_of_an_explicit_method(solver):
    found = swinging(solver, "backsolve", rtol=1e-8)
    wanted = swinging("dopri8", "direct", rtol=1e-10)
    # The way back is integrated to the same tolerance; the error is some multiples.
    for one, other in zip(found, wanted, strict=True):
        assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_the_adjoint_equation_has_the_jacobian_of_a_finite_difference():
    def field(t, x):
        return torch.stack([x[:, 1] * t, torch.sin(x[:, 0]) * x[:, 1]], 1)

    states = adjoint_states.JoinedStates(torch.zeros(1, 2, 2, dtype=D), None)
    rate = adjoint_states.adjoint_field(field, states)
    time = torch.tensor([-0.5], dtype=D, requires_grad=True)
    state = torch.tensor([[0.3, -0.7, 1.1, 0.4]], dtype=D, requires_grad=True)
    assert torch.autograd.gradcheck(rate, (time, state))


def test_rodas5p_goes_back_in_about_as_many_steps_as_forward():
    counts = []

    def field(t, x):
        counts.append(1)
        return -x * (1 + x * x) + torch.sin(t).unsqueeze(1)

    start = torch.ones(1, 1, dtype=D, requires_grad=True)
    times = torch.tensor([0.0, 2.0], dtype=D)
    solved = integrate(
        field, start, times, solver="rodas5p", gradient="backsolve", rtol=1e-8
    )
    forward = len(counts)
    solved.value[:, -1].sum().backward()
    # Of a method that had lost its order there would be hundreds of times as many.
    assert len(counts) - forward < 8 * forward


def test_leapfrog_says_that_it_cannot_go_back():
    def field(t, x):
        return torch.stack([x[:, 1], -x[:, 0]], 1)

    start = torch.ones(1, 2, dtype=D, requires_grad=True)
    solver = Leapfrog(control=FixedStep(size=0.01))
    times = torch.tensor([0.0, 1.0], dtype=D)
    solved = integrate(field, start, times, solver=solver, gradient="backsolve")
    with pytest.raises(SolverRefused, match='gradient="backsolve" integrates states'):
        solved.value[:, -1].sum().backward()


GRADIENTS = ("direct", "sweep", "checkpoint", "backsolve")


@pytest.fixture(scope="module")
def robertson_by_sensitivities():
    """d(w x(40))/dx0 and /dk, w = (1, 1.5, 2)."""
    by_start, by_rates = robertson_sensitivities(40.0)
    weight = np.array([1.0, 1.5, 2.0])
    return weight @ by_start, weight @ by_rates


@pytest.mark.parametrize(
    ("solver", "gradient"),
    [("rodas5p", one) for one in GRADIENTS]
    + [pytest.param("kvaerno5", one, marks=pytest.mark.slow) for one in GRADIENTS]
    + [pytest.param("auto", "backsolve", marks=pytest.mark.slow)],
)
def test_stiff_gradients_are_those_of_the_sensitivities(
    solver, gradient, robertson_by_sensitivities
):
    rates = torch.tensor(RATES, dtype=D, requires_grad=True)
    start = torch.tensor([[1.0, 0.0, 0.0]], dtype=D, requires_grad=True)
    solved = integrate(
        robertson(rates), start, torch.tensor([0.0, 40.0], dtype=D), solver=solver,
        gradient=gradient, rtol=1e-8, atol=1e-13,
    )  # fmt: skip
    total = solved.value[0, -1] @ torch.tensor([1.0, 1.5, 2.0], dtype=D)
    found = torch.autograd.grad(total, (start, rates))
    for one, wanted in zip(found, robertson_by_sensitivities, strict=True):
        error = np.abs(one.numpy().ravel() - wanted) / np.abs(wanted)
        assert error.max() < 1e-6


@pytest.mark.parametrize("solver", ["rodas5p", "auto"])
def test_states_are_looked_up_in_samples_of_any_stiffness_and_direction(solver):
    # x' = -k (x - cos t) in one sample, the same backward in time in the other.
    rate = torch.tensor([1e4, 50.0], dtype=D, requires_grad=True)
    sign = torch.tensor([1.0, -1.0], dtype=D)
    times = torch.tensor([[0.0, 0.5, 1.0], [0.0, -0.3, -2.0]], dtype=D)

    def found(gradient):
        def field(t, x):
            return -(sign * rate).unsqueeze(1) * (x - torch.cos(t).unsqueeze(1))

        start = torch.tensor([[1.5], [2.0]], dtype=D, requires_grad=True)
        value = integrate(
            field, start, times, solver=solver, gradient=gradient, rtol=1e-8
        ).value
        return torch.autograd.grad(value.square().sum(), (rate, start))

    for one, other in zip(found("backsolve"), found("direct"), strict=True):
        # Relative to each sample: derivatives in the stiff rate are small.
        assert_close(one, other, rtol=1e-5, atol=1e-12)


def test_a_stiff_sample_that_fails_has_no_gradient_and_leaks_none():
    rate = torch.tensor(1.0, dtype=D, requires_grad=True)
    times = torch.tensor([0.0, 1.0], dtype=D)

    def gradients(*rows):
        start = torch.tensor(rows, dtype=D).unsqueeze(1).requires_grad_()
        solved = integrate(
            lambda t, x: rate * x * x, start, times, solver="rodas5p",
            gradient="backsolve", on_failure="nan",
        )  # fmt: skip
        total = solved.value[solved.ok].sum()
        return torch.autograd.grad(total, (rate, start))

    in_rate, in_start = gradients(0.1, 5.0, 0.2)
    alone = gradients(0.1, 0.2)
    assert in_start[1].eq(0).all()
    assert_close(in_start[[0, 2]], alone[1])
    assert_close(in_rate, alone[0])


def lagging(solver, gradient, saves, rows=(200.0,), rtol=1e-8):
    """d u(1) / d(w, start) of u' = v, v' = u - w v."""
    rate = torch.tensor(rows, dtype=D, requires_grad=True)
    start = torch.tensor([[1.0, 0.0]] * len(rows), dtype=D, requires_grad=True)

    def field(t, x):
        return torch.stack([x[:, 1], x[:, 0] - rate * x[:, 1]], 1)

    times = torch.linspace(0.0, 1.0, saves, dtype=D)
    value = integrate(
        field, start, times, solver=solver, gradient=gradient, rtol=rtol
    ).value
    return torch.autograd.grad(value[:, -1, 0].sum(), (rate, start))


def lagging_exactly(*rows):
    """The same by the matrix exponential."""
    rate = torch.tensor(rows, dtype=D, requires_grad=True)
    start = torch.tensor([[1.0, 0.0]] * len(rows), dtype=D, requires_grad=True)
    zero, one = torch.zeros_like(rate), torch.ones_like(rate)
    matrix = torch.stack([zero, one, one, -rate], 1).view(-1, 2, 2)
    value = (torch.linalg.matrix_exp(matrix) @ start.unsqueeze(2)).squeeze(2)
    return torch.autograd.grad(value[:, 0].sum(), (rate, start))


@pytest.mark.parametrize(
    ("solver", "saves"), [("dopri5", 4), ("auto", 4), ("rodas5p", 2), ("kvaerno5", 2)]
)
def test_neither_unstable_states_nor_unseen_ones_spoil_a_gradient(solver, saves):
    # Backward in time v grows e^(66) times between saves: explicit methods came back
    # with a derivative 2e18 times too large. Of implicit ones lambda is smooth where v
    # is not: steps as long as it allows lost 0.7 % of the integral.
    found = lagging(solver, "backsolve", saves)
    for one, wanted in zip(found, lagging_exactly(200.0), strict=True):
        assert_close(one, wanted, rtol=1e-6, atol=1e-10)


def test_a_sample_that_goes_astray_leaves_its_company_as_it_is():
    found = lagging("dopri5", "backsolve", 3, rows=(1.0, 200.0, 9.0))
    wanted = lagging_exactly(1.0, 200.0, 9.0)
    for one, other in zip(found, wanted, strict=True):
        assert_close(one, other, rtol=1e-6, atol=1e-10)


def test_states_that_come_back_are_not_looked_up(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("states were kept")

    monkeypatch.setattr(backsolve, "record", refuse)
    found = lagging("dopri5", "backsolve", 3, rows=(1.0,))
    assert_close(found[0], lagging_exactly(1.0)[0], rtol=1e-6, atol=0.0)


def test_save_times_without_gradient_are_not_gone_back_over():
    counts = []

    def field(t, x):
        counts.append(1)
        return -x

    start = torch.ones(1, 1, dtype=D, requires_grad=True)
    value = integrate(
        field, start, torch.linspace(0.0, 9.0, 10, dtype=D), solver="dopri5",
        gradient="backsolve",
    ).value  # fmt: skip
    counts.clear()
    value[:, 0].sum().backward()
    assert not counts
    assert_close(start.grad, torch.ones_like(start), rtol=0.0, atol=0.0)
