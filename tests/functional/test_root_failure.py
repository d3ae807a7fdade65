"""Batches of plain functions of which no sample is solved, or that have none."""

import pytest
import torch
from torch import nn

from optlayers.functional import fixed_point, root
from optlayers.solution import Status

DOUBLE = {"dtype": torch.float64}


@pytest.mark.parametrize("on_failure", ["nan", "keep"])
@pytest.mark.parametrize(
    ("solver", "gradient"), [("auto", "exact"), ("newton", "unrolled")]
)
def test_where_no_sample_is_solved_the_gradient_is_zero(on_failure, solver, gradient):
    a = torch.tensor([[-1.0], [-2.0]], **DOUBLE, requires_grad=True)
    found = root(
        lambda x: x**2 - a, torch.ones(2, 1, **DOUBLE), on_failure=on_failure,
        solver=solver, gradient=gradient,
    )  # fmt: skip
    assert not (found.status == Status.SOLVED).any()
    (slope,) = torch.autograd.grad(found.value.sum(), a)
    assert torch.equal(slope, torch.zeros_like(a))


@pytest.mark.parametrize("batch", [(0,), (3, 0)])
def test_an_empty_batch_has_a_gradient_of_zero(batch):
    a = torch.tensor([2.0, 3.0], **DOUBLE, requires_grad=True)
    found = root(lambda x: x**2 - a, torch.ones(*batch, 2, **DOUBLE))
    found.value.sum().backward()
    assert found.value.shape == (*batch, 2)
    assert torch.equal(a.grad, torch.zeros_like(a))


def test_weights_have_a_gradient_of_zero_where_no_map_has_a_fixed_point():
    net = nn.Linear(2, 2, **DOUBLE)

    def away(z):
        return z + 1 + net(z).square()

    found = fixed_point(away, torch.zeros(2, 2, **DOUBLE), on_failure="nan")
    found.value.sum().backward()
    assert found.value.isnan().all()
    assert torch.equal(net.weight.grad, torch.zeros_like(net.weight))


def test_steps_that_nobody_takes_have_a_gradient_of_zero():
    a = torch.tensor([[4.0]], **DOUBLE, requires_grad=True)
    found = root(
        lambda x: x**2 - a, torch.full((1, 1), 2.0, **DOUBLE), solver="newton",
        gradient="unrolled",
    )  # fmt: skip
    assert found.stats["steps"].tolist() == [0]
    (slope,) = torch.autograd.grad(found.value.sum(), a)
    assert torch.equal(slope, torch.zeros_like(a))
