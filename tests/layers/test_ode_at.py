"""States at other times than those saved: graphs of their own, and what has changed."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import optlayers as ol
from optlayers import Parameter, State, Time, integrate
from optlayers.errors import ParameterError
from optlayers.functional import integrate as functional_integrate

D = torch.float64
# Dense output is of a lower order than the steps; at rtol 1e-9 it keeps 1e-6.
CLOSE = {"rtol": 0, "atol": 1e-6}


@ol.problem
def decay(x=State(), x0=Parameter(), rate=Parameter(), t=Time()):
    return integrate(ol.der(x) == -rate * x, x.first == 2 * x0 * rate)


def call(rate):
    t = torch.tensor([0.0, 4.0], dtype=D)
    return decay(x0=torch.ones(3, dtype=D), rate=rate, t=t, tolerance=1e-9)


def learned():
    net = nn.Linear(1, 1, bias=False).to(D)
    with torch.no_grad():
        net.weight.fill_(-0.5)

    @ol.problem
    def following(x=State(1), x0=Parameter(1), t=Time()):
        return integrate(ol.der(x) == net(x), x.first == x0)

    t = torch.tensor([0.0, 2.0], dtype=D)
    return net, following(x0=torch.ones(1, dtype=D), t=t, tolerance=1e-9)


def test_two_uses_are_gone_back_through_one_by_one():
    rate = torch.tensor(0.5, dtype=D, requires_grad=True)
    out = call(rate)
    out.x[:, -1].sum().backward()
    rate.grad = None
    for time in (1.0, 2.0):
        out.at(torch.tensor([time], dtype=D)).x.sum().backward()
    wanted = sum(
        3 * 2 * torch.exp(-rate.detach() * t) * (1 - rate.detach() * t)
        for t in (1.0, 2.0)
    )
    assert_close(rate.grad, torch.as_tensor(wanted), **CLOSE)


def test_a_use_without_gradient_takes_none_from_the_next():
    rate = torch.tensor(0.5, dtype=D, requires_grad=True)
    out = call(rate)
    with torch.no_grad():
        assert not out.at([1.0]).x.requires_grad
    (gradient,) = torch.autograd.grad(out.at([1.0]).x[0].sum(), rate)
    assert_close(gradient, torch.exp(-rate.detach()) * 1.0, **CLOSE)


def test_uses_without_gradient_share_one_integration():
    calls = []

    class Counting(nn.Module):
        def forward(self, x):
            calls.append(1)
            return -x

    net = Counting()

    @ol.problem
    def counted(x=State(1), x0=Parameter(1), t=Time()):
        return integrate(ol.der(x) == net(x), x.first == x0)

    out = counted(x0=torch.ones(1, dtype=D), t=torch.tensor([0.0, 1.0], dtype=D))
    out.at([0.5])
    once = len(calls)
    out.at([0.7])
    assert len(calls) == once


def test_weights_that_have_changed_since_are_named():
    net, out = learned()
    out.at([1.0])
    with torch.no_grad():
        net.weight.mul_(2)
    with pytest.raises(ParameterError, match=r"net\.weight has changed since this"):
        out.at([1.0])


def test_weights_that_were_replaced_since_are_named():
    net, out = learned()
    net.weight = nn.Parameter(torch.zeros(1, 1, dtype=D))
    with pytest.raises(ParameterError, match="or ask at\\(\\) before the step"):
        out.at([1.0])


def test_a_parameter_that_was_changed_in_place_is_named():
    rate = torch.tensor(0.5, dtype=D)
    out = call(rate)
    rate.fill_(3.0)
    with pytest.raises(ParameterError, match="decay: rate has changed since"):
        out.at([1.0])


def test_sparse_buffers_are_watched_by_their_version():
    class Coupled(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("coupling", torch.eye(2, dtype=D).to_sparse())

        def forward(self, x):
            return -(self.coupling @ x.unsqueeze(-1)).squeeze(-1)

    net = Coupled()

    @ol.problem
    def following(x=State(2), x0=Parameter(2), t=Time()):
        return integrate(ol.der(x) == net(x), x.first == x0)

    out = following(x0=torch.ones(2, dtype=D), t=torch.tensor([0.0, 1.0], dtype=D))
    assert_close(out.at(1.0).x, out.x[-1])
    net.coupling = torch.zeros(2, 2, dtype=D).to_sparse()
    with torch.no_grad(), pytest.raises(ParameterError, match=r"net\.coupling has"):
        out.at(0.5)


def test_what_was_integrated_before_a_change_is_still_told():
    net, out = learned()
    with torch.no_grad():
        before = out.at([1.0]).x
        net.weight.mul_(2)
        assert torch.equal(out.at([1.0]).x, before)


def test_one_number_has_no_axis_of_time():
    out = call(torch.tensor(0.5, dtype=D))
    assert out.at(0.5).x.shape == (3,)
    assert_close(out.at(0.5).x, out.at([0.5]).x[:, 0])
    assert out.at(torch.tensor(0.5, dtype=D)).x.shape == (3,)


def test_one_number_has_no_axis_of_time_in_a_function_either():
    start = {"a": torch.ones(2, 3, dtype=D), "b": torch.ones(2, dtype=D)}
    solved = functional_integrate(
        lambda t, x: {"a": -x["a"], "b": x["b"]}, start, [0.0, 1.0], dense=True
    )
    found = solved.at(0.5)
    assert found["a"].shape == (2, 3)
    assert found["b"].shape == (2,)
    assert_close(found["b"], solved.at([0.5])["b"][:, 0])


def test_a_gradient_of_another_kind_is_refused_at_the_call():
    layer = decay.layer()
    given = {"x0": torch.ones(1), "rate": torch.ones(()), "t": [0.0, 1.0]}
    layer(**given)
    with pytest.raises(ParameterError, match="one of exact, direct, sweep") as caught:
        layer(**given, gradient="dense")
    assert "diffcp" not in str(caught.value)
