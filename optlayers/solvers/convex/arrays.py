"""Tensors as float64 numpy arrays, without a copy where none is needed."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


def to_array(tensor: Tensor) -> Array:
    """A C-contiguous float64 view or copy on the CPU."""
    if tensor.requires_grad or tensor.device.type != "cpu":
        tensor = tensor.detach().cpu()
    return np.ascontiguousarray(tensor.numpy(), dtype=np.float64)


def rows_of(matrix: Array, batch_size: int) -> list[Array]:
    """One matrix per sample: views of [B, m, n], or [m, n] repeated."""
    return [matrix] * batch_size if matrix.ndim == 2 else list(matrix)
