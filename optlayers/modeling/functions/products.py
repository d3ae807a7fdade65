"""Products, quadratic forms and spectra. Names and arguments are cvxpy's."""

from typing import Any

from optlayers.modeling.functions.calling import as_term, call

Axis = int | tuple[int, ...] | None


def matmul(lh_exp: Any, rh_exp: Any) -> Any:
    """Product of vectors or matrices, as `@`.

    Args:
        lh_exp: [n], [k, n] or [*, k, n].
        rh_exp: [n], [n, m] or [*, n, m].
    """
    return call("matmul", lh_exp, rh_exp)


def vdot(x: Any, y: Any) -> Any:
    """Sum of products of entries.

    Args:
        x: [*shape].
        y: as many entries.
    """
    return call("vdot", x, y)


def scalar_product(x: Any, y: Any) -> Any:
    """Sum of products of entries; the same as `vdot`.

    Args:
        x: [*shape].
        y: as many entries.
    """
    return call("vdot", x, y)


def outer(x: Any, y: Any) -> Any:
    """All products of an entry of x and an entry of y, [m, n].

    Args:
        x: [m].
        y: [n].
    """
    return call("outer", x, y)


def kron(lh_expr: Any, rh_expr: Any) -> Any:
    """Kronecker product, [m p, n q].

    Args:
        lh_expr: [m, n].
        rh_expr: [p, q].
    """
    return call("kron", lh_expr, rh_expr)


def convolve(lh_expr: Any, rh_expr: Any) -> Any:
    """Discrete convolution of two vectors, [m + n - 1].

    Args:
        lh_expr: [m]; one of the two of parameters only.
        rh_expr: [n].
    """
    return call("convolve", lh_expr, rh_expr)


def conv(lh_expr: Any, rh_expr: Any) -> Any:
    """Discrete convolution of two vectors, a column where one of them is.

    Args:
        lh_expr: [m] or [m, 1]; one of the two of parameters only.
        rh_expr: [n] or [n, 1].

    Raises:
        ShapeError: one of them is no vector.
    """
    left, right = (as_term(one) for one in (lh_expr, rh_expr))
    sides = []
    for one in (left, right):
        is_column = one.ndim == 2 and one.shape[1] == 1
        sides.append(call("vec", one, order="C") if is_column else one)
    result = call("convolve", *sides)
    if 2 not in (left.ndim, right.ndim):
        return result
    return call("reshape", result, shape=(-1, 1), order="C")


def einsum(subscripts: str, *exprs: Any, optimize: Any = "greedy") -> Any:
    """Sums of products over repeated subscripts, as torch.einsum.

    Args:
        subscripts: such as "ij,jk->ik".
        *exprs: the factors; at most one of them depends on variables.
        optimize: cvxpy's order of the contractions; of no consequence here.
    """
    return call("einsum", *exprs, subscripts=subscripts)


def quad_form(x: Any, P: Any, assume_PSD: bool = False) -> Any:
    """Quadratic form x' P x; convex where P is positive semidefinite.

    Args:
        x: [n].
        P: [n, n], symmetric; of parameters only, declared psd=True or wrapped in
            ol.psd_matrix, or x of parameters only.
        assume_PSD: take P for positive semidefinite without a check.
    """
    if not assume_PSD:
        return call("quad_form", x, P)
    return call("quad_form", x, P, assume_PSD=True)


def quad_over_lin(x: Any, y: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Sum of squares of x over y; convex in both, for y > 0.

    Args:
        x: [*shape].
        y: a scalar.
        axis: which axes of x to sum over.
        keepdims: keep them as axes of size one.
    """
    return call("quad_over_lin", x, y, axis=axis, keepdims=keepdims)


def matrix_frac(X: Any, P: Any) -> Any:
    """Trace of X' P^-1 X; convex in both, for P positive definite.

    Args:
        X: [n] or [n, m].
        P: [n, n]; of another than a symmetric one the symmetric part is taken.
    """
    return call("matrix_frac", X, P)


def dotsort(X: Any, W: Any) -> Any:
    """Largest entry times largest weight, and so on; convex in X.

    Args:
        X: [*shape].
        W: weights, at most as many, of parameters only; missing ones are zero.
    """
    return call("dotsort", X, W)


def trace(expr: Any) -> Any:
    """Sum of the diagonal.

    Args:
        expr: [n, n].
    """
    return call("trace", expr)


def lambda_max(A: Any) -> Any:
    """Largest eigenvalue; convex.

    Args:
        A: [n, n]; of another than a symmetric one the symmetric part is taken.
    """
    return call("lambda_max", A)


def lambda_min(X: Any) -> Any:
    """Smallest eigenvalue; concave.

    Args:
        X: [n, n]; of another than a symmetric one the symmetric part is taken.
    """
    return call("lambda_min", X)


def lambda_sum_largest(X: Any, k: int) -> Any:
    """Sum of the k largest eigenvalues; convex.

    Args:
        X: [n, n]; of another than a symmetric one the symmetric part is taken.
        k: how many.
    """
    return call("lambda_sum_largest", X, k=k)


def lambda_sum_smallest(X: Any, k: int) -> Any:
    """Sum of the k smallest eigenvalues; concave.

    Args:
        X: [n, n]; of another than a symmetric one the symmetric part is taken.
        k: how many.
    """
    return call("lambda_sum_smallest", X, k=k)


def log_det(A: Any) -> Any:
    """Logarithm of the determinant; concave, for A positive definite.

    Args:
        A: [n, n]; of another than a symmetric one the symmetric part is taken.
    """
    return call("log_det", A)


def von_neumann_entr(X: Any, quad_approx: tuple[int, ...] = ()) -> Any:
    """Von Neumann entropy -trace(X log X); concave, for X positive semidefinite.

    Args:
        X: [n, n]; of another than a symmetric one the symmetric part is taken.
        quad_approx: cvxpy's nodes and scalings of an approximation by second-order
            cones; exact by default.
    """
    return call("von_neumann_entr", X, quad_approx=tuple(quad_approx))


def tr_inv(X: Any) -> Any:
    """Trace of the inverse; convex, for X positive definite.

    Args:
        X: [n, n]; of another than a symmetric one the symmetric part is taken.
    """
    return call("tr_inv", X)
