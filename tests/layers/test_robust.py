"""Declared robust fits: the method for them, their derivative, batches and modules."""

import pytest
import torch
from torch.autograd import gradcheck
from torch.testing import assert_close

import optlayers as ol
from optlayers import Parameter, Variable, minimize
from optlayers.functional import least_squares

DOUBLE = {"dtype": torch.float64}
TRUTH = torch.tensor([2.0, 1.2, 0.5], **DOUBLE)
T = torch.linspace(0, 4, 25, **DOUBLE)


@ol.problem
def robust(
    b=Variable("3", start=(1, 1, 0)),
    t=Parameter("m"),
    y=Parameter("m"),
    scale=Parameter(nonneg=True),
):
    r = b[0] * ol.exp(-b[1] * t) + b[2] - y
    return minimize(scale**2 * ol.sum(ol.log(1 + (r / scale) ** 2)))


def measured(batch):
    """Values of a decay, [batch, 25], every sixth of which is far off."""
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(batch, 25, generator=generator, **DOUBLE)
    y = TRUTH[0] * torch.exp(-TRUTH[1] * T) + TRUTH[2] + 0.05 * noise
    y[:, ::6] += 1.5
    return y


def by_function(y, scale):
    def residuals(b):
        return b[:, :1] * torch.exp(-b[:, 1:2] * T) + b[:, 2:] - y

    start = torch.tensor([[1.0, 1.0, 0.0]], **DOUBLE).expand(len(y), -1)
    return least_squares(
        residuals, start, loss="cauchy", scale=scale, tolerance=1e-10
    ).value


@pytest.mark.parametrize("solver", ["auto", "levenberg_marquardt", "gauss_newton"])
def test_a_declared_loss_gives_the_fit_of_the_function(solver):
    y, scale = measured(4), torch.tensor([0.05, 0.1, 0.2, 0.4], **DOUBLE)
    layer = robust.layer(solver=solver, tolerance=1e-10)
    out = layer(t=T, y=y, scale=scale)
    assert_close(out.b, by_function(y, scale), rtol=0, atol=1e-6)
    assert int(out.stats["steps"].max()) <= 40


def test_the_scale_of_a_loss_is_learned_like_any_parameter():
    layer = robust.layer(tolerance=1e-12)
    y = measured(2).requires_grad_()
    scale = torch.tensor(0.2, requires_grad=True, **DOUBLE)

    def fit(y, scale):
        return layer(t=T, y=y, scale=scale).b

    assert gradcheck(fit, (y, scale), fast_mode=True)


def test_the_value_has_its_derivative_in_the_scale():
    layer = robust.layer(tolerance=1e-10)
    y, scale = measured(1), torch.tensor(0.2, requires_grad=True, **DOUBLE)
    layer(t=T, y=y, scale=scale).objective.sum().backward()
    step = 1e-5
    values = [
        layer(t=T, y=y, scale=scale.detach() + sign * step).objective.sum()
        for sign in (1, -1)
    ]
    difference = (values[0] - values[1]) / (2 * step)
    assert_close(scale.grad, difference, rtol=1e-6, atol=0)


def test_a_network_among_the_residuals_is_called_by_the_loss_too():
    network = torch.nn.Linear(1, 1).double()

    @ol.problem
    def fit(b=Variable("2", start=(1, 1)), y=Parameter("25")):
        r = b[0] * network(ol.exp(-b[1] * T)[:, None])[:, 0] - y
        return minimize(ol.sum(ol.huber(r, 0.3)) + 0.1 * ol.sum_squares(b))

    out = fit.layer()(measured(3))
    assert out.ok.all()
    out.b.sum().backward()
    assert network.weight.grad is not None and bool(network.weight.grad != 0)
