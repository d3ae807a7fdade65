"""The second-order cone {(t, u): |u| <= t}, which is its own dual."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from optlayers.programs.projections.block import Block


def project(v: Tensor, block: Block) -> Tensor:
    """The nearest points of the cones, [B, number, size] -> [B, number, size]."""
    t, u = v[..., :1], v[..., 1:]
    is_boundary, is_inside, length = _parts(t, u)
    shrunk = 0.5 * torch.cat([t + length, (t / length + 1) * u], -1)
    return torch.where(is_boundary, shrunk, v * is_inside)


def derivative(v: Tensor, block: Block) -> Tensor:
    """That of `project`, symmetric, [B, number, size] -> [B, number, size, size]."""
    t, u = v[..., :1], v[..., 1:]
    is_boundary, is_inside, length = _parts(t, u)
    # With w = u/|u| and a = (1, w), D = (a a' + (1 + t/|u|) [0 0; 0 I - w w']) / 2.
    a = torch.cat([torch.ones_like(t), u / length], -1)
    along = a.unsqueeze(-1) * a.unsqueeze(-2)
    identity = torch.eye(v.shape[-1], dtype=v.dtype, device=v.device)
    across = pad((identity - along)[..., 1:, 1:], (1, 0, 1, 0))
    boundary = 0.5 * (along + (1 + t / length).unsqueeze(-1) * across)
    inside = is_inside.unsqueeze(-1) * identity
    return torch.where(is_boundary.unsqueeze(-1), boundary, inside)


def _parts(t: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where the projection is on the boundary, where it is v itself, and |u|."""
    squared = u.square().sum(-1, keepdim=True)
    is_boundary = squared > t.square()
    # The inner `where` keeps the derivative of the root finite where it is not used.
    length = torch.where(is_boundary, squared, 1.0).sqrt()
    return is_boundary, (t > 0) & ~is_boundary, length
