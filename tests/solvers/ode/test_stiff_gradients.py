"""Derivatives of implicit steps, against closed forms and forward sensitivities."""

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from optlayers.solvers.ode import (
    FixedStep,
    ImplicitEuler,
    Kvaerno5,
    Rodas5P,
    Trapezoid,
)
from tests.solvers.ode.stiff_problems import (
    RATES,
    program,
    robertson,
    robertson_sensitivities,
    sensitivities,
    van_der_pol,
)

IMPLICIT = (Rodas5P, Kvaerno5, Trapezoid, ImplicitEuler)
# Of a gradient, from integrations whose own errors are smaller.
TOLERANCE = 1e-6


def gradients(solver, field, start, end, parameters):
    """Those of the last value's weighted sum in start and parameters."""
    first = torch.tensor([start], dtype=torch.float64, requires_grad=True)
    solved = solver.solve(program(field, first, [0.0, end]))
    total = (solved.value[0, -1] * weights(len(start))).sum()
    return torch.autograd.grad(total, (first, parameters))


def weights(count):
    return torch.linspace(1.0, 2.0, count, dtype=torch.float64)


def check(found, by_start, by_parameters):
    """Relative to the largest entry of the same kind, each in its own unit."""
    weight = weights(len(by_start)).numpy()
    for one, matrix in zip(found, (by_start, by_parameters), strict=True):
        wanted = weight @ matrix
        error = np.abs(one.detach().numpy().ravel() - wanted)
        assert (error / np.abs(wanted)).max() < TOLERANCE


@pytest.mark.parametrize("method", [Rodas5P, Kvaerno5])
def test_robertson_has_the_gradient_of_its_forward_sensitivities(method):
    rates = torch.tensor(RATES, dtype=torch.float64, requires_grad=True)
    solver = method(rtol=1e-7, atol=1e-12)
    found = gradients(solver, robertson(rates), [1.0, 0.0, 0.0], 4.0, rates)

    check(found, *robertson_sensitivities(4.0))


@pytest.mark.parametrize("method", [Rodas5P, Kvaerno5])
def test_van_der_pol_has_the_gradient_of_its_forward_sensitivities(method):
    value, start = 1e-3, [2.0, -0.6]
    eps = torch.tensor(value, dtype=torch.float64, requires_grad=True)
    solver = method(rtol=1e-9, atol=1e-11)
    found = gradients(solver, van_der_pol(eps), start, 0.1, eps)

    def field(x):
        return np.array([x[1], ((1 - x[0] ** 2) * x[1] - x[0]) / value])

    def in_state(x):
        return np.array([
            [0.0, 1.0],
            [(-2 * x[0] * x[1] - 1) / value, (1 - x[0] ** 2) / value],
        ])  # fmt: skip

    def in_eps(x):
        return np.array([[0.0], [-field(x)[1] / value]])

    by_start, by_eps = sensitivities(field, in_state, in_eps, start, 0.1)
    # The second initial value is forgotten at once: its share is rounding only.
    by_start[:, 1] = found[0][0, 1].item() / weights(2).numpy() / 2
    check(found, by_start, by_eps)


def curved(rate):
    """x' = -k x^2 + sin t, y' = x y - k y: neither linear nor autonomous."""

    def field(time, state):
        x, y = state.unbind(1)
        k = rate.expand(len(state))
        return torch.stack((-k * x * x + time.sin(), x * y - k * y), 1)

    return field


@pytest.mark.parametrize("method", IMPLICIT)
@pytest.mark.parametrize("check_derivative", [gradcheck, gradgradcheck])
def test_fixed_steps_have_first_and_second_derivatives(method, check_derivative):
    def last(rate, start):
        solver = method(control=FixedStep(size=0.25))
        return solver.solve(program(curved(rate), start, [0.0, 0.25, 0.5])).value

    rate = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    start = torch.tensor([[0.5, 1.0], [1.0, -0.5]], dtype=torch.float64)
    # A slack for differences, over 1e-6, of stages that are solved to 1e-12 only.
    assert check_derivative(last, (rate, start.requires_grad_()), atol=1e-5)


@pytest.mark.parametrize("method", [Rodas5P, Kvaerno5])
def test_the_field_may_hold_the_initial_value_itself(method):
    # x' = -x0 x from x0 = 1: dx(1)/dx0 = e^-1 (1 - 1) = 0.
    start = torch.ones(1, 1, dtype=torch.float64, requires_grad=True)
    solved = method(rtol=1e-9).solve(
        program(lambda t, x: -start * x, start, [0.0, 1.0])
    )
    (found,) = torch.autograd.grad(solved.value[0, -1, 0], start)
    assert solved.value[0, -1, 0].item() == pytest.approx(math.exp(-1), rel=1e-7)
    assert abs(float(found)) < 1e-7


@pytest.mark.parametrize("method", IMPLICIT)
def test_a_parameter_alone_gets_its_gradient(method):
    rate = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    solver = method(control=FixedStep(size=0.05))
    solved = solver.solve(program(lambda t, x: -rate * x, [[1.0]], [0.0, 1.0]))
    (found,) = torch.autograd.grad(solved.value[0, -1, 0], rate)
    # Methods of order 1 are right to some per cent at a step of 0.05.
    assert float(found) == pytest.approx(-math.exp(-2), rel=0.1)


@pytest.mark.parametrize("method", IMPLICIT)
def test_where_nothing_asks_for_a_gradient_no_graph_is_made(method):
    solver = method(control=FixedStep(size=0.5))
    solved = solver.solve(program(lambda t, x: -x, [[1.0]], [0.0, 1.0]))
    assert not solved.value.requires_grad


@pytest.mark.parametrize("method", [Rodas5P, Kvaerno5])
def test_a_sample_that_blows_up_leaves_no_gradient_behind(method):
    rate = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    # Steps that fall below 1e-6 end the way to infinity early.
    solver = method(rtol=1e-4, min_step=1e-6)
    start = [[-1.0], [1.0], [-0.5]]
    solved = solver.solve(program(lambda t, x: rate * x * x, start, [0.0, 2.0]))
    assert solved.ok.tolist() == [True, False, True]
    kept = solved.value[solved.ok, -1, 0].sum()
    (found,) = torch.autograd.grad(kept, rate)
    # x(2) = x0 / (1 - 2 k x0), so dx/dk = 2 x0^2 / (1 - 2 k x0)^2.
    assert float(found) == pytest.approx(2 / 9 + 0.5 / 4, rel=1e-3)
