"""Projections onto lines, of which the derivatives on curved pieces are made."""

import torch
from torch import Tensor


def along(direction: Tensor) -> Tensor:
    """The projection onto a direction, [.., 3] -> [.., 3, 3]; zero for a zero one."""
    tiny = torch.finfo(direction.dtype).tiny
    unit = direction / direction.norm(dim=-1, keepdim=True).clamp_min(tiny)
    return unit.unsqueeze(-1) * unit.unsqueeze(-2)
