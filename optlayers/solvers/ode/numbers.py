"""The numbers of a tableau as tensors."""

from collections.abc import Callable

import torch
from torch import Tensor


def numbers_like(like: Tensor) -> Callable[[object], Tensor]:
    """What makes tensors in the dtype of another one, rounded once from float64.

    Args:
        like: whose dtype and device they take.
    """

    def tensor(numbers: object) -> Tensor:
        double = torch.tensor(numbers, dtype=torch.float64)
        return double.to(device=like.device, dtype=like.dtype)

    return tensor
