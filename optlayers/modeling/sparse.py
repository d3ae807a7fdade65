"""The user's sparse matrices: constants held by their entries, and declared patterns.

scipy.sparse matrices and arrays, and torch's COO, CSR, CSC, BSR and BSC tensors.
"""

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from optlayers.errors import DeclarationError
from optlayers.linalg.pattern import Pattern
from optlayers.modeling.constants import check_constant
from optlayers.modeling.dimensions import Dimension


def is_sparse(value: Any) -> bool:
    """Whether a value is a sparse matrix of scipy or torch."""
    if isinstance(value, Tensor):
        return value.layout != torch.strided
    return sp.issparse(value)


def sparse_constant(value: Any) -> tuple[Pattern, Tensor] | Tensor:
    """The entries of a sparse matrix, float64, repeated ones added up.

    Args:
        value: what `is_sparse` says yes to; integers and booleans become numbers.

    Returns:
        Where the entries are, row by row, and their values [nnz]; of a vector, which is
        small, the dense vector [n].

    Raises:
        DeclarationError: complex or NaN entries, more than two axes, or a tensor that
            requires a gradient.
    """
    matrix = _as_scipy(value)
    if matrix.dtype.kind not in "fiub":
        raise DeclarationError(
            f"a sparse matrix of {matrix.dtype} is no constant; complex ones are not "
            "supported, write real and imaginary parts apart."
        )
    if np.isnan(sp.coo_array(matrix).data).any():
        raise DeclarationError(
            "NaN is no constant; a constraint or cost with NaN means nothing."
        )
    if matrix.ndim == 1:
        return torch.from_numpy(matrix.toarray().astype(np.float64))
    if matrix.ndim > 2:
        raise DeclarationError(
            f"a sparse array of shape {list(matrix.shape)} has more than two axes; "
            "give matrices, or make it dense."
        )
    entries = sp.coo_array(matrix, dtype=np.float64, copy=True)
    entries.sum_duplicates()
    entries = sp.coo_array(sp.csr_array(entries))
    shape = (int(matrix.shape[0]), int(matrix.shape[1]))
    rows, cols = (one.astype(np.int64) for one in (entries.row, entries.col))
    pattern = Pattern(torch.from_numpy(rows), torch.from_numpy(cols), shape)
    return pattern, torch.from_numpy(entries.data)


def read_pattern(value: Any, dimensions: tuple[Dimension, ...]) -> Pattern:
    """The positions that `pattern=` names, sorted row by row.

    Args:
        value: a sparse matrix (its stored entries), a boolean matrix, or a pair (rows,
            cols) of index sequences.
        dimensions: as declared. A pair takes its size from those that are numbers, and
            reaches as far as its largest index along the others.

    Raises:
        DeclarationError: something that names no positions in a matrix.
    """
    if is_sparse(value):
        matrix = _as_scipy(value)
        if matrix.ndim != 2:
            raise DeclarationError(f"a pattern is a matrix, not {list(matrix.shape)}.")
        entries = sp.coo_array(matrix)
        return _checked(entries.row, entries.col, matrix.shape)
    if isinstance(value, tuple | list) and len(value) == 2:
        rows, cols = (np.asarray(one) for one in value)
        are_indices = rows.dtype.kind in "iu" and cols.dtype.kind in "iu"
        if rows.ndim == 1 and rows.shape == cols.shape and are_indices:
            fixed = [one.offset if one.name is None else -1 for one in dimensions]
            return _checked(rows, cols, (*fixed, -1, -1)[:2])
    mask = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
    if isinstance(mask, np.ndarray) and mask.dtype == np.bool_ and mask.ndim == 2:
        rows, cols = mask.nonzero()
        return _checked(rows, cols, mask.shape)
    kind = type(value).__name__
    if isinstance(mask, np.ndarray):
        kind = f"{kind} of {mask.dtype} {list(mask.shape)}"
    raise DeclarationError(
        f"pattern={kind} names no positions; give a sparse matrix, a boolean matrix "
        f"such as A != 0, or a pair (rows, cols) of indices."
    )


def _checked(rows: Any, cols: Any, shape: tuple[int, ...]) -> Pattern:
    if len(rows) == 0:
        raise DeclarationError(
            "the pattern has no entry, so the parameter is zero; leave it out."
        )
    if min(rows.min(), cols.min()) < 0:
        raise DeclarationError("a pattern counts rows and columns from zero up.")
    m, n = (
        int(size) if size >= 0 else int(one.max()) + 1
        for size, one in zip(shape, (rows, cols), strict=True)
    )
    if rows.max() >= m or cols.max() >= n:
        raise DeclarationError(
            f"the pattern reaches row {rows.max()} and column {cols.max()}, the "
            f"parameter is {[m, n]}."
        )
    return Pattern.row_major(rows, cols, (m, n))


def _as_scipy(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    check_constant(value)
    coordinates = value.detach().cpu().to_sparse_coo().coalesce()
    if coordinates.dense_dim():
        raise DeclarationError(
            f"a hybrid sparse tensor {list(value.shape)} with {coordinates.dense_dim()}"
            " dense axes is no constant; give it with sparse axes only."
        )
    numbers = coordinates.values()
    if numbers.dtype in (torch.bfloat16, torch.float16):
        numbers = numbers.float()
    indices = tuple(coordinates.indices().numpy())
    return sp.coo_array((numbers.numpy(), indices), shape=tuple(value.shape))
