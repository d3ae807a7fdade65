"""Functions that reduce axes. Names and arguments are cvxpy's.

`axis` is one axis, a tuple of them, or None for all; with `keepdims` reduced axes stay
as axes of size one.
"""

from typing import Any

from optlayers.modeling.functions.calling import call

Axis = int | tuple[int, ...] | None


def sum(expr: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Sum of entries.

    Args:
        expr: [*shape].
        axis: which axes to sum over.
        keepdims: keep them as axes of size one.
    """
    return call("sum", expr, axis=axis, keepdims=keepdims)


def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Mean of entries.

    Args:
        x: [*shape].
        axis: which axes to average over.
        keepdims: keep them as axes of size one.
    """
    return call("mean", x, axis=axis, keepdims=keepdims)


def var(x: Any, axis: Axis = None, keepdims: bool = False, ddof: float = 0) -> Any:
    """Variance of entries; convex.

    Args:
        x: [*shape].
        axis: which axes to take it over.
        keepdims: keep them as axes of size one.
        ddof: what is taken from the count before dividing by it.
    """
    return call("var", x, axis=axis, keepdims=keepdims, ddof=ddof)


def std(x: Any, axis: Axis = None, keepdims: bool = False, ddof: float = 0) -> Any:
    """Standard deviation of entries; convex.

    Args:
        x: [*shape].
        axis: which axes to take it over.
        keepdims: keep them as axes of size one.
        ddof: what is taken from the count before dividing by it.
    """
    return call("std", x, axis=axis, keepdims=keepdims, ddof=ddof)


def max(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Largest entry; convex.

    Args:
        x: [*shape].
        axis: which axes to search.
        keepdims: keep them as axes of size one.
    """
    return call("max", x, axis=axis, keepdims=keepdims)


def min(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Smallest entry; concave.

    Args:
        x: [*shape].
        axis: which axes to search.
        keepdims: keep them as axes of size one.
    """
    return call("min", x, axis=axis, keepdims=keepdims)


def ptp(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Largest entry less the smallest; convex.

    Args:
        x: [*shape].
        axis: which axes to search.
        keepdims: keep them as axes of size one.
    """
    return call("ptp", x, axis=axis, keepdims=keepdims)


def sum_squares(expr: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Sum of squares; convex.

    Args:
        expr: [*shape].
        axis: which axes to sum over.
        keepdims: keep them as axes of size one.
    """
    return call("sum_squares", expr, axis=axis, keepdims=keepdims)


def sum_largest(x: Any, k: float, axis: Axis = None, keepdims: bool = False) -> Any:
    """Sum of the k largest entries; convex.

    Args:
        x: [*shape].
        k: how many, a positive number; a fraction counts a part of the next entry.
        axis: which axes to search.
        keepdims: keep them as axes of size one.
    """
    return call("sum_largest", x, k=k, axis=axis, keepdims=keepdims)


def sum_smallest(x: Any, k: float, axis: Axis = None, keepdims: bool = False) -> Any:
    """Sum of the k smallest entries; concave.

    Args:
        x: [*shape].
        k: how many, a positive number; a fraction counts a part of the next entry.
        axis: which axes to search.
        keepdims: keep them as axes of size one.
    """
    return call("sum_smallest", x, k=k, axis=axis, keepdims=keepdims)


def cvar(x: Any, beta: float) -> Any:
    """Conditional value at risk: mean of the largest share 1 - beta; convex.

    Args:
        x: samples, [n].
        beta: probability level, at least 0 and below 1.
    """
    return call("cvar", x, beta=beta)


def log_sum_exp(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Logarithm of the sum of exponentials; convex.

    Args:
        x: [*shape].
        axis: which axes to sum over.
        keepdims: keep them as axes of size one.
    """
    return call("log_sum_exp", x, axis=axis, keepdims=keepdims)


def geo_mean(
    x: Any,
    p: Any = None,
    max_denom: int = 1024,
    approx: bool = True,
    axis: Axis = None,
    keepdims: bool = False,
) -> Any:
    """Weighted geometric mean; concave, for x >= 0.

    Args:
        x: [*shape].
        p: a weight for each entry, plain nonnegative numbers; all one by default.
        max_denom: largest denominator of the fractions that stand for the weights.
        approx: cvxpy's choice of cones: second-order cones rather than power cones.
        axis: which axes to take it over.
        keepdims: keep them as axes of size one.
    """
    options = {"max_denom": max_denom, "approx": approx}
    return call("geo_mean", x, p=p, axis=axis, keepdims=keepdims, **options)


def harmonic_mean(x: Any) -> Any:
    """Count over the sum of reciprocals of all entries; concave, for x > 0.

    Args:
        x: [*shape].
    """
    return call("harmonic_mean", x)


def inv_prod(value: Any, approx: bool = True) -> Any:
    """Reciprocal of the product of all entries; convex, for x > 0.

    Args:
        value: [*shape].
        approx: cvxpy's choice of cones: second-order cones rather than power cones.
    """
    return call("inv_prod", value, approx=approx)


def cumsum(expr: Any, axis: int | None = 0) -> Any:
    """Sums so far along an axis.

    Args:
        expr: [*shape].
        axis: along which; None takes all entries row by row.
    """
    return call("cumsum", expr, axis=axis)


def cummax(x: Any, axis: int = 0) -> Any:
    """Largest entry so far along an axis; convex.

    Args:
        x: [*shape].
        axis: along which.
    """
    return call("cummax", x, axis=axis)


def diff(x: Any, k: int = 1, axis: int = 0) -> Any:
    """Differences of order k of neighbours along an axis.

    Args:
        x: [*shape].
        k: how often the difference is taken.
        axis: along which.
    """
    return call("diff", x, k=k, axis=axis)


def tv(value: Any, *args: Any) -> Any:
    """Total variation; convex.

    Of a vector the sum of |differences|; of matrices (colours of an image, say) the
    sum over the pixels of the 2-norm of all differences to the right and down.

    Args:
        value: [n] or [m, n].
        *args: more matrices [m, n].
    """
    return call("tv", value, *args)


def total_variation(value: Any, *args: Any) -> Any:
    """The same as `tv`.

    Args:
        value: [n] or [m, n].
        *args: more matrices [m, n].
    """
    return tv(value, *args)
