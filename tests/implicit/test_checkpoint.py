"""What the gradient through recomputed segments keeps between forward and backward."""

import torch
from torch.autograd.graph import saved_tensors_hooks

from optlayers.functional import integrate

D = torch.float64


def kept(gradient: str, end: float) -> int:
    """Numbers saved for the backward pass of one integration."""
    rate = torch.tensor(1.0, dtype=D, requires_grad=True)
    total = 0

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal total
        total += tensor.numel()
        return tensor

    def field(t, x):
        return torch.stack((x[:, 1], -rate * torch.sin(x[:, 0])), 1)

    start = torch.ones(4, 2, dtype=D)
    times = torch.tensor([0.0, end], dtype=D)
    with saved_tensors_hooks(count, lambda one: one):
        integrate(field, start, times, solver="dopri5", gradient=gradient)
    return total


def test_less_is_kept_than_of_the_graph_of_all_steps():
    assert kept("checkpoint", 5.0) < kept("direct", 5.0) / 10


def test_what_is_kept_grows_more_slowly_than_the_steps():
    # Nine times as many steps, so about three times as many segments.
    assert kept("checkpoint", 45.0) < 5 * kept("checkpoint", 5.0)
    assert kept("direct", 45.0) > 7 * kept("direct", 5.0)
