"""`compile=True` where more than steps happens: events, handovers, layers."""

import pytest
import torch
from torch.testing import assert_close

import optlayers as ol
from optlayers import Parameter, State, Time
from optlayers.errors import CompileWarning
from optlayers.functional import Event, integrate
from optlayers.solvers import ode

D = torch.float64
# Sums of the same terms in another order, over some dozens of steps.
ROUNDING = {"rtol": 1e-9, "atol": 1e-12}

pytestmark = pytest.mark.slow


def both(field, start, times, method, rtol=1e-6, **options):
    """With compiled steps, and with the usual ones."""
    solvers = [method(compile=one, rtol=rtol) for one in (True, False)]
    with torch.no_grad():
        return [
            integrate(field, start, times, solver=one, **options) for one in solvers
        ]


@pytest.mark.parametrize("terminal", [False, True])
def test_events_are_found_in_compiled_steps(terminal, graphs):
    def falling(t, x):
        return torch.stack((x[:, 1], -9.81 + 0 * x[:, 0]), 1)

    def bounced(t, x):
        return torch.stack((0 * x[:, 0], -0.8 * x[:, 1]), 1)

    impact = Event(
        lambda t, x: x[:, 0], terminal=terminal, direction=-1,
        jump=None if terminal else bounced,
    )  # fmt: skip
    height = torch.tensor([1.0, 2.0], dtype=D)
    start = torch.stack((height, 0 * height), 1)
    times = torch.linspace(0, 1, 5, dtype=D)
    found, usual = both(falling, start, times, ode.Dopri5, events=impact)
    first = (2 * height / 9.81).sqrt()
    # A parabola, which steps of order 5 follow exactly.
    assert_close(found.events[0].times[:, 0], first, rtol=0, atol=1e-11)
    assert_close(found.value, usual.value, **ROUNDING)
    assert_close(found.events[0].states, usual.events[0].states, equal_nan=True,
                 **ROUNDING)  # fmt: skip
    assert len(graphs) == 1


def test_stiff_samples_are_handed_over_from_compiled_steps_to_compiled_steps(graphs):
    rates = torch.tensor([1e4, 1.0], dtype=D).unsqueeze(1)
    times = torch.tensor([0.0, 0.5, 2.0], dtype=D)

    def field(t, x):
        return -rates * (x - t.cos().unsqueeze(1))

    start = torch.full((2, 1), 2.0, dtype=D)
    found, usual = both(field, start, times, ode.Auto, rtol=1e-8)
    assert found.stats["is_stiff"].tolist() == [True, False]
    # Steps may differ where roundings decide; the error is that of the tolerance.
    assert_close(found.value, usual.value, rtol=0, atol=1e-6)
    a, t = rates, times
    steady = (a * a * t.cos() + a * t.sin()) / (a * a + 1)
    exact = steady + (2 - a * a / (a * a + 1)) * (-a * t).exp()
    assert_close(found.value[..., 0], exact, rtol=0, atol=1e-6)
    assert len(graphs) == 2  # one of each method


@ol.problem
def pendulum(q=State(), v=State(), q0=Parameter(), damping=Parameter(), t=Time()):
    return ol.integrate(
        ol.der(q) == v,
        ol.der(v) == -9.81 * ol.sin(q) - damping * v,
        start_q=q.first == q0,
        start_v=v.first == 0,
    )


def test_layers_of_declarations_compile_their_steps(graphs):
    q0 = torch.tensor([0.5, 1.0, 2.0], dtype=D)
    damping = torch.tensor([0.1, 0.2, 0.3], dtype=D)
    t = torch.linspace(0, 2, 5, dtype=D)
    with torch.no_grad():
        found, usual = (
            pendulum.layer(solver=ode.Dopri5(compile=one))(q0=q0, damping=damping, t=t)
            for one in (True, False)
        )
    assert_close(found.q, usual.q, **ROUNDING)
    assert_close(found.v, usual.v, **ROUNDING)
    assert len(graphs) == 1


def test_a_layer_with_compiled_steps_has_its_usual_gradient(graphs):
    def gradient(compile):
        damping = torch.tensor([0.1, 0.2], dtype=D, requires_grad=True)
        layer = pendulum.layer(solver=ode.Dopri5(compile=compile))
        out = layer(q0=0.5, damping=damping, t=torch.linspace(0, 2, 5, dtype=D))
        return torch.autograd.grad(out.q.square().sum(), damping)[0]

    assert_close(gradient(True), gradient(False), **ROUNDING)
    assert len(graphs) == 1


def test_steps_of_kvaerno5_do_not_compile_and_it_says_so(graphs):
    # The root solver of its stages asks for values between its iterations.
    def field(t, x):
        return -50 * (x - t.cos().unsqueeze(1))

    start = torch.tensor([[2.0], [0.0]], dtype=D)
    times = torch.tensor([0.0, 0.1, 1.0], dtype=D)
    with pytest.warns(CompileWarning, match="compile=True has no effect"):
        found, usual = both(field, start, times, ode.Kvaerno5)
    assert torch.equal(found.value, usual.value)
    assert not graphs
