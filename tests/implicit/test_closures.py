import pytest
import torch
from torch import nn
from torch.testing import assert_close

from optlayers.errors import NotSupported
from optlayers.implicit.closures import closures, leaves, products, with_copies


class Square(torch.autograd.Function):
    """What no torch function sees entering."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, *gradients):
        return 2 * ctx.saved_tensors[0] * gradients[0]


def test_parameters_leaves_and_results_are_found():
    layer = nn.Linear(2, 2)
    leaf, constant = torch.ones(2, requires_grad=True), torch.ones(2)
    result = 2 * torch.ones(2, requires_grad=True)

    def function(x):
        return torch.stack([layer(x) * leaf, x * result + constant]).sum(0)

    found = closures(function, torch.ones(3, 2))
    expected = {id(one) for one in (*layer.parameters(), leaf, result)}
    assert {id(one) for one in found} == expected


def test_a_closure_and_what_it_was_made_from_count_apart():
    leaf = torch.tensor(2.0, requires_grad=True)
    made = 3 * leaf
    found = closures(lambda x: x * made * leaf, torch.tensor(1.0))
    copies = leaves(found)
    with torch.enable_grad():
        value = with_copies(lambda x: x * made * leaf, found, copies)(torch.tensor(1.0))
    gradients = products([value], copies, [torch.tensor(1.0)])
    by_tensor = dict(zip(map(id, found), gradients, strict=True))
    assert_close(by_tensor[id(leaf)], made.detach())
    assert_close(by_tensor[id(made)], leaf.detach())


def test_what_enters_unseen_is_refused():
    leaf = torch.tensor(2.0, requires_grad=True)
    with pytest.raises(NotSupported, match="watched"):
        closures(lambda x: x * Square.apply(leaf), torch.tensor(1.0))


def test_what_enters_only_later_is_refused():
    one, other = (torch.tensor(2.0, requires_grad=True) for _ in range(2))

    def function(x):
        return x * (one if x < 1 else other)

    found = closures(function, torch.tensor(0.0))
    again = with_copies(function, found, leaves(found))
    with pytest.raises(NotSupported, match="some times"):
        again(torch.tensor(2.0))
