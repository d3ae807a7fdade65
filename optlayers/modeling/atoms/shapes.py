"""Shape rules: the shape of an atom's result from the shapes of its arguments.

Called as `rule(*shapes, **options)`; cvxpy's defaults, torch's and numpy's conventions.
"""

import math
import operator
from collections.abc import Sequence
from typing import Any

import torch

Shape = tuple[int, ...]
Axis = int | Sequence[int] | None


class ShapeMismatch(ValueError):
    """Shapes or options that an atom cannot take; the caller adds place and source."""


def reduced_axes(ndim: int, axis: Axis) -> tuple[int, ...]:
    """Axes that a reduction removes, counted from zero; all of them for None."""
    if axis is None:
        return tuple(range(ndim))
    wanted = [axis] if isinstance(axis, int) else [operator.index(one) for one in axis]
    if ndim == 0 and all(one in (0, -1) for one in wanted):
        return ()
    for one in wanted:
        if not -ndim <= one < ndim:
            raise ShapeMismatch(f"axis {one} is out of range for {ndim} dimensions")
    axes = tuple(sorted(one % ndim for one in wanted))
    if len(set(axes)) < len(axes):
        raise ShapeMismatch(f"axis {tuple(wanted)} names an axis twice")
    return axes


def one_axis(ndim: int, axis: int) -> int:
    """One axis, counted from zero."""
    if not isinstance(axis, int):
        raise ShapeMismatch(f"axis must be one integer, not {axis!r}")
    if ndim == 0:
        raise ShapeMismatch("needs a vector or a matrix, not a scalar")
    return reduced_axes(ndim, axis)[0]


def same(shape: Shape, **_: Any) -> Shape:
    """Unchanged."""
    return shape


def scalar(*_: Shape, **__: Any) -> Shape:
    """One number."""
    return ()


def broadcast(*shapes: Shape, **_: Any) -> Shape:
    """Of an elementwise operation of several arguments."""
    length = max(len(shape) for shape in shapes)
    aligned = [(1,) * (length - len(shape)) + shape for shape in shapes]
    result = []
    for sizes in zip(*aligned, strict=True):
        proper = {size for size in sizes if size != 1}
        if len(proper) > 1:
            shown = " and ".join(str(list(shape)) for shape in shapes)
            raise ShapeMismatch(f"shapes {shown} do not broadcast")
        result.append(proper.pop() if proper else 1)
    return tuple(result)


def reduction(
    shape: Shape, axis: Axis = None, keepdims: bool = False, **_: Any
) -> Shape:
    """Of a sum over axes."""
    axes = reduced_axes(len(shape), axis)
    if keepdims:
        return tuple(1 if k in axes else size for k, size in enumerate(shape))
    return tuple(size for k, size in enumerate(shape) if k not in axes)


def extremum(
    shape: Shape, axis: Axis = None, keepdims: bool = False, **_: Any
) -> Shape:
    """Of a reduction that has no value for nothing, such as a maximum."""
    if any(shape[k] == 0 for k in reduced_axes(len(shape), axis)):
        raise ShapeMismatch(f"shape {list(shape)} has no entries to choose from")
    return reduction(shape, axis, keepdims)


def sum_of_ranked(
    shape: Shape, k: float = 1, axis: Axis = None, keepdims: bool = False
) -> Shape:
    """Of the sum of the k largest entries."""
    if k <= 0:
        raise ShapeMismatch(f"k={k} must be positive")
    available = math.prod(shape[one] for one in reduced_axes(len(shape), axis))
    if k > available:
        raise ShapeMismatch(f"k={k} is more than the {available} entries there are")
    return extremum(shape, axis, keepdims)


def geo_mean(
    shape: Shape,
    p: Any = None,
    axis: Axis = None,
    keepdims: bool = False,
    **_: Any,
) -> Shape:
    """Of a mean with a nonnegative weight for each entry."""
    for weight in () if p is None else torch.as_tensor(p).reshape(-1).tolist():
        if not weight >= 0:
            raise ShapeMismatch(
                f"p has the weight {weight:g}, and weights must be nonnegative"
            )
    return extremum(shape, axis, keepdims)


def norm(shape: Shape, p: Any = 2, axis: Axis = None, keepdims: bool = False) -> Shape:
    """Of a norm; of a matrix where no axis is named."""
    word = str(p).lower()
    if axis is None:
        if len(shape) == 2 and word not in ("1", "2", "fro", "nuc", "inf"):
            raise ShapeMismatch(
                f"p={p!r} is no norm of a matrix; those are 1, 2, 'inf', 'fro', 'nuc' "
                "(for a norm of all entries use pnorm)"
            )
        if len(shape) > 2:
            raise ShapeMismatch("more than two dimensions need an axis=")
        if len(shape) == 2:
            # cvxpy drops keepdims for matrix norms, so it is refused, not ignored.
            if keepdims:
                raise ShapeMismatch("keepdims needs an axis=")
            return ()
    elif word in ("fro", "nuc"):
        raise ShapeMismatch(f"p={p!r} is a norm of a whole matrix; it takes no axis=")
    if len(shape) < 2 and word == "nuc":
        raise ShapeMismatch("p='nuc' needs a matrix")
    return reduction(shape, axis, keepdims)


def pnorm(
    shape: Shape, p: Any = 2, axis: Axis = None, keepdims: bool = False, **_: Any
) -> Shape:
    """Of a norm of entries."""
    if float(p) == 0:
        raise ShapeMismatch("p=0 is no norm")
    return reduction(shape, axis, keepdims)


def quad_over_lin(
    x: Shape, y: Shape, axis: Axis = None, keepdims: bool = False
) -> Shape:
    """Of a sum of squares over a scalar."""
    if math.prod(y) != 1:
        raise ShapeMismatch(f"the denominator must be a scalar, not {list(y)}")
    return reduction(x, axis, keepdims)


def quad_form(x: Shape, P: Shape, **_: Any) -> Shape:
    """Of x' P x."""
    if len(x) != 1 or x * 2 != P:
        raise ShapeMismatch(
            f"needs a vector [n] and a matrix [n, n], not {list(x)} and {list(P)}"
        )
    return ()


def matrix_frac(X: Shape, P: Shape) -> Shape:
    """Of trace X' P^-1 X."""
    square_matrix(P)
    if len(X) not in (1, 2) or X[0] != P[0]:
        raise ShapeMismatch(f"cannot divide X {list(X)} by P {list(P)}")
    return ()


def square_matrix(shape: Shape, **_: Any) -> Shape:
    """Of a number computed from a square matrix."""
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ShapeMismatch(f"needs a square matrix, not shape {list(shape)}")
    return ()


def matrix(shape: Shape, **_: Any) -> Shape:
    """Of a number computed from a matrix."""
    if len(shape) != 2:
        raise ShapeMismatch(f"needs a matrix, not shape {list(shape)}")
    return ()


def lambda_sum(shape: Shape, k: int) -> Shape:
    """Of a sum of k eigenvalues."""
    square_matrix(shape)
    if not isinstance(k, int) or not 0 < k <= shape[0]:
        raise ShapeMismatch(f"k={k} must be a whole number from 1 to {shape[0]}")
    return ()


def matmul(left: Shape, right: Shape) -> Shape:
    """Of a product of vectors or matrices, as in torch.matmul."""
    if not left or not right:
        raise ShapeMismatch("@ takes vectors and matrices, not scalars; use *")
    inner = right[0] if len(right) == 1 else right[-2]
    if left[-1] != inner:
        raise ShapeMismatch(f"cannot multiply {list(left)} by {list(right)}")
    leading = broadcast(left[:-2], right[:-2])
    return leading + left[-2:-1] + (right[-1:] if len(right) > 1 else ())


def vdot(x: Shape, y: Shape) -> Shape:
    """Of the sum of products of entries."""
    if math.prod(x) != math.prod(y):
        raise ShapeMismatch(
            f"needs as many entries on both sides, not {list(x)} and {list(y)}"
        )
    return ()


def convolve(left: Shape, right: Shape) -> Shape:
    """Of a convolution of vectors."""
    if len(left) > 1 or len(right) > 1:
        raise ShapeMismatch(f"needs two vectors, not {list(left)} and {list(right)}")
    if 0 in left or 0 in right:
        raise ShapeMismatch("has nothing to convolve in an empty vector")
    return (math.prod(left) + math.prod(right) - 1,)


def einsum(*shapes: Shape, subscripts: str, **_: Any) -> Shape:
    """Of a sum of products over repeated subscripts."""
    tensors = [torch.empty(shape, device="meta") for shape in shapes]
    try:
        return tuple(torch.einsum(subscripts, *tensors).shape)
    except RuntimeError as reason:
        shown = " and ".join(str(list(shape)) for shape in shapes)
        raise ShapeMismatch(f"{subscripts!r} does not fit {shown}: {reason}") from None


def cvar(shape: Shape, beta: float) -> Shape:
    """Of a mean of the largest entries."""
    if not 0 <= beta < 1:
        raise ShapeMismatch(f"beta={beta} must be at least 0 and below 1")
    if len(shape) != 1 or not shape[0]:
        raise ShapeMismatch(f"needs a vector of samples, not shape {list(shape)}")
    return ()


def square(shape: Shape, *others: Shape, **_: Any) -> Shape:
    """Unchanged, of a square matrix; other arguments are scalars."""
    square_matrix(shape)
    for other in others:
        if math.prod(other) != 1:
            raise ShapeMismatch(f"needs a scalar, not {list(other)}")
    return shape


def scalene(x: Shape, alpha: Shape, beta: Shape) -> Shape:
    """Of two slopes on either side of zero."""
    return broadcast(x, alpha, beta)


def dotsort(X: Shape, W: Shape) -> Shape:
    """Of the product of sorted entries."""
    if math.prod(X) < math.prod(W):
        raise ShapeMismatch(f"has more weights {list(W)} than entries {list(X)}")
    return ()


def outer(x: Shape, y: Shape) -> Shape:
    """Of all products of two entries."""
    if len(x) > 1 or len(y) > 1:
        raise ShapeMismatch(f"needs two vectors, not {list(x)} and {list(y)}")
    return (math.prod(x), math.prod(y))


def kron(left: Shape, right: Shape) -> Shape:
    """Of a Kronecker product."""
    if len(left) != 2 or len(right) != 2:
        raise ShapeMismatch(f"needs two matrices, not {list(left)} and {list(right)}")
    return (left[0] * right[0], left[1] * right[1])


def cumulative(shape: Shape, axis: int | None = 0) -> Shape:
    """Of sums or maxima so far."""
    if axis is None:
        return (math.prod(shape),)
    one_axis(len(shape), axis)
    return shape


def diff(shape: Shape, k: int = 1, axis: int = 0) -> Shape:
    """Of k-th differences along an axis."""
    axis = one_axis(len(shape), axis)
    if not 0 <= k < shape[axis]:
        raise ShapeMismatch(f"k={k} differences need more than {shape[axis]} entries")
    return (*shape[:axis], shape[axis] - k, *shape[axis + 1 :])


def tv(shape: Shape, *others: Shape) -> Shape:
    """Of one vector, or of matrices of one shape."""
    if len(shape) not in (1, 2):
        raise ShapeMismatch(f"needs a vector or matrices, not shape {list(shape)}")
    for other in others:
        if len(shape) != 2 or other != shape:
            raise ShapeMismatch(
                f"needs matrices of one shape, not {list(shape)} and {list(other)}"
            )
    if min(shape) < 2:
        raise ShapeMismatch(f"shape {list(shape)} has no neighbours to compare")
    return ()
