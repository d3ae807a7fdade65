"""Rigid motions of the plane; tangents are (x, y, angle)."""

import torch
from torch import Tensor

from optlayers.geometry import so2
from optlayers.geometry.motions import homogeneous, parts
from optlayers.geometry.series import half_cotangent, sinc, versine


def exp(tangent: Tensor) -> Tensor:
    """The motion at unit time of constant velocity in the moving frame.

    Args:
        tangent: (x, y, angle), [*batch, 3].

    Returns:
        [*batch, 3, 3].
    """
    x, y, angle = tangent.unbind(-1)
    s = angle.square()
    a, b = sinc(s), angle * versine(s)
    translation = torch.stack([a * x - b * y, b * x + a * y], -1)
    return homogeneous(so2.exp(tangent[..., 2:]), translation)


def log(matrix: Tensor) -> Tensor:
    """The tangent whose exponential is a motion, angle within half a turn.

    Args:
        matrix: [R t; 0 1], [*batch, 3, 3].

    Returns:
        (x, y, angle), [*batch, 3]; jumps where the angle does.
    """
    R, t = parts(matrix)
    angle = so2.log(R)
    h = angle[..., 0] / 2
    # h / tan(h), smooth at zero.
    c = 1 - 4 * h.square() * half_cotangent(4 * h.square())
    x, y = t[..., 0], t[..., 1]
    return torch.stack([c * x + h * y, c * y - h * x, angle[..., 0]], -1)


def adjoint(matrix: Tensor) -> Tensor:
    """Ad with T Exp(d) T^-1 = Exp(Ad d): [R (t_y, -t_x)'; 0 1], [*batch, 3, 3]."""
    R, t = parts(matrix)
    return homogeneous(R, torch.stack([t[..., 1], -t[..., 0]], -1))
