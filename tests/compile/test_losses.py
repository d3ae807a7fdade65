"""Robust losses: what is recognized, that it sums to the objective, and what is not."""

import pytest
import torch
from torch.testing import assert_close

import optlayers as ol
from optlayers import Parameter, Variable, minimize
from optlayers.compile.minimize import compile_minimize
from optlayers.modeling.problem import declare

DOUBLE = {"dtype": torch.float64}

# e is a vector, c a nonnegative number.
LOSSES = {
    "huber": lambda e, c: c**2 * ol.sum(ol.huber(e / c)),
    "soft_l1": lambda e, c: ol.sum(2 * (ol.sqrt(1 + e**2) - 1)),
    "cauchy": lambda e, c: ol.sum(ol.log(1 + (e / c) ** 2)),
    "log1p": lambda e, c: ol.mean(ol.log1p(ol.square(e))) / 2,
    "geman_mcclure": lambda e, c: ol.sum(e**2 / (c + e**2)),
    "welsch": lambda e, c: ol.sum(1 - ol.exp(-(e**2) / c)),
    "inverse": lambda e, c: ol.sum(1 - 1 / (1 + e * e)),
    "arctan": lambda e, c: ol.sum(torch.atan(e**2)),
    "power": lambda e, c: ol.sum((1 + e**2) ** 0.25),
    "weighted": lambda e, c: ol.sum(
        torch.tensor([1.0, 2.0, 3.0]) * ol.log1p(c * e**2) + e**2
    ),
    "one": lambda e, c: ol.log(c + (e[0] - e[2]) ** 2) + ol.sum_squares(e) / 2,
}


def compiled(loss):
    def body(x=Variable("2"), c=Parameter(nonneg=True), y=Parameter("3")):
        e = ol.hstack([x[0] * x[1], x[1] ** 2 - x[0], ol.exp(x[0])]) - y
        return minimize(loss(e, c))

    return compile_minimize(declare(body, convex=False).trace({}, None), "it bends")


def values(template):
    """The objective, and the losses of the residuals, at four points."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 2, generator=generator, **DOUBLE)
    y = torch.randn(4, 3, generator=generator, **DOUBLE)
    given = {"c": torch.tensor([0.5, 1.0, 2.0, 3.0], **DOUBLE), "y": y}
    inputs = [given[name] for name in template.inputs.parameter_ndims]
    r = template.residuals(x, inputs, {})
    return template.objective(x, inputs, {}), template.loss(r, inputs, {})


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_residuals_sum_to_the_objective(name):
    template = compiled(LOSSES[name])
    assert template.residuals is not None
    objective, losses = values(template)
    assert_close(losses.sum(1, keepdim=True), objective)


def test_each_residual_has_the_loss_of_its_own_term():
    template = compiled(lambda e, c: ol.sum(ol.huber(e)) + c * ol.sum(ol.log(1 + e**2)))
    _, losses = values(template)
    assert losses.shape == (4, 6)


def test_squares_alone_have_no_loss():
    template = compiled(lambda e, c: c * ol.sum_squares(e) + ol.mean(e**2))
    assert template.residuals is not None and template.loss is None


@pytest.mark.parametrize(
    "loss",
    [
        lambda e, c: ol.sum(e**3),
        lambda e, c: ol.sum(ol.exp(e)),
        lambda e, c: -ol.sum(ol.log(1 + e**2)),
        lambda e, c: ol.sum(ol.exp(-(e**2))),
        lambda e, c: ol.sum(1 / (1 + e**2)),
        lambda e, c: ol.log(1 + ol.sum_squares(e)),
        lambda e, c: ol.sum(e**2 * (e + 1) ** 2),
        lambda e, c: ol.sum(ol.log(1 + e**2 + (e - 1) ** 2)),
        lambda e, c: ol.sum(e * ol.log(1 + e**2)),
        lambda e, c: ol.sum(ol.hstack([e[0] ** 2, e[1]])),
        lambda e, c: ol.sum(ol.log(1 + e[0] ** 2) * torch.tensor([1.0, -2.0])),
    ],
)
def test_what_does_not_grow_with_one_residual_each_is_none(loss):
    assert compiled(loss).residuals is None
