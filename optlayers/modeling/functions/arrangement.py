"""Functions that move entries. Names and arguments are cvxpy's; all are affine."""

from collections.abc import Sequence
from typing import Any, Literal

from optlayers.modeling.functions.calling import call, pieces_of


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
