"""What rigid motions [R t; 0 1] of the plane and of space have in common.

A motion is a matrix of one order more than the points that it moves.
"""

import torch
from torch import Tensor

from optlayers.geometry import rotations


def homogeneous(rotation: Tensor, translation: Tensor) -> Tensor:
    """[R t; 0 1].

    Args:
        rotation: R, [*batch, d, d].
        translation: t, [*batch, d]; the batches broadcast.

    Returns:
        [*batch, d + 1, d + 1].
    """
    d = translation.shape[-1]
    batch = torch.broadcast_shapes(rotation.shape[:-2], translation.shape[:-1])
    column = translation.expand(*batch, d).unsqueeze(-1)
    top = torch.cat([rotation.expand(*batch, d, d), column], -1)
    last = torch.zeros_like(top[..., :1, :])
    last = torch.cat([last[..., :d], torch.ones_like(last[..., d:])], -1)
    return torch.cat([top, last], -2)


def parts(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """R [*batch, d, d] and t [*batch, d] of [R t; 0 1]."""
    d = matrix.shape[-1] - 1
    return matrix[..., :d, :d], matrix[..., :d, d]


def inverse(matrix: Tensor) -> Tensor:
    """[R' -R't; 0 1] of [R t; 0 1], [*batch, d + 1, d + 1]."""
    R, t = parts(matrix)
    return homogeneous(R.mT, -rotations.act(R.mT, t))


def act(matrix: Tensor, points: Tensor) -> Tensor:
    """R p + t, of [*batch, d + 1, d + 1] and [*batch, d]; the batches broadcast."""
    R, t = parts(matrix)
    return rotations.act(R, points) + t
