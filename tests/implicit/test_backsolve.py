"""The adjoint equation by methods that take the Jacobian of what they integrate."""

import pytest
import torch
from torch.testing import assert_close

from optlayers.errors import SolverRefused
from optlayers.functional import integrate
from optlayers.implicit import backsolve
from optlayers.solvers.ode import Leapfrog
from optlayers.solvers.ode.control import FixedStep

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

    rate = backsolve._adjoint_field(field, 2)
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
