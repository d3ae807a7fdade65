"""Whether a sparse symmetric matrix is positive semidefinite, without filling it in."""

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import splu

from optlayers.linalg.pattern import Pattern

# Eigenvalues this far below zero, relative to the largest entry, are rounding.
TOLERANCE = 1e-10
# Up to this order a dense Cholesky factorization is as fast.
SMALL = 200

Numbers = NDArray[np.float64]


def is_semidefinite(
    pattern: Pattern, values: Numbers, tolerance: float = TOLERANCE
) -> bool:
    """Whether a matrix is symmetric and positive semidefinite, up to rounding.

    Diagonally dominant matrices are seen at once. Others are shifted by the tolerance
    and factorized: without row exchanges L U is L D L', and by Sylvester's law of
    inertia the signs of D are those of the eigenvalues.

    Args:
        pattern: of a square matrix.
        values: its entries, [nnz].
        tolerance: of symmetry and of the smallest eigenvalue, relative to the largest
            entry; the second also times the order.
    """
    if not np.isfinite(values).all() or not is_symmetric(pattern, values, tolerance):
        return False
    matrix = pattern.compressed(values.astype(np.float64))
    size = np.abs(matrix.data).max(initial=0.0)
    if size == 0:
        return True
    diagonal = matrix.diagonal()
    beside = abs(matrix).sum(1) - np.abs(diagonal)
    if bool((diagonal >= beside).all()):
        return True
    order = pattern.shape[0]
    shifted = (matrix + order * tolerance * size * sp.eye_array(order)).tocsc()
    return _has_positive_pivots(shifted, order)


def is_symmetric(
    pattern: Pattern, values: Numbers, tolerance: float = TOLERANCE
) -> bool:
    """Whether a matrix equals its transpose, relative to its largest entry.

    Args:
        pattern: where its entries are.
        values: its entries, [nnz].
        tolerance: largest difference that counts as none.
    """
    if pattern.shape[0] != pattern.shape[1]:
        return False
    matrix = pattern.compressed(values)
    gap = abs(matrix - matrix.T)
    return bool(gap.max() <= tolerance * np.abs(values).max(initial=0.0))


def _has_positive_pivots(matrix: sp.csc_array, order: int) -> bool:
    if order <= SMALL:
        return _is_cholesky_possible(matrix.toarray())
    try:
        factors = splu(
            matrix,
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )
    except RuntimeError:  # exactly singular
        return _is_cholesky_possible(matrix.toarray())
    if not np.array_equal(factors.perm_r, factors.perm_c):
        return _is_cholesky_possible(matrix.toarray())
    return bool((factors.U.diagonal() > 0).all())


def _is_cholesky_possible(matrix: Numbers) -> bool:
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return False
    return True
