"""What rotations of the plane and of space have in common."""

from torch import Tensor


def inverse(matrix: Tensor) -> Tensor:
    """R^-1 = R', [*batch, d, d]."""
    return matrix.mT


def act(matrix: Tensor, points: Tensor) -> Tensor:
    """R p, of [*batch, d, d] and [*batch, d]; the batches broadcast."""
    return (matrix @ points.unsqueeze(-1)).squeeze(-1)
