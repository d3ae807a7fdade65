"""Shape rules of atoms that only move entries: reshaping, stacking, transposing."""

import math
import operator
from collections.abc import Sequence
from typing import Any

from optlayers.modeling.atoms.shapes import (
    Shape,
    ShapeMismatch,
    broadcast,
    one_axis,
    square_matrix,
)


def full_shape(size: int, target: Any) -> Shape:
    """A requested shape with its -1 replaced, if it has one.

    Raises:
        ShapeMismatch: `size` entries do not fill it.
    """
    wanted = (target,) if isinstance(target, int) else tuple(target)
    sizes = [operator.index(one) for one in wanted]
    known = math.prod([one for one in sizes if one != -1])
    if sizes.count(-1) == 1 and known and size % known == 0:
        sizes[sizes.index(-1)] = size // known
    if min(sizes, default=0) < 0 or math.prod(sizes) != size:
        raise ShapeMismatch(f"cannot put {size} entries into shape {list(wanted)}")
    return tuple(sizes)


def reshape(source: Shape, *, shape: Any, order: str = "C") -> Shape:
    """Of the same entries in another shape."""
    check_order(order)
    return full_shape(math.prod(source), shape)


def vec(source: Shape, *, order: str = "C") -> Shape:
    """Of the same entries as one vector."""
    check_order(order)
    return (math.prod(source),)


def check_order(order: str) -> None:
    """Refuse anything but row-major "C" and column-major "F"."""
    if order not in ("C", "F"):
        raise ShapeMismatch(f'order must be "C" (by rows) or "F" (by columns): {order}')


def transpose(shape: Shape, axes: Sequence[int] | None = None) -> Shape:
    """Of the axes in another order; reversed by default."""
    if axes is None:
        return shape[::-1]
    chosen = tuple(one_axis(len(shape), one) for one in axes)
    if sorted(chosen) != list(range(len(shape))):
        raise ShapeMismatch(f"axes {tuple(axes)} must name each axis of {list(shape)}")
    return tuple(shape[axis] for axis in chosen)


def concatenate(*shapes: Shape, axis: int | None = 0) -> Shape:
    """Of pieces joined along an axis they have."""
    if axis is None:
        return (sum(math.prod(shape) for shape in shapes),)
    first = shapes[0]
    axis = one_axis(len(first), axis)
    for shape in shapes[1:]:
        if _without(shape, axis) != _without(first, axis) or len(shape) != len(first):
            raise ShapeMismatch(
                f"cannot join shapes {list(first)} and {list(shape)} along axis {axis}"
            )
    length = sum(shape[axis] for shape in shapes)
    return (*first[:axis], length, *first[axis + 1 :])


def stack(*shapes: Shape, axis: int = 0) -> Shape:
    """Of pieces of one shape, joined along a new axis."""
    first = shapes[0]
    for shape in shapes[1:]:
        if shape != first:
            raise ShapeMismatch(
                f"cannot stack shapes {list(first)} and {list(shape)}; they must agree"
            )
    axis = one_axis(len(first) + 1, axis)
    return (*first[:axis], len(shapes), *first[axis:])


def hstack(*shapes: Shape) -> Shape:
    """Of pieces side by side: vectors end to end, matrices by columns."""
    pieces = [shape or (1,) for shape in shapes]
    return concatenate(*pieces, axis=0 if len(pieces[0]) == 1 else 1)


def vstack(*shapes: Shape) -> Shape:
    """Of pieces one above the other: vectors as rows, matrices by rows."""
    pieces = [(1,) * (2 - len(shape)) + shape for shape in shapes]
    return concatenate(*pieces, axis=0)


def diag(shape: Shape, k: int = 0) -> Shape:
    """Of the matrix with a given diagonal, or the diagonal of a square matrix."""
    if len(shape) == 1:
        return (shape[0] + abs(k),) * 2
    square_matrix(shape)
    if abs(k) >= shape[0]:
        raise ShapeMismatch(f"a matrix of shape {list(shape)} has no diagonal {k}")
    return (shape[0] - abs(k),)


def upper_tri(shape: Shape) -> Shape:
    """Of the entries above the diagonal, a column as in cvxpy."""
    square_matrix(shape)
    return (shape[0] * (shape[0] - 1) // 2, 1)


def vec_to_upper_tri(shape: Shape, strict: bool = False) -> Shape:
    """Of an upper triangular matrix given by its entries."""
    size = math.prod(shape)
    if len(shape) > 2 or (len(shape) == 2 and 1 not in shape):
        raise ShapeMismatch(f"needs a vector, not shape {list(shape)}")
    return (triangle_order(size, strict),) * 2


def triangle_order(size: int, strict: bool) -> int:
    """Order of the matrix whose (strict) upper triangle has so many entries.

    Raises:
        ShapeMismatch: no triangle has.
    """
    root = math.isqrt(8 * size + 1)
    if root * root != 8 * size + 1:
        raise ShapeMismatch(f"{size} entries fill no triangle")
    return (root + 1) // 2 if strict else (root - 1) // 2


def any_matrix(shape: Shape, **_: Any) -> Shape:
    """Unchanged, of a matrix."""
    if len(shape) != 2:
        raise ShapeMismatch(f"needs a matrix, not shape {list(shape)}")
    return shape


def broadcast_to(source: Shape, shape: Any) -> Shape:
    """Of entries repeated to fill a shape."""
    target = (shape,) if isinstance(shape, int) else tuple(shape)
    if len(target) < len(source) or broadcast(source, target) != target:
        raise ShapeMismatch(f"cannot repeat shape {list(source)} to {list(target)}")
    return target


def partial_trace(shape: Shape, dims: Sequence[int], axis: int = 0) -> Shape:
    """Of the other factors of a Kronecker product."""
    axis = _factor_axis(shape, dims, axis)
    return (shape[0] // dims[axis],) * 2


def partial_transpose(shape: Shape, dims: Sequence[int], axis: int = 0) -> Shape:
    """Of a Kronecker product with one factor transposed."""
    _factor_axis(shape, dims, axis)
    return shape


def _factor_axis(shape: Shape, dims: Sequence[int], axis: int) -> int:
    square_matrix(shape)
    if math.prod(dims) != shape[0]:
        raise ShapeMismatch(
            f"factors of order {list(dims)} make no matrix of shape {list(shape)}"
        )
    return one_axis(len(dims), axis)


def _without(shape: Shape, axis: int) -> Shape:
    return shape[:axis] + shape[axis + 1 :]
