"""Unit quaternions (w, x, y, z), scalar first, as another way to write rotations."""

import torch
from torch import Tensor


def quaternion_of(matrix: Tensor) -> Tensor:
    """The unit quaternion of a rotation of space, scalar not negative.

    Args:
        matrix: a rotation R, [*batch, 3, 3].

    Returns:
        (w, x, y, z) with w >= 0, [*batch, 4]. Differentiable; at half a turn (w = 0)
        the sign jumps.
    """
    # 4 q q' is linear in R. Its column of the largest diagonal entry is q times at
    # least 2, so that no entry of q is ever lost to cancellation.
    products = _products(matrix)
    largest = products.diagonal(dim1=-2, dim2=-1).argmax(-1)
    index = largest[..., None, None].expand(*largest.shape, 4, 1)
    column = products.gather(-1, index).squeeze(-1)
    sign = torch.where(column[..., :1] < 0, -1.0, 1.0).to(column.dtype)
    return sign * column / column.square().sum(-1, keepdim=True).sqrt()


def matrix_of(quaternion: Tensor) -> Tensor:
    """The rotation of a quaternion, which need not be of length one.

    Args:
        quaternion: (w, x, y, z), not zero, [*batch, 4].

    Returns:
        [*batch, 3, 3].
    """
    w, x, y, z = quaternion.unbind(-1)
    ww, xx, yy, zz = w * w, x * x, y * y, z * z
    rows = [
        *(ww + xx - yy - zz, 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), ww - xx + yy - zz, 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), ww - xx - yy + zz),
    ]
    scaled = torch.stack(rows, -1) / (ww + xx + yy + zz).unsqueeze(-1)
    return scaled.unflatten(-1, (3, 3))


def _products(R: Tensor) -> Tensor:
    """4 q q' of a rotation, [*batch, 4, 4]."""
    a, b, c = (R[..., k, k] for k in range(3))
    wx = R[..., 2, 1] - R[..., 1, 2]
    wy = R[..., 0, 2] - R[..., 2, 0]
    wz = R[..., 1, 0] - R[..., 0, 1]
    xy = R[..., 0, 1] + R[..., 1, 0]
    xz = R[..., 0, 2] + R[..., 2, 0]
    yz = R[..., 1, 2] + R[..., 2, 1]
    rows = [
        *(1 + a + b + c, wx, wy, wz),
        *(wx, 1 + a - b - c, xy, xz),
        *(wy, xy, 1 - a + b - c, yz),
        *(wz, xz, yz, 1 - a - b + c),
    ]
    return torch.stack(rows, -1).unflatten(-1, (4, 4))
