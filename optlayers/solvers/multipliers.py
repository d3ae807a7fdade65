"""Least-norm multipliers where the constraints do not determine them.

At a solution x every y with A'y = -(P x + q), y >= 0 on active inequalities and y = 0
on inactive ones is a multiplier. When the active rows of A are dependent (LICQ fails)
there may be many; the shortest is the one reported, and the sample is flagged.
"""

from typing import NamedTuple

import daqp
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from optlayers.linalg.pattern import PatternMatrix
from optlayers.programs.cone_program import ConeProgram
from optlayers.solvers.certify import measure
from optlayers.solvers.convex.arrays import Array, to_array

# A slack below this, relative to its bound, counts as zero: a hundred times the error
# of a polished point.
ACTIVE_SLACK = 1e-9
# Unit rows whose Cholesky pivot falls below this look dependent and are examined.
DEPENDENT_PIVOT = 1e-6
# Singular values of unit rows below this are zero.
ZERO_SINGULAR_VALUE = 1e-10
# Beyond this many numbers in the dense rows of a batch nothing is examined.
EXAMINED_LIMIT = 50_000_000

_SETTINGS = {"primal_tol": 1e-12}


class Multipliers(NamedTuple):
    """Points with least-norm multipliers.

    Attributes:
        point: [B, n + m].
        is_unique: whether the multipliers of the sample are the only ones, bool [B].
            Rows of other cones are not examined and count as unique.
    """

    point: Tensor
    is_unique: Tensor


def shorten_multipliers(
    program: ConeProgram,
    point: Tensor,
    is_solved: Tensor,
    tolerance: float,
    is_independent: Tensor | None = None,
) -> Multipliers:
    """Replace multipliers that are not unique by the shortest ones.

    Args:
        program: of B samples.
        point: [B, n + m], solved where `is_solved`.
        is_solved: bool [B]; the other samples are left alone.
        tolerance: a replacement is kept if its residual is within it.
        is_independent: where the solver vouches that the rows with nonzero multipliers
            are independent, bool [B]; only rows with neither slack nor multiplier can
            then make them dependent.
    """
    is_unique = torch.ones(len(point), dtype=torch.bool)
    cones, n = program.cones, program.size
    linear = cones.zero + cones.nonneg
    dense_numbers = linear * n * (program.batch_size if _is_batched(program) else 1)
    if linear == 0 or len(point) == 0 or dense_numbers > EXAMINED_LIMIT:
        return Multipliers(point, is_unique)
    v = point.numpy()[:, n : n + linear]
    small = ACTIVE_SLACK * (1 + np.abs(program.b.numpy()[:, :linear]))
    is_examined = is_solved.numpy()
    if is_independent is not None:
        is_weak = (np.abs(v) <= small).any(1)
        is_examined = is_examined & (is_weak | ~is_independent.numpy())
    if not is_examined.any():
        return Multipliers(point, is_unique)
    A = _linear_rows(program, linear)
    is_active = v >= -small
    is_active[:, : cones.zero] = True
    suspects = np.flatnonzero(_may_be_dependent(A, is_active) & is_examined)
    if len(suspects) == 0:
        return Multipliers(point, is_unique)
    shortened = point.clone()
    for i in suspects:
        rows = np.flatnonzero(is_active[i])
        y = v[i, rows]
        y[rows >= cones.zero] = np.maximum(y[rows >= cones.zero], 0)
        found = least_norm(A[rows] if A.ndim == 2 else A[i, rows], y, rows < cones.zero)
        if found is not None:
            is_unique[i] = False
            shortened[i, n + torch.from_numpy(rows)] = torch.from_numpy(found)
    changed = (~is_unique).nonzero()[:, 0]
    residual = measure(program.select(changed), shortened[changed])
    failed = changed[~(residual <= tolerance)]
    shortened[failed] = point[failed]
    return Multipliers(shortened, is_unique)


def least_norm(A: Array, y: Array, is_free: NDArray[np.bool_]) -> Array | None:
    """The shortest z with A'z = A'y, z >= 0 where not free; None if y is the only one.

    Args:
        A: active rows, [k, n].
        y: multipliers of these rows, [k], nonnegative where not free.
        is_free: whether a row is an equality, [k].
    """
    # Every such z is y + N w with the columns of N an orthonormal basis of {A'z = 0}.
    N = _left_null_space(A)
    if N.shape[1] == 0:
        return None
    signed = ~is_free
    w, multipliers = _nearest(N.T @ y, -N[signed], y[signed])
    if w is None:
        return None
    z = y + N @ w
    z[signed] = np.maximum(z[signed], 0)
    at_zero = np.flatnonzero(signed)[multipliers > 0]
    z[at_zero] = 0
    return None if _is_only_point(N[signed & (z == 0)]) else z


def _is_only_point(N: Array) -> bool:
    """Whether N w >= 0 has no solution but w = 0."""
    if np.linalg.matrix_rank(N, tol=ZERO_SINGULAR_VALUE) < N.shape[1]:
        return False
    # N w is nonzero for every other w: ask for one whose entries sum to at least 1.
    rows = np.concatenate([-N, -N.sum(0, keepdims=True)])
    limits = np.concatenate([np.zeros(len(N)), [-1.0]])
    return _nearest(np.zeros(N.shape[1]), rows, limits)[0] is None


def _nearest(q: Array, rows: Array, limits: Array) -> tuple[Array | None, Array]:
    """The w that minimizes |w|^2/2 + q'w, rows w <= limits; and the multipliers."""
    count, size = rows.shape
    w, _, flag, report = daqp.solve(
        np.eye(size), q, np.ascontiguousarray(rows), limits, np.full(count, -1e30),
        np.zeros(count, np.int32), **_SETTINGS,
    )  # fmt: skip
    return (w if flag == 1 else None), report["lam"]


def _left_null_space(A: Array) -> Array:
    """An orthonormal basis of {z : A'z = 0}, [k, d], rows measured at unit length."""
    length = np.linalg.norm(A, axis=1)
    length[length == 0] = 1
    _, singular, Vt = np.linalg.svd((A / length[:, None]).T)
    rank = int((singular > ZERO_SINGULAR_VALUE).sum())
    return np.linalg.qr(Vt[rank:].T / length[:, None])[0]


def _may_be_dependent(A: Array, is_active: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Samples whose active rows are, or are nearly, dependent, [B].

    The Gram matrix of unit rows has a Cholesky pivot near zero exactly then.
    """
    n = A.shape[-1]
    count = is_active.sum(1)
    suspects = count > n
    most = min(n, int(count.max(initial=0)))
    if most == 0:
        return suspects
    order = np.argsort(~is_active, axis=1, kind="stable")[:, :most]
    is_used = np.arange(most) < count[:, None]
    if A.ndim == 2:
        rows = A[order]
    else:
        rows = np.take_along_axis(A, order[:, :, None], axis=1)
    length = np.sqrt(np.einsum("bij,bij->bi", rows, rows))
    # A zero row is dependent on nothing but itself: leave its pivot at zero.
    scaled = np.where(is_used & (length > 0), 1 / np.maximum(length, 1e-300), 0)
    rows = rows * scaled[:, :, None]
    gram = rows @ rows.swapaxes(1, 2)
    diagonal = np.arange(most)
    gram[:, diagonal, diagonal] += ~is_used
    try:
        pivots = np.linalg.cholesky(gram)[:, diagonal, diagonal].min(1)
    except np.linalg.LinAlgError:
        pivots = np.array([_smallest_pivot(one) for one in gram])
    return suspects | (pivots < DEPENDENT_PIVOT)


def _smallest_pivot(gram: Array) -> float:
    try:
        return float(np.linalg.cholesky(gram).diagonal().min())
    except np.linalg.LinAlgError:
        return 0.0


def _is_batched(program: ConeProgram) -> bool:
    A = program.A
    return A.is_batched if isinstance(A, PatternMatrix) else A.ndim == 3


def _linear_rows(program: ConeProgram, linear: int) -> Array:
    A = program.A
    dense = A.to_dense() if isinstance(A, PatternMatrix) else A
    return to_array(dense[..., :linear, :])
