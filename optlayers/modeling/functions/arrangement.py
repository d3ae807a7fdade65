"""Functions that move entries. Names and arguments are cvxpy's; all are affine."""

from collections.abc import Sequence
from typing import Any, Literal

import torch

from optlayers.errors import ShapeError
from optlayers.modeling.functions.calling import as_term, call, pieces_of
from optlayers.modeling.inference import located


def reshape(expr: Any, shape: Any, order: Literal["F", "C"]) -> Any:
    """The same entries in another shape.

    Args:
        expr: [*shape].
        shape: the new one; one size may be -1.
        order: "C" by rows, as torch does, or "F" by columns. It has no default:
            cvxpy's is about to change.
    """
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    return call("reshape", expr, shape=shape, order=order)


def vec(X: Any, order: Literal["F", "C"]) -> Any:
    """The same entries as one vector.

    Args:
        X: [*shape].
        order: "C" by rows, as torch does, or "F" by columns. It has no default:
            cvxpy's is about to change.
    """
    return call("vec", X, order=order)


def transpose(expr: Any, axes: Sequence[int] | None = None) -> Any:
    """The axes in another order.

    Args:
        expr: [*shape].
        axes: the new order; reversed by default.
    """
    return call("transpose", expr, axes=None if axes is None else tuple(axes))


def hstack(arg_list: Sequence[Any]) -> Any:
    """Pieces side by side: vectors end to end, matrices by columns.

    Args:
        arg_list: the pieces, scalars, vectors or matrices.
    """
    return call("hstack", *pieces_of("hstack", arg_list))


def vstack(arg_list: Sequence[Any]) -> Any:
    """Pieces one above the other: vectors as rows, matrices by rows.

    Args:
        arg_list: the pieces, scalars, vectors or matrices.
    """
    return call("vstack", *pieces_of("vstack", arg_list))


def bmat(block_lists: Sequence[Sequence[Any]]) -> Any:
    """A matrix of blocks.

    Args:
        block_lists: the rows of blocks, each a list of matrices.
    """
    rows = pieces_of("bmat", block_lists)
    return vstack([hstack(pieces_of("bmat", row)) for row in rows])


def concatenate(arg_list: Sequence[Any], axis: int | None = 0) -> Any:
    """Pieces joined along an axis they have.

    Args:
        arg_list: the pieces.
        axis: along which; None joins all entries row by row.
    """
    return call("concatenate", *pieces_of("concatenate", arg_list), axis=axis)


def stack(arrays: Sequence[Any], axis: int = 0) -> Any:
    """Pieces of one shape joined along a new axis.

    Args:
        arrays: the pieces.
        axis: where the new axis stands.
    """
    return call("stack", *pieces_of("stack", arrays), axis=axis)


def diag(expr: Any, k: int = 0) -> Any:
    """The matrix with a given diagonal, or the diagonal of a square matrix.

    Args:
        expr: [n], or [n, n].
        k: which diagonal, positive above the main one.
    """
    return call("diag", expr, k=k)


def upper_tri(expr: Any) -> Any:
    """The entries above the diagonal, row by row, [n (n - 1) / 2, 1].

    Args:
        expr: [n, n].
    """
    return call("upper_tri", expr)


def vec_to_upper_tri(expr: Any, strict: bool = False) -> Any:
    """The upper triangular matrix [n, n] of entries given row by row.

    Args:
        expr: [n (n + 1) / 2], or [n (n - 1) / 2] where strict.
        strict: whether the diagonal is zero.
    """
    return call("vec_to_upper_tri", expr, strict=strict)


def triu(X: Any, k: int = 0) -> Any:
    """The matrix with zeros below a diagonal, as torch.triu.

    Args:
        X: [m, n].
        k: which diagonal, positive above the main one.
    """
    return call("triu", X, k=k)


def tril(X: Any, k: int = 0) -> Any:
    """The matrix with zeros above a diagonal, as torch.tril.

    Args:
        X: [m, n].
        k: which diagonal, positive above the main one.
    """
    return call("tril", X, k=k)


def broadcast_to(expr: Any, shape: Any) -> Any:
    """Entries repeated to fill a shape.

    Args:
        expr: [*shape].
        shape: the new one.
    """
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    return call("broadcast_to", expr, shape=shape)


def partial_trace(expr: Any, dims: Sequence[int], axis: int | None = 0) -> Any:
    """The trace over one factor of a Kronecker product of square matrices.

    Args:
        expr: [n, n].
        dims: the orders of the factors, of product n.
        axis: which factor.
    """
    return call("partial_trace", expr, dims=tuple(dims), axis=axis)


def partial_transpose(expr: Any, dims: Sequence[int], axis: int | None = 0) -> Any:
    """The transpose of one factor of a Kronecker product of square matrices.

    Args:
        expr: [n, n].
        dims: the orders of the factors, of product n.
        axis: which factor.
    """
    return call("partial_transpose", expr, dims=tuple(dims), axis=axis)


# ---- numpy's other names for these ---------------------------------------------------


def permute_dims(expr: Any, axes: Sequence[int]) -> Any:
    """The axes in another order; the same as `transpose`.

    Args:
        expr: [*shape].
        axes: the new order.
    """
    return transpose(expr, axes)


def swapaxes(expr: Any, axis1: int, axis2: int) -> Any:
    """Two axes exchanged.

    Args:
        expr: [*shape].
        axis1: one of them.
        axis2: the other.
    """
    order = list(range(as_term(expr).ndim))
    order[axis1], order[axis2] = order[axis2], order[axis1]
    return transpose(expr, order)


def moveaxis(expr: Any, source: Any, destination: Any) -> Any:
    """Axes moved to other places, the others kept in their order.

    Args:
        expr: [*shape].
        source: one axis or several.
        destination: where each is moved.
    """
    shape = tuple(as_term(expr).shape)
    # A tensor whose axes tell by their sizes which they are.
    marked = torch.empty(tuple(range(len(shape))), device="meta")
    return transpose(expr, tuple(torch.movedim(marked, source, destination).shape))


def squeeze(expr: Any, axis: int | tuple[int, ...] | None = None) -> Any:
    """Without axes of size one.

    Args:
        expr: [*shape].
        axis: which of them; all by default.

    Raises:
        ShapeError: an axis of another size.
    """
    shape = tuple(as_term(expr).shape)
    named = range(len(shape)) if axis is None else axis
    wanted = {k % len(shape) for k in ([named] if isinstance(named, int) else named)}
    if axis is not None and any(shape[k] != 1 for k in wanted):
        raise located(
            ShapeError(f"ol.squeeze: an axis {axis} of {list(shape)} is not of size 1.")
        )
    kept = tuple(n for k, n in enumerate(shape) if n != 1 or k not in wanted)
    return reshape(expr, kept, order="C")


def expand_dims(expr: Any, axis: int) -> Any:
    """With one more axis, of size one.

    Args:
        expr: [*shape].
        axis: where it stands.
    """
    shape = list(as_term(expr).shape)
    shape.insert(axis % (len(shape) + 1), 1)
    return reshape(expr, shape, order="C")
