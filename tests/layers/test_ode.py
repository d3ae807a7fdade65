"""Layers of declared differential equations: values, batches, gradients, failures."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import optlayers as ol
from optlayers import Control, Parameter, State, Time, integrate
from optlayers.errors import (
    InvalidDataError,
    ParameterError,
    ShapeError,
    SolveError,
    TransformError,
)
from optlayers.functional import integrate as functional_integrate

D = torch.float64


@ol.problem
def decay(x=State(), x0=Parameter(), rate=Parameter(nonneg=True), t=Time()):
    return integrate(ol.der(x) == -rate * x, start=x.first == x0)


@ol.problem
def pendulum(q=State(), v=State(), q0=Parameter(), damping=Parameter(), t=Time()):
    return integrate(
        ol.der(q) == v,
        ol.der(v) == -9.81 * ol.sin(q) - damping * v,
        start_q=q.first == q0,
        start_v=v.first == 0,
    )


@ol.problem
def driven(
    x=State("n"), u=Control("m"), A=Parameter("n n"), B=Parameter("n m"),
    x0=Parameter("n"),
):  # fmt: skip
    return integrate(flow=ol.der(x) == A @ x + B @ u, start=x.first == x0)


@ol.problem
def ball(
    h=State(), v=State(), h0=Parameter(), e=Parameter(), g=Parameter(), t=Time()
):  # fmt: skip
    return integrate(
        ol.der(h) == v,
        ol.der(v) == -g,
        h.first == h0,
        v.first == 0,
        impact=ol.event(h, direction=-1, jump={v: -e * v}),
    )


def times(end: float, count: int = 5) -> torch.Tensor:
    return torch.linspace(0, end, count, dtype=D)


def test_exponential_decay_in_closed_form_with_all_its_derivatives():
    x0 = torch.tensor([1.0, -2.0], dtype=D, requires_grad=True)
    rate = torch.tensor(0.7, dtype=D, requires_grad=True)
    t = times(2.0).requires_grad_()
    out = decay.layer(tolerance=1e-10)(x0=x0, rate=rate, t=t)
    exact = x0[:, None] * torch.exp(-rate * (t - t[0]))
    assert_close(out.x, exact, rtol=0, atol=1e-8)
    found = torch.autograd.grad(out.x.square().sum(), (x0, rate, t))
    wanted = torch.autograd.grad(exact.square().sum(), (x0, rate, t))
    for one, other in zip(found, wanted, strict=True):
        assert_close(one, other, rtol=0, atol=1e-7)


def test_states_have_time_after_the_batch():
    out = pendulum(
        q0=torch.rand(4, 1, dtype=D), damping=torch.rand(3, dtype=D), t=times(1.0, 6)
    )
    assert out.q.shape == out.v.shape == (4, 3, 6)
    assert out.status.shape == (4, 3)
    assert bool(out.ok.all())


def test_a_declaration_is_what_functional_integrate_solves():
    q0 = torch.tensor([0.1, 1.0], dtype=D)
    damping = torch.tensor([0.3, 0.0], dtype=D)
    out = pendulum(q0=q0, damping=damping, t=times(2.0))

    def field(time, state):
        angle, speed = state.unbind(1)
        return torch.stack([speed, -9.81 * angle.sin() - damping * speed], 1)

    start = torch.stack([q0, torch.zeros_like(q0)], 1)
    found = functional_integrate(field, start, times(2.0)).value
    assert_close(torch.stack([out.q, out.v], -1), found, rtol=0, atol=1e-12)


def test_save_times_may_be_each_samples_own_and_decrease():
    x0, rate = torch.tensor([1.0, 1.0], dtype=D), torch.tensor(0.5, dtype=D)
    t = torch.tensor([[0.0, 1.0, 2.0], [3.0, 2.0, 0.0]], dtype=D)
    out = decay.layer(tolerance=1e-9)(x0=x0, rate=rate, t=t)
    assert_close(out.x, torch.exp(-rate * (t - t[:, :1])), rtol=0, atol=1e-7)


def test_controls_hold_between_save_times():
    # A double integrator: x(T) in closed form for piecewise constant forces.
    A = torch.tensor([[0.0, 1.0], [0.0, 0.0]], dtype=D)
    B = torch.tensor([[0.0], [1.0]], dtype=D)
    t = torch.tensor([0.0, 0.5, 2.0, 3.0], dtype=D)
    force = torch.tensor([[2.0], [-1.0], [0.5]], dtype=D, requires_grad=True)
    out = driven(u=force, A=A, B=B, x0=torch.zeros(2, dtype=D), times=t)
    place, speed, wanted = 0.0, 0.0, [(0.0, 0.0)]
    for one, length in zip([2.0, -1.0, 0.5], [0.5, 1.5, 1.0], strict=True):
        place += speed * length + one * length**2 / 2
        speed += one * length
        wanted.append((place, speed))
    assert_close(out.x, torch.tensor(wanted, dtype=D), rtol=0, atol=1e-9)
    # Polynomials are exact for the method: no step is rejected at the jumps.
    assert int(out.stats["rejected"]) == 0
    (gradient,) = torch.autograd.grad(out.x[-1, 1], force)
    assert_close(gradient[:, 0], t.diff(), rtol=0, atol=1e-9)


def test_a_control_of_another_length_is_refused():
    given = {"A": torch.eye(2), "B": torch.ones(2, 1), "x0": torch.ones(2)}
    with pytest.raises(ShapeError, match="has 3 values for 3 save times; give one"):
        driven(u=torch.ones(3, 1), **given, times=torch.linspace(0, 1, 3))


def test_a_bouncing_ball_knows_its_impacts_in_closed_form():
    h0, e, g = (torch.tensor(one, dtype=D, requires_grad=True) for one in (2, 0.8, 9.8))
    out = ball.layer(tolerance=1e-10)(h0=h0, e=e, g=g, t=times(2.5, 4))
    first = torch.sqrt(2 * h0 / g)
    exact = torch.stack([first, first + 2 * e * first, first * (1 + 2 * e + 2 * e**2)])
    found = out.events.impact.times[:3]
    assert_close(found, exact, rtol=0, atol=1e-8)
    for k in range(3):
        one = torch.autograd.grad(found[k], (h0, e, g), retain_graph=True)
        other = torch.autograd.grad(
            exact[k], (h0, e, g), retain_graph=True, materialize_grads=True
        )
        assert_close(one, other, rtol=0, atol=1e-7)
    assert_close(out.events.impact.v[0], -g * first, rtol=0, atol=1e-7)


def test_dense_output_is_to_be_had_afterwards():
    rate = torch.tensor(0.5, dtype=D, requires_grad=True)
    out = decay.layer(tolerance=1e-9)(
        x0=torch.ones(3, dtype=D), rate=rate, t=torch.tensor([0.0, 4.0], dtype=D)
    )
    asked = torch.tensor([0.3, 3.3, 1.7], dtype=D)
    within = out.at(asked)
    assert_close(within.x, torch.exp(-rate * asked).expand(3, 3), rtol=0, atol=1e-6)
    (gradient,) = torch.autograd.grad(within.x[0, 0], rate)
    assert_close(gradient, -0.3 * torch.exp(-0.3 * rate), rtol=0, atol=1e-6)


def test_a_time_outside_is_refused_with_the_interval():
    out = decay(x0=torch.ones(2, dtype=D), rate=torch.ones((), dtype=D), t=times(1.0))
    with pytest.raises(ParameterError, match=r"t = 2 of sample 0 .* \[0, 1\]"):
        out.at(torch.tensor([0.5, 2.0], dtype=D))


def test_a_network_may_stand_in_the_rates():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2)).to(D)

    @ol.problem
    def learned(x=State(2), x0=Parameter(2), t=Time()):
        return integrate(ol.der(x) == net(x), x.first == x0)

    layer = learned.layer()
    x0 = torch.rand(5, 2, dtype=D)
    path = layer(x0=x0, t=times(1.0)).x
    assert_close(path, ol.NeuralODE(net)(x0, times(1.0)), rtol=0, atol=1e-12)
    names = dict(layer.named_parameters())
    path[:, -1].sum().backward()
    assert len(names) == 4
    assert all(one.grad is not None for one in names.values())


def test_broken_parameters_are_named_for_their_samples():
    rate = torch.tensor([0.5, -1.0, math.nan], dtype=D)
    with pytest.raises(InvalidDataError) as caught:
        decay(x0=torch.ones(3, dtype=D), rate=rate, t=times(1.0))
    assert "sample 1: INVALID_DATA" in str(caught.value)
    assert "rate is -1, declared Parameter(nonneg=True)" in str(caught.value)
    assert "sample 2: NOT_FINITE" in str(caught.value)


def test_a_broken_sample_changes_nothing_in_the_others():
    x0 = torch.ones(3, dtype=D, requires_grad=True)
    rates = torch.tensor([0.5, math.nan, 2.0], dtype=D)
    out = decay(x0=x0, rate=rates, t=times(1.0), on_failure="nan")
    alone = decay(x0=x0[::2], rate=rates[::2], t=times(1.0))
    assert out.ok.tolist() == [True, False, True]
    assert bool(out.x[1].isnan().all())
    assert torch.equal(out.x[::2], alone.x)
    (gradient,) = torch.autograd.grad(out.x[:, -1].nansum(), x0)
    (wanted,) = torch.autograd.grad(alone.x[:, -1].sum(), x0)
    assert torch.equal(gradient, torch.stack([wanted[0], wanted[1] * 0, wanted[2]]))


def test_a_sample_that_blows_up_is_named_with_the_time():
    @ol.problem
    def exploding(x=State(), x0=Parameter(), t=Time()):
        return integrate(ol.der(x) == x**2, x.first == x0)

    with pytest.raises(SolveError, match=r"sample 1: NOT_FINITE.*stopped at t = 1"):
        exploding(x0=torch.tensor([0.1, 1.0], dtype=D), t=times(2.0))


def test_transforms_are_refused_with_the_remedy():
    def last(rate):
        return decay(x0=torch.ones((), dtype=D), rate=rate, t=times(1.0)).x

    with pytest.raises(TransformError, match="one more batch axis"):
        torch.func.vmap(last)(torch.ones(3, dtype=D))


def test_float32_stays_float32():
    out = decay(x0=torch.ones(2), rate=torch.tensor(1.0), t=torch.linspace(0, 1, 3))
    assert out.x.dtype == torch.float32
    wanted = torch.exp(-torch.linspace(0, 1, 3)).expand(2, 3)
    assert_close(out.x, wanted, rtol=0, atol=1e-4)


def test_an_empty_batch_has_an_empty_path():
    out = decay(x0=torch.ones(0, dtype=D), rate=torch.ones((), dtype=D), t=times(1.0))
    assert out.x.shape == (0, 5)
