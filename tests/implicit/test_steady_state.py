"""The derivative of a final value that has come to rest, and of those before it."""

import pytest
import torch

import optlayers as ol
from optlayers import Parameter, State, Time, integrate
from optlayers.errors import NotSupported

D = torch.float64


@ol.problem
def valve(x=State(2), a=Parameter(2), x0=Parameter(2), t=Time()):
    return integrate(
        ol.der(x) == ol.stack([a[0] - x[0] ** 3 - x[1], x[0] - a[1] * x[1]]),
        x.first == x0,
    )


def path(times, **requires):
    a = torch.tensor([2.0, 1.0], dtype=D, requires_grad=requires.get("a", False))
    x0 = torch.tensor([1.5, 1.0], dtype=D, requires_grad=requires.get("x0", False))
    t = torch.tensor(times, dtype=D)
    found = valve(a=a, x0=x0, t=t, gradient="steady_state", tolerance=1e-9)
    return found.x, a, x0


def test_the_last_value_has_the_derivative_of_the_rest():
    x, a, _ = path([0.0, 30.0, 60.0], a=True)
    # a0 = x^3 + x / a1 at rest: dx/da0 = 1 / (3 x^2 + 1 / a1), x = 1.
    (slope,) = torch.autograd.grad(x[-1, 0], a)
    assert torch.allclose(slope, torch.tensor([0.25, 0.25], dtype=D), atol=1e-6)


@pytest.mark.parametrize("wanted", [{"a": True}, {"x0": True}])
def test_a_derivative_on_the_way_is_refused(wanted):
    x, *given = path([0.0, 30.0, 60.0], **wanted)
    with pytest.raises(NotSupported, match=r"save time 1, t = 30, is not zero"):
        torch.autograd.grad(x[1].sum(), [one for one in given if one.requires_grad])


def test_the_first_value_is_the_initial_one():
    x, _, x0 = path([0.0, 30.0, 60.0], x0=True)
    (slope,) = torch.autograd.grad(x[0].sum() + x[-1].sum(), x0)
    assert torch.equal(slope, torch.ones(2, dtype=D))
