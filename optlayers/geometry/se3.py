"""Rigid motions of space; tangents are (v, w), translation first.

Source: J. Sola, J. Deray, D. Atchuthan, A micro Lie theory for state estimation in
robotics (2018), equations 166-175.
"""

import torch
from torch import Tensor

from optlayers.geometry import so3
from optlayers.geometry.motions import homogeneous, parts
from optlayers.geometry.series import cubic, half_cotangent, versine


def exp(tangent: Tensor) -> Tensor:
    """The motion at unit time of constant velocity in the moving frame, a screw.

    Args:
        tangent: (v, w), w the rotation vector, [*batch, 6].

    Returns:
        [*batch, 4, 4].
    """
    v, w = tangent[..., :3], tangent[..., 3:]
    s = w.square().sum(-1, keepdim=True)
    translation = v + versine(s) * _cross(w, v) + cubic(s) * _twice_cross(w, v, s)
    return homogeneous(so3.exp(w), translation)


def log(matrix: Tensor) -> Tensor:
    """The tangent whose exponential is a motion, rotation within half a turn.

    Args:
        matrix: [R t; 0 1], [*batch, 4, 4].

    Returns:
        (v, w) with |w| <= pi, [*batch, 6]; jumps where w does.
    """
    R, t = parts(matrix)
    w = so3.log(R)
    s = w.square().sum(-1, keepdim=True)
    v = t - _cross(w, t) / 2 + half_cotangent(s) * _twice_cross(w, t, s)
    return torch.cat([v, w], -1)


def adjoint(matrix: Tensor) -> Tensor:
    """Ad with T Exp(d) T^-1 = Exp(Ad d): [R [t]x R; 0 R], [*batch, 6, 6]."""
    R, t = parts(matrix)
    top = torch.cat([R, so3.cross_matrix(t) @ R], -1)
    return torch.cat([top, torch.cat([torch.zeros_like(R), R], -1)], -2)


def _cross(w: Tensor, v: Tensor) -> Tensor:
    return torch.linalg.cross(w, v, dim=-1)


def _twice_cross(w: Tensor, v: Tensor, s: Tensor) -> Tensor:
    """w x (w x v), where s = w'w."""
    return w * (w * v).sum(-1, keepdim=True) - s * v
