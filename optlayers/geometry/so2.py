"""Rotations of the plane, R(a) = [cos a, -sin a; sin a, cos a]."""

import torch
from torch import Tensor


def exp(tangent: Tensor) -> Tensor:
    """The rotation by an angle.

    Args:
        tangent: the angle in radians, counterclockwise, [*batch, 1].

    Returns:
        [*batch, 2, 2].
    """
    angle = tangent[..., 0]
    c, s = angle.cos(), angle.sin()
    return torch.stack([c, -s, s, c], -1).unflatten(-1, (2, 2))


def log(matrix: Tensor) -> Tensor:
    """The angle of a rotation, within half a turn.

    Args:
        matrix: a rotation R, [*batch, 2, 2]; of another matrix, that of the nearest
            rotation.

    Returns:
        The angle in radians, [*batch, 1], in (-pi, pi], where it jumps.
    """
    sine = matrix[..., 1, 0] - matrix[..., 0, 1]
    cosine = matrix[..., 0, 0] + matrix[..., 1, 1]
    return torch.atan2(sine, cosine).unsqueeze(-1)


def adjoint(matrix: Tensor) -> Tensor:
    """Ad with R Exp(d) R^-1 = Exp(Ad d): 1, as rotations of the plane commute.

    Args:
        matrix: R, [*batch, 2, 2].

    Returns:
        [*batch, 1, 1].
    """
    return torch.ones_like(matrix[..., :1, :1])
