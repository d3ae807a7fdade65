"""Values at jumps, and derivatives where nothing happened or nobody was asked for."""

import pytest
import torch

import optlayers as ol
from optlayers import Parameter, State, Time, integrate

D = torch.float64


@ol.problem
def ball(h=State(), v=State(), h0=Parameter(), e=Parameter(), t=Time()):
    return integrate(
        ol.der(h) == v,
        ol.der(v) == -9.81,
        h.first == h0,
        v.first == 0,
        impact=ol.event(h, direction=-1, jump={v: -e * v}),
    )


def clock(*, terminal):
    @ol.problem
    def reset(x=State(), c=Parameter(), t=Time()):
        hit = ol.event(t - c, terminal=terminal, jump={x: 0 * x + 7})
        return integrate(ol.der(x) == 1 + 0 * c, x.first == 0, hit=hit)

    return reset


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("sign", [1, -1])
def test_at_the_time_of_a_jump_values_are_those_before_it(terminal, sign):
    times = sign * torch.tensor([0.0, 0.3, 0.5, 1.0], dtype=D)
    c = sign * torch.tensor([0.5, 0.3], dtype=D)
    found = clock(terminal=terminal)(c=c, t=times)
    assert torch.allclose(found.x[0, 2], times[2])
    assert torch.allclose(found.x[1, 1], times[1])
    assert torch.allclose(found.at(times).x, found.x)
    after = 7 + (0 if terminal else times[3] - c)
    assert torch.allclose(found.x[:, 3], after + torch.zeros(2, dtype=D))


def test_values_at_save_times_have_their_derivative_in_time_at_both_ends():
    @ol.problem
    def decay(x=State(), t=Time()):
        return integrate(ol.der(x) == -x, x.first == 2)

    asked = torch.tensor([0.0, 0.4, 1.0], dtype=D, requires_grad=True)
    values = decay(t=asked.detach()).at(asked).x
    (slope,) = torch.autograd.grad(values.sum(), asked)
    assert torch.allclose(slope, -2 * torch.exp(-asked), atol=1e-4)


def test_an_event_that_no_sample_meets_has_a_gradient_of_zero():
    h0 = torch.tensor([100.0, 50.0], dtype=D, requires_grad=True)
    e = torch.tensor(0.8, dtype=D, requires_grad=True)
    log = ball(h0=h0, e=e, t=[0, 0.5]).events.impact
    assert log.times.shape == (2, 0)
    (log.times.sum() + log.v.sum()).backward()
    assert not h0.grad.any() and not e.grad.any()


@pytest.mark.parametrize("gradient", ["exact", "checkpoint", "steady_state"])
def test_an_empty_batch_has_a_gradient_of_zero(gradient):
    @ol.problem
    def decay(x=State(), x0=Parameter(), k=Parameter(), t=Time()):
        return integrate(ol.der(x) == -k * x, x.first == x0)

    k = torch.ones((), dtype=D, requires_grad=True)
    x0 = torch.zeros(0, dtype=D, requires_grad=True)
    decay(x0=x0, k=k, t=[0, 1], gradient=gradient).x.sum().backward()
    assert k.grad == 0 and x0.grad.shape == (0,)


def test_a_sample_that_explodes_ends_alone_where_steps_are_shared():
    @ol.problem
    def exploding(x=State(), x0=Parameter(), t=Time()):
        return integrate(ol.der(x) == x**2, x.first == x0)

    x0 = torch.tensor([0.1, 1.0], dtype=D)
    solver = ol.solvers.ode.Tsit5(joint=True)
    found = exploding(x0=x0, t=[0, 2], solver=solver, on_failure="nan")
    assert found.ok.tolist() == [True, False]
    assert abs(float(found.x[0, 1]) - 0.125) < 1e-6
