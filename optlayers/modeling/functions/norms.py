"""Norms. Names and arguments are cvxpy's; all are convex."""

from typing import Any

from optlayers.modeling.functions.calling import call

Axis = int | tuple[int, ...] | None


def norm(x: Any, p: Any = 2, axis: Axis = None, keepdims: bool = False) -> Any:
    """Norm of a vector, or along axes; of a whole matrix the operator norms.

    Args:
        x: [*shape].
        p: 1, 2, "inf" or another number; of a matrix without axis 1 (largest column
            sum), 2 (largest singular value), "inf" (largest row sum), "fro" or "nuc".
        axis: which axes to take it over.
        keepdims: keep them as axes of size one.

    Raises:
        ShapeError: a p that is no norm of a matrix, or more than two axes without
            axis=.
    """
    return call("norm", x, p=p, axis=axis, keepdims=keepdims)


def norm1(expr: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Sum of magnitudes of entries.

    Args:
        expr: [*shape].
        axis: which axes to sum over.
        keepdims: keep them as axes of size one.
    """
    return call("norm1", expr, axis=axis, keepdims=keepdims)


def norm2(x: Any, axis: Axis = None) -> Any:
    """`norm(x, 2)`: Euclidean of a vector, largest singular value of a matrix.

    Args:
        x: [*shape].
        axis: which axes to take it over.
    """
    return call("norm", x, p=2, axis=axis)


def norm_inf(expr: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Largest magnitude of an entry.

    Args:
        expr: [*shape].
        axis: which axes to search.
        keepdims: keep them as axes of size one.
    """
    return call("norm_inf", expr, axis=axis, keepdims=keepdims)


def pnorm(
    x: Any,
    p: Any = 2,
    axis: Axis = None,
    keepdims: bool = False,
    max_denom: int = 1024,
    approx: bool = True,
) -> Any:
    """(sum |x|^p)^(1/p) of entries; for p < 1 concave, of x >= 0.

    Args:
        x: [*shape].
        p: a number other than 0, or "inf".
        axis: which axes to sum over.
        keepdims: keep them as axes of size one.
        max_denom: largest denominator of the fraction that stands for p.
        approx: cvxpy's choice of cones: second-order cones rather than power cones.
    """
    options = {"max_denom": max_denom, "approx": approx}
    return call("pnorm", x, p=p, axis=axis, keepdims=keepdims, **options)


def mixed_norm(X: Any, p: Any = 2, q: Any = 1) -> Any:
    """q-norm of the p-norms of the rows.

    Args:
        X: [m, n].
        p: norm of each row.
        q: norm of their norms.
    """
    return call("mixed_norm", X, p=p, q=q)


def sigma_max(A: Any) -> Any:
    """Largest singular value.

    Args:
        A: [m, n].
    """
    return call("sigma_max", A)


def normNuc(A: Any) -> Any:
    """Nuclear norm, the sum of singular values.

    Args:
        A: [m, n].
    """
    return call("normNuc", A)


def norm_nuc(A: Any) -> Any:
    """The same as `normNuc`.

    Args:
        A: [m, n].
    """
    return normNuc(A)
