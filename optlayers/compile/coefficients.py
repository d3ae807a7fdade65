"""Torch functions that compute the coefficients of a problem from its parameters.

Each works on one sample; the leaves map them over the batch.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor


def scale_rows(factor: Tensor, matrix: Tensor) -> Tensor:
    """diag(factor) @ matrix, with `factor` [m], [1] or []."""
    return factor.reshape(-1, 1) * matrix


def diagonal(scale: Tensor, size: int) -> Tensor:
    """diag(scale) of order `size`; a scalar stands for all entries."""
    return torch.diag_embed(scale.expand(size))


def apply_matrix(matrix: Tensor, vector: Tensor) -> Tensor:
    """matrix @ vector, with a vector of one entry standing for all."""
    return matrix @ vector.expand(matrix.shape[-1])


def scale_columns(matrix: Tensor, factor: Tensor) -> Tensor:
    """matrix @ diag(factor), with `factor` [n], [1] or []."""
    return matrix * factor


def select(value: Tensor, shape: tuple[int, ...], index: Any) -> Tensor:
    """value[index] after broadcasting to `shape`."""
    return value.expand(shape)[index]


def torch_index(index: tuple) -> tuple:
    """The same index for a torch tensor."""
    return tuple(torch.as_tensor(i) if isinstance(i, np.ndarray) else i for i in index)


def as_matrix(value: Tensor, is_transposed: bool) -> Tensor:
    """A vector as a matrix of one row; a matrix as it is or transposed."""
    if value.ndim == 1:
        return value.unsqueeze(0)
    return value.mT if is_transposed else value


def matrix_of(
    *fixed: Tensor,
    function: Callable[..., Tensor],
    place: int,
    shape: tuple[int, ...],
    options: tuple[tuple[str, Any], ...],
) -> Tensor:
    """The matrix of a function that is linear in one argument, from entries to entries.

    Args:
        *fixed: its other arguments.
        function: called with all arguments and the options.
        place: which argument the map is of.
        shape: the shape of that.
        options: the function's options.
    """
    size = math.prod(shape)
    basis = torch.eye(size, dtype=fixed[0].dtype, device=fixed[0].device)

    def image(direction: Tensor) -> Tensor:
        arguments = [*fixed[:place], direction, *fixed[place:]]
        return function(*arguments, **dict(options)).reshape(-1)

    return torch.func.vmap(image, out_dims=1)(basis.reshape(size, *shape))


def gram(first: Tensor, second: Tensor, weight: Tensor | None = None) -> Tensor:
    """first' diag(weight) second."""
    if weight is not None:
        second = scale_rows(weight, second)
    return first.mT @ second


def project(matrix: Tensor, shift: Tensor, weight: Tensor | None = None) -> Tensor:
    """matrix' (weight * shift)."""
    shift = shift if weight is None else weight * shift
    return matrix.mT @ shift.reshape(-1).expand(matrix.shape[0])


def transposed_times(matrix: Tensor, other: Tensor) -> Tensor:
    """matrix' other."""
    return matrix.mT @ other


def symmetrized(matrix: Tensor) -> Tensor:
    """(matrix + matrix')/2, the part of a matrix that a quadratic form sees."""
    return (matrix + matrix.mT) / 2


def quadratic_value(vector: Tensor, matrix: Tensor) -> Tensor:
    """vector' matrix vector."""
    vector = vector.expand(matrix.shape[-1])
    return vector @ matrix @ vector


def column_totals(matrix: Tensor, weight: Tensor | None = None) -> Tensor:
    """weight' matrix, by default the sum of the rows."""
    if weight is not None:
        matrix = scale_rows(weight, matrix)
    return matrix.sum(-2)


def weighted_total(
    value: Tensor, weight: Tensor | None = None, *, shape: tuple[int, ...]
) -> Tensor:
    """sum(weight * value) after broadcasting to `shape`."""
    value = value if weight is None else weight * value
    return value.expand(shape).sum()


def square_total(
    value: Tensor, weight: Tensor | None = None, *, shape: tuple[int, ...]
) -> Tensor:
    """sum(weight * value**2) after broadcasting to `shape`."""
    return weighted_total(value.square(), weight, shape=shape)


def expanded(value: Tensor, shape: tuple[int, ...]) -> Tensor:
    """value broadcast to `shape`."""
    return value.expand(shape)


def sandwich(left: Tensor, middle: Tensor, right: Tensor) -> Tensor:
    """left' middle right."""
    return left.mT @ middle @ right


def linear_combination(*values: Tensor, factors: tuple[float, ...]) -> Tensor:
    """Sum of scalars times numbers."""
    stacked = torch.stack(values)
    return (stacked * torch.tensor(factors).to(stacked)).sum()
