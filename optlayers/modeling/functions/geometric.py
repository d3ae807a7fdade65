"""Atoms of geometric programs. Names and arguments are cvxpy's.

Functions of positive terms, log-log convex or concave. On variables they have a meaning
in a problem declared `@ol.problem(geometric=True)` only.
"""

from typing import Any

from optlayers.modeling.functions.calling import call

Axis = int | tuple[int, ...] | None


def prod(expr: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Product of entries; log-log affine.

    Args:
        expr: [*shape].
        axis: which axes to multiply over.
        keepdims: keep them as axes of size one.
    """
    return call("prod", expr, axis=axis, keepdims=keepdims)


def cumprod(expr: Any, axis: int = 0) -> Any:
    """Products so far along an axis; log-log affine.

    Args:
        expr: [*shape].
        axis: along which.
    """
    return call("cumprod", expr, axis=axis)


def one_minus_pos(x: Any) -> Any:
    """1 - x of every entry; log-log concave, for 0 < x < 1.

    Args:
        x: [*shape].
    """
    return call("one_minus_pos", x)


def diff_pos(x: Any, y: Any) -> Any:
    """x - y, entry by entry; log-log concave, for x > y > 0.

    Args:
        x: [*shape].
        y: a shape that broadcasts with it.
    """
    return call("diff_pos", x, y)


def eye_minus_inv(X: Any) -> Any:
    """(I - X)^-1; log-log convex, for positive X of spectral radius below 1.

    Args:
        X: [n, n].
    """
    return call("eye_minus_inv", X)


def resolvent(X: Any, s: Any) -> Any:
    """(s I - X)^-1; log-log convex, for positive X of spectral radius below s.

    Args:
        X: [n, n].
        s: a positive scalar.
    """
    return call("resolvent", X, s)


def pf_eigenvalue(X: Any) -> Any:
    """Perron-Frobenius eigenvalue of a positive matrix; log-log convex.

    Args:
        X: [n, n].
    """
    return call("pf_eigenvalue", X)


def gmatmul(A: Any, X: Any) -> Any:
    """Products of powers: entry i k is the product over j of X_jk^A_ij; log-log affine.

    Args:
        A: exponents, [m, n], of parameters only.
        X: [n] or [n, p], positive.
    """
    return call("gmatmul", A, X)
