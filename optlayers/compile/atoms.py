"""The cvxpy twin of every atom: the same function on cvxpy expressions of one stage.

Where cvxpy takes less than the atom (a norm over several axes, kl_div of shapes that
broadcast) the twin says it with what cvxpy has; where cvxpy would quietly restrict the
domain it refuses.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import cvxpy as cp
import numpy as np

from optlayers.compile.perspectives import perspective

Twin = Callable[..., cp.Expression]
Order = Literal["F", "C"]


class TwinRefused(Exception):
    """An atom that cvxpy would give another meaning; says which and what to do."""


# ---- arithmetic ----------------------------------------------------------------------


def add(left: cp.Expression, right: cp.Expression) -> cp.Expression:
    """Sum."""
    return left + right


def negate(x: cp.Expression) -> cp.Expression:
    """The negative."""
    return -x


def divide(left: cp.Expression, right: cp.Expression) -> cp.Expression:
    """Quotient."""
    return left / right


def matmul(left: cp.Expression, right: cp.Expression) -> cp.Expression:
    """Product of vectors or matrices."""
    return left @ right


# Powers that two or three second-order cones say exactly. Of others a tower of them is
# degenerate at entries of zero: of 40 random programs with x ** 1.1 10 were solved, 36
# through power cones; with x ** 2.5 30 and 40, with x ** 1.5 40 and 39.
SHORT_TOWERS = frozenset((-1.0, 0.5, 1.5, 3.0, 4.0))


def power(x: cp.Expression, p: float = 1, **other: Any) -> cp.Expression:
    """The power x ** p on the reals, where cvxpy's is on the nonnegative numbers.

    Raises:
        TwinRefused: a power that is not convex because the sign of x is unknown.
    """
    if p == 2:
        return cp.square(x)
    if p == 0:
        # cvxpy gives one number, whatever the shape. The variables stay in it by
        # coefficients of zero, for a problem has to have some.
        totals = cp.hstack([cp.sum(one) for one in x.variables()])
        return cp.Constant(np.ones(x.shape)) + 0 * cp.sum(totals)
    other.setdefault("approx", float(p) in SHORT_TOWERS)
    if p == 1 or p != int(p) or (p > 0 and p % 2 == 0) or x.is_nonneg():
        return cp.power(x, p, **other)
    if x.is_nonpos():
        return (-1) ** int(p) * cp.power(-x, p, **other)
    remedy = " or write ol.inv_pos" if p == -1 else ""
    raise TwinRefused(
        f"x ** {p:g} is neither convex nor concave unless the sign of x is known; "
        f"declare it nonneg{remedy}"
    )


# ---- entry by entry ------------------------------------------------------------------


def kl_div(x: cp.Expression, y: cp.Expression) -> cp.Expression:
    """Divergence, of shapes that broadcast."""
    return cp.kl_div(*broadcast(x, y))


def rel_entr(x: cp.Expression, y: cp.Expression) -> cp.Expression:
    """Relative entropy, of shapes that broadcast."""
    return cp.rel_entr(*broadcast(x, y))


def broadcast(*expressions: cp.Expression) -> list[cp.Expression]:
    """All brought to one shape, as numpy does."""
    length = max(one.ndim for one in expressions)
    padded = [(1,) * (length - one.ndim) + one.shape for one in expressions]
    shape = tuple(
        next((size for size in sizes if size != 1), 1)
        for sizes in zip(*padded, strict=True)
    )
    return [
        one if one.shape == shape else cp.broadcast_to(one, shape)
        for one in expressions
    ]


def convolve(left: cp.Expression, right: cp.Expression) -> cp.Expression:
    """Discrete convolution; cvxpy wants the constant on the left."""
    if not left.is_constant():
        left, right = right, left
    return cp.convolve(_vector(left), _vector(right))


def einsum(*factors: cp.Expression, subscripts: str, **other: Any) -> cp.Expression:
    """Sums of products over repeated subscripts."""
    return cp.einsum(subscripts, *factors, **other)


# ---- spectra -------------------------------------------------------------------------


def spectral(name: str) -> Twin:
    """cvxpy's atom of the symmetric part, which it is told is symmetric.

    It would constrain any other argument to be symmetric, by rows that are zero.
    """
    function = getattr(cp, name)
    return lambda X, *more, **options: function(symmetric(X), *more, **options)


def matrix_frac(X: cp.Expression, P: cp.Expression) -> cp.Expression:
    """Trace of X' P^-1 X, of the symmetric part of P."""
    return cp.matrix_frac(X, symmetric(P))


def sigma_max(A: cp.Expression) -> cp.Expression:
    """Largest singular value; of a symmetric matrix the largest |eigenvalue|.

    For a symmetric A the multiplier of cvxpy's [[t I, A], [A', t I]] >> 0 is not
    unique.
    """
    if not A.is_symmetric():
        return cp.sigma_max(A)
    return cp.maximum(cp.lambda_max(A), cp.lambda_max(-A))


def symmetric(X: cp.Expression) -> cp.Expression:
    """The symmetric part of a square matrix."""
    return X if X.is_symmetric() else cp.symmetric_wrap((X + X.T) / 2)


# ---- norms ---------------------------------------------------------------------------


def norm(
    x: cp.Expression, p: Any = 2, axis: Any = None, keepdims: bool = False
) -> cp.Expression:
    """Norm of a vector or along axes; of a matrix the operator norms."""
    if axis is None and x.ndim == 2:
        if str(p) == "2" and min(x.shape) > 1:
            return sigma_max(x)
        return cp.norm(x, p)
    return pnorm(x, 2 if str(p).lower() == "fro" else p, axis, keepdims)


def pnorm(
    x: cp.Expression, p: Any = 2, axis: Any = None, keepdims: bool = False, **other: Any
) -> cp.Expression:
    """Norm of entries over any axes."""
    axes = reduced_axes(x.ndim, axis)
    exponent = float(p)
    if not axes:
        return cp.abs(x)
    if exponent == 1:
        return norm1(x, axes, keepdims)
    if math.isinf(exponent):
        return norm_inf(x, axes, keepdims)
    if len(axes) == x.ndim:
        flat = cp.vec(x, order="C") if x.ndim > 1 else x
        return restore_axes(cp.pnorm(flat, p, **other), x.shape, axes, keepdims)
    rows = join_last(x, axes)
    if exponent == 2:
        norms = cp.norm(rows, 2, axis=1)
    else:
        norms = cp.hstack([cp.pnorm(row, p, **other) for row in rows])
    kept = tuple(n for k, n in enumerate(x.shape) if k not in axes)
    return restore_axes(cp.reshape(norms, kept, order="C"), x.shape, axes, keepdims)


def norm1(x: cp.Expression, axis: Any = None, keepdims: bool = False) -> cp.Expression:
    """Sum of magnitudes."""
    return TWINS["sum"](cp.abs(x), axis=axis, keepdims=keepdims)


def norm_inf(
    x: cp.Expression, axis: Any = None, keepdims: bool = False
) -> cp.Expression:
    """Largest magnitude."""
    return cp.max(cp.abs(x), axis=axis, keepdims=keepdims)


def mixed_norm(X: cp.Expression, p: Any = 2, q: Any = 1) -> cp.Expression:
    """q-norm of the p-norms of the rows."""
    return pnorm(pnorm(X, p, axis=1), q)


def std(
    x: cp.Expression, axis: Any = None, keepdims: bool = False, ddof: float = 0
) -> cp.Expression:
    """Standard deviation."""
    count = math.prod(x.shape[k] for k in reduced_axes(x.ndim, axis))
    deviation = x - cp.mean(x, axis, keepdims=True)
    return pnorm(deviation, 2, axis, keepdims) / (count - ddof) ** 0.5


# ---- axes ----------------------------------------------------------------------------


def reduced_axes(ndim: int, axis: Any) -> tuple[int, ...]:
    """Axes that a reduction removes, counted from zero; all of them for None."""
    if ndim == 0:
        return ()
    wanted = range(ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    return tuple(sorted(one % ndim for one in wanted))


def join_last(x: cp.Expression, axes: tuple[int, ...]) -> cp.Expression:
    """A matrix [kept entries, reduced entries]."""
    kept = [k for k in range(x.ndim) if k not in axes]
    order = [*kept, *axes]
    if order != list(range(x.ndim)):
        x = cp.transpose(x, order)
    rows = math.prod(x.shape[: len(kept)])
    return cp.reshape(x, (rows, x.size // rows), order="C")


def restore_axes(
    result: cp.Expression, shape: tuple[int, ...], axes: tuple[int, ...], keepdims: bool
) -> cp.Expression:
    """The result with its reduced axes put back as ones where that was asked."""
    if not keepdims:
        return result
    kept = tuple(1 if k in axes else n for k, n in enumerate(shape))
    return cp.reshape(result, kept, order="C")


# ---- arrangement ---------------------------------------------------------------------


def reshape(x: cp.Expression, *, shape: Any, order: Order = "C") -> cp.Expression:
    """The same entries in another shape."""
    return cp.reshape(x, shape, order=order)


def vec(X: cp.Expression, *, order: Order = "C") -> cp.Expression:
    """The same entries as one vector."""
    return cp.vec(X, order=order)


def broadcast_to(x: cp.Expression, *, shape: Any) -> cp.Expression:
    """Entries repeated to fill a shape."""
    return x if x.shape == tuple(shape) else cp.broadcast_to(x, shape)


def triangle(name: str) -> Twin:
    """The matrix with zeros on one side of a diagonal."""
    part = TRIANGLES[name]
    return lambda X, k=0: cp.multiply(part(np.ones(X.shape), k), X)


TRIANGLES = {"triu": np.triu, "tril": np.tril}


def diag(x: cp.Expression, k: int = 0) -> cp.Expression:
    """To and from a diagonal."""
    return cp.diag(x, k)


def concatenate(*pieces: cp.Expression, axis: int | None = 0) -> cp.Expression:
    """Pieces along an axis they have."""
    if axis is not None:
        axis %= pieces[0].ndim
    return cp.concatenate(list(pieces), axis=axis)


def stack(*pieces: cp.Expression, axis: int = 0) -> cp.Expression:
    """Pieces along a new axis."""
    return cp.stack(list(pieces), axis=axis)


def hstack(*pieces: cp.Expression) -> cp.Expression:
    """Pieces side by side."""
    return cp.hstack(list(pieces))


def vstack(*pieces: cp.Expression) -> cp.Expression:
    """Pieces one above the other."""
    return cp.vstack(list(pieces))


def _vector(x: cp.Expression) -> cp.Expression:
    return x if x.ndim == 1 else cp.reshape(x, (x.size,), order="C")


# ---- geometric programs --------------------------------------------------------------


def geometric(name: str) -> Twin:
    """The value of an atom of geometric programs; on variables it has no twin.

    Raises:
        TwinRefused: an argument depends on variables.
    """

    def twin(*arguments: cp.Expression, **options: Any) -> cp.Expression:
        if all(one.is_constant() for one in arguments):
            return getattr(cp, name)(*arguments, **options)
        raise TwinRefused(
            f"{name} is neither convex nor concave; it belongs to geometric programs, "
            "which are declared with @ol.problem(geometric=True)"
        )

    return twin


_GEOMETRIC = (
    "prod cumprod one_minus_pos diff_pos eye_minus_inv resolvent pf_eigenvalue gmatmul"
)
_SPECTRAL = (
    "lambda_max lambda_min lambda_sum_largest lambda_sum_smallest log_det tr_inv "
    "von_neumann_entr"
)

# cvxpy's own functions, taken as they are.
_SAME = (
    "multiply abs square sqrt pos neg inv_pos exp log log1p logistic entr huber "
    "maximum minimum sum mean var max min ptp sum_squares sum_largest sum_smallest "
    "log_sum_exp geo_mean harmonic_mean quad_form quad_over_lin vdot "
    "dotsort outer kron tv trace normNuc transpose upper_tri cumsum "
    "cummax diff xexp scalene loggamma log_normcdf cvar inv_prod vec_to_upper_tri "
    "partial_trace partial_transpose"
)

TWINS: Mapping[str, Twin] = (
    {name: getattr(cp, name) for name in _SAME.split()}
    | {name: spectral(name) for name in _SPECTRAL.split()}
    | {name: triangle(name) for name in TRIANGLES}
    | {name: geometric(name) for name in _GEOMETRIC.split()}
    | {
        twin.__name__: twin
        for twin in (
            add,
            negate,
            divide,
            matmul,
            power,
            perspective,
            kl_div,
            rel_entr,
            convolve,
            einsum,
            matrix_frac,
            sigma_max,
            norm,
            pnorm,
            norm1,
            norm_inf,
            mixed_norm,
            std,
            reshape,
            vec,
            broadcast_to,
            diag,
            concatenate,
            stack,
            hstack,
            vstack,
        )
    }
)
