"""Rotations of space, R = exp([w]x) for the rotation vector w (axis times angle).

Source: J. Sola, J. Deray, D. Atchuthan, A micro Lie theory for state estimation in
robotics (2018), equations 69-77 and 130-150.
"""

import torch
from torch import Tensor

from optlayers.geometry.quaternions import quaternion_of
from optlayers.geometry.series import angle_ratio, sinc, versine


def exp(tangent: Tensor) -> Tensor:
    """The rotation about an axis (Rodrigues' formula).

    Args:
        tangent: rotation vector w in radians, [*batch, 3].

    Returns:
        [*batch, 3, 3].
    """
    s = tangent.square().sum(-1)
    a, b = sinc(s)[..., None, None], versine(s)[..., None, None]
    K = cross_matrix(tangent)
    # K^2 = w w' - s I, without a product of matrices.
    square = tangent[..., :, None] * tangent[..., None, :]
    unit = torch.eye(3, dtype=tangent.dtype, device=tangent.device)
    return unit * (1 - b * s[..., None, None]) + a * K + b * square


def log(matrix: Tensor) -> Tensor:
    """The rotation vector of a rotation, within half a turn.

    Differentiable everywhere but at half a turn, where it jumps to the opposite vector.

    Args:
        matrix: a rotation R, [*batch, 3, 3].

    Returns:
        w in radians, |w| <= pi, [*batch, 3].
    """
    # By the quaternion (cos(a/2), sin(a/2) axis): exact near 0 and near half a turn,
    # where the angle cannot be told from the trace.
    q = quaternion_of(matrix)
    vector = q[..., 1:]
    ratio = angle_ratio(vector.square().sum(-1), q[..., 0])
    return 2 * ratio.unsqueeze(-1) * vector


def adjoint(matrix: Tensor) -> Tensor:
    """Ad with R Exp(d) R^-1 = Exp(Ad d): R itself, [*batch, 3, 3]."""
    return matrix


def cross_matrix(vector: Tensor) -> Tensor:
    """[v]x with [v]x u = v x u, [*batch, 3] -> [*batch, 3, 3]."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    return torch.stack(rows, -1).unflatten(-1, (3, 3))
