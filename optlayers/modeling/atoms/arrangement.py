"""Torch functions of the atoms that only move or add entries, of one sample."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from optlayers.modeling.atoms.arrangement_shapes import full_shape, triangle_order


def reshape(x: Tensor, *, shape: Any, order: str = "C") -> Tensor:
    """The same entries in another shape, by rows ("C") or by columns ("F")."""
    target = full_shape(x.numel(), shape)
    if order == "C":
        return x.reshape(target)
    return _reversed(_reversed(x).reshape(target[::-1]))


def vec(X: Tensor, *, order: str = "C") -> Tensor:
    """The same entries as one vector."""
    return reshape(X, shape=(-1,), order=order)


def transpose(x: Tensor, axes: Sequence[int] | None = None) -> Tensor:
    """The axes in another order; reversed by default."""
    return _reversed(x) if axes is None else x.permute(*axes)


def concatenate(*tensors: Tensor, axis: int | None = 0) -> Tensor:
    """Pieces joined along an axis they have; joined flat for None."""
    if axis is None:
        return torch.cat([tensor.reshape(-1) for tensor in tensors])
    return torch.cat(tensors, dim=axis)


def stack(*tensors: Tensor, axis: int = 0) -> Tensor:
    """Pieces joined along a new axis."""
    return torch.stack(tensors, dim=axis)


def hstack(*tensors: Tensor) -> Tensor:
    """Pieces side by side."""
    return torch.hstack(tensors)


def vstack(*tensors: Tensor) -> Tensor:
    """Pieces one above the other."""
    return torch.vstack(tensors)


def diag(x: Tensor, k: int = 0) -> Tensor:
    """The matrix with a given diagonal, or the diagonal of a matrix."""
    if x.ndim == 1:
        return torch.diag_embed(x, offset=k)
    return torch.diagonal(x, offset=k)


def upper_tri(X: Tensor) -> Tensor:
    """The entries above the diagonal, row by row, as a column."""
    rows, columns = torch.triu_indices(*X.shape, offset=1, device=X.device)
    return X[rows, columns][:, None]


def vec_to_upper_tri(expr: Tensor, strict: bool = False) -> Tensor:
    """The upper triangular matrix of entries given row by row."""
    order = triangle_order(expr.numel(), strict)
    rows, columns = torch.triu_indices(
        order, order, offset=int(strict), device=expr.device
    )
    flat = expr.mT.reshape(-1) if expr.ndim == 2 else expr
    result = expr.new_zeros(order, order)
    return result.index_put((rows, columns), flat)


def triu(X: Tensor, k: int = 0) -> Tensor:
    """The matrix with zeros below a diagonal."""
    return torch.triu(X, diagonal=k)


def tril(X: Tensor, k: int = 0) -> Tensor:
    """The matrix with zeros above a diagonal."""
    return torch.tril(X, diagonal=k)


def broadcast_to(expr: Tensor, shape: Any) -> Tensor:
    """Entries repeated to fill a shape."""
    return expr.expand(shape)


def partial_trace(expr: Tensor, dims: Sequence[int], axis: int = 0) -> Tensor:
    """The trace over one factor of a Kronecker product."""
    axis %= len(dims)
    kept = math.prod(dims) // dims[axis]
    factors = expr.reshape(*dims, *dims)
    traced = torch.diagonal(factors, dim1=axis, dim2=axis + len(dims)).sum(dim=-1)
    return traced.reshape(kept, kept)


def partial_transpose(expr: Tensor, dims: Sequence[int], axis: int = 0) -> Tensor:
    """The transpose of one factor of a Kronecker product."""
    axis %= len(dims)
    factors = expr.reshape(*dims, *dims)
    return factors.transpose(axis, axis + len(dims)).reshape(expr.shape)


def cumsum(x: Tensor, axis: int | None = 0) -> Tensor:
    """Sums so far; of all entries row by row for None."""
    if axis is None:
        return torch.cumsum(x.reshape(-1), dim=0)
    return torch.cumsum(x, dim=axis)


def cummax(x: Tensor, axis: int = 0) -> Tensor:
    """Largest entry so far."""
    return torch.cummax(x, dim=axis).values


def diff(x: Tensor, k: int = 1, axis: int = 0) -> Tensor:
    """Differences of order k of neighbours."""
    return torch.diff(x, n=k, dim=axis)


def _reversed(x: Tensor) -> Tensor:
    # torch 2.13: torch.compile passes on an unpacked range as its three bounds.
    return x.permute(tuple(range(x.ndim - 1, -1, -1)))
