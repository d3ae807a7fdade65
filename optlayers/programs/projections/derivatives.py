"""How often projections onto curved cones may be differentiated."""

import torch
from torch import Tensor
from torch.autograd import forward_ad

# Expansions around a frozen point are right to this order.
HIGHEST_ORDER = 3


def is_constant(v: Tensor) -> bool:
    """Whether nothing differentiates what is made from `v`."""
    return not (
        v.requires_grad
        or torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    )


def limited(y: Tensor, v: Tensor) -> Tensor:
    """`y`, whose derivative in `v` of order `HIGHEST_ORDER` + 1 is not finite.

    Args:
        y: made from `v` cone by cone, [B, number, size].
        v: [B, number, size].
    """
    if is_constant(v):
        return y
    # Zero, and so are its first three derivatives: t^3.5 at t = 0.
    change = (v - v.detach()).sum(-1, keepdim=True)
    return y + change.pow(HIGHEST_ORDER + 0.5)
