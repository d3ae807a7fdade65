"""Rules that say a torch call with atoms, each with the signature of its function.

`build(name, *arguments, **options)` makes the node. A rule raises `Unlike` where no
atom means the call; the call then stays a torch node.
"""

import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import torch

Build = Callable[..., Any]
Rule = Callable[..., Any]


class Unlike(Exception):
    """This way of calling the function is no atom's."""


# ---- makers of rules that differ in the atom's name only -----------------------------


def unary(name: str) -> Rule:
    """A function of one tensor."""

    def rule(build: Build, input: Any, **other: Any) -> Any:
        _refuse(other)
        return build(name, input)

    return rule


def binary(name: str) -> Rule:
    """A function of two tensors."""

    def rule(build: Build, *operands: Any, **other: Any) -> Any:
        operands = operands + tuple(other.pop(k) for k in _OPERANDS if k in other)
        _refuse(other)
        if len(operands) != 2:
            raise Unlike
        return build(name, *operands)

    return rule


def reflected(name: str) -> Rule:
    """A method whose tensor is the right operand."""
    return lambda build, self, other: build(name, other, self)


def reduction(name: str) -> Rule:
    """A reduction over dim."""

    def rule(
        build: Build, input: Any, dim: Any = None, keepdim: bool = False, **other: Any
    ) -> Any:
        _refuse(other)
        return build(name, input, axis=_axis(dim), keepdims=keepdim)

    return rule


def extremum(name: str, of_two: str) -> Rule:
    """torch.max or min: of all entries, or of two tensors."""

    def rule(build: Build, input: Any, other: Any = None) -> Any:
        if other is None:
            return build(name, input)
        # With a dim it returns indices too, which no atom has.
        if isinstance(other, int):
            raise Unlike
        return build(of_two, input, other)

    return rule


def deviation(name: str) -> Rule:
    """torch.var or std, which divide by count - 1 unless told otherwise."""

    def rule(
        build: Build,
        input: Any,
        dim: Any = None,
        unbiased: bool = True,
        keepdim: bool = False,
        correction: float | None = None,
    ) -> Any:
        if isinstance(dim, bool):
            dim, unbiased = None, dim
        if correction is None:
            correction = 1 if unbiased else 0
        return build(name, input, axis=_axis(dim), keepdims=keepdim, ddof=correction)

    return rule


def joined(name: str) -> Rule:
    """A function of a sequence of tensors."""
    return lambda build, tensors: build(name, *tensors)


# ---- arithmetic ----------------------------------------------------------------------


def add(build: Build, input: Any, other: Any, alpha: float = 1) -> Any:
    """A sum, the second term scaled."""
    return build("add", input, _scaled(build, other, alpha))


def subtract(build: Build, input: Any, other: Any, alpha: float = 1) -> Any:
    """A difference, the second term scaled."""
    return build("add", input, build("negate", _scaled(build, other, alpha)))


def subtract_reflected(build: Build, input: Any, other: Any, alpha: float = 1) -> Any:
    """The same, with its terms exchanged."""
    return subtract(build, other, input, alpha)


def divide(build: Build, input: Any, other: Any, rounding_mode: Any = None) -> Any:
    """A quotient that is not rounded."""
    if rounding_mode is not None:
        raise Unlike
    return build("divide", input, other)


def divide_reflected(build: Build, input: Any, other: Any) -> Any:
    """The same, with its terms exchanged."""
    return build("divide", other, input)


def reciprocal(build: Build, input: Any) -> Any:
    """1 / input."""
    return build("divide", 1.0, input)


def power(build: Build, input: Any, exponent: Any) -> Any:
    """input^exponent, entry by entry, as torch.pow computes it."""
    return build("power", input, p=exponent)


def clamp(build: Build, input: Any, min: Any = None, max: Any = None) -> Any:
    """The input, kept between min and max."""
    if min is None and max is None:
        raise Unlike
    if min is not None:
        input = build("maximum", input, min)
    return input if max is None else build("minimum", input, max)


def clamp_min(build: Build, input: Any, min: Any) -> Any:
    """The input, kept above min."""
    return clamp(build, input, min=min)


def clamp_max(build: Build, input: Any, max: Any) -> Any:
    """The input, kept below max."""
    return clamp(build, input, max=max)


def softplus(build: Build, input: Any, beta: float = 1, threshold: float = 20) -> Any:
    """log(1 + exp(input)); torch's is linear above 20, by less than 3e-9."""
    if beta != 1 or threshold < 20:
        raise Unlike
    return build("logistic", input)


def linear(build: Build, input: Any, weight: Any, bias: Any = None) -> Any:
    """Weight @ input + bias, as nn.Linear does."""
    product = build("matmul", input, build("transpose", weight))
    return product if bias is None else build("add", product, bias)


# ---- norms ---------------------------------------------------------------------------


def vector_norm(
    build: Build, x: Any, ord: float = 2, dim: Any = None, keepdim: bool = False
) -> Any:
    """Norm of entries."""
    if ord == 0 or not isinstance(ord, Real) or ord == -math.inf:
        raise Unlike
    return build("pnorm", x, p=ord, axis=_axis(dim), keepdims=keepdim)


def entry_norm(
    build: Build, input: Any, p: Any = "fro", dim: Any = None, keepdim: bool = False
) -> Any:
    """torch.norm: of entries, whatever their number of axes."""
    return vector_norm(build, input, 2 if p in ("fro", None) else p, dim, keepdim)


def linalg_norm(
    build: Build, A: Any, ord: Any = None, dim: Any = None, keepdim: bool = False
) -> Any:
    """torch.linalg.norm: of a vector, or an operator norm of a matrix."""
    if ord is None or A.ndim == 1 or isinstance(dim, int):
        return vector_norm(build, A, 2 if ord is None else ord, dim, keepdim)
    if dim is not None:
        raise Unlike
    return matrix_norm(build, A, ord, keepdim=keepdim)


def matrix_norm(
    build: Build, A: Any, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False
) -> Any:
    """torch.linalg.matrix_norm."""
    ord = "inf" if ord == math.inf else ord
    plain = A.ndim == 2 and tuple(dim) == (-2, -1) and not keepdim
    if not plain or ord not in (1, 2, "fro", "nuc", "inf"):
        raise Unlike
    return build("norm", A, p=ord)


# ---- along one axis ------------------------------------------------------------------


def cumsum(build: Build, input: Any, dim: int) -> Any:
    """Sums so far."""
    return build("cumsum", input, axis=dim)


def diff(
    build: Build, input: Any, n: int = 1, dim: int = -1, prepend: Any = None,
    append: Any = None,
) -> Any:  # fmt: skip
    """Differences of neighbours."""
    if prepend is not None or append is not None:
        raise Unlike
    return build("diff", input, k=n, axis=dim)


def stack(build: Build, tensors: Sequence[Any], dim: int = 0) -> Any:
    """Pieces along a new axis."""
    return build("stack", *tensors, axis=dim)


def concatenate(build: Build, tensors: Sequence[Any], dim: int = 0) -> Any:
    """Pieces along an axis they have."""
    return build("concatenate", *tensors, axis=dim)


# ---- other shapes --------------------------------------------------------------------


def reshape(build: Build, input: Any, *shape: Any, **other: Any) -> Any:
    """The same entries, by rows."""
    shape = other.pop("shape", shape)
    _refuse(other)
    if len(shape) == 1 and isinstance(shape[0], tuple | list):
        shape = tuple(shape[0])
    if not all(isinstance(size, int) for size in shape):
        raise Unlike
    return build("reshape", input, shape=tuple(shape), order="C")


def flatten(build: Build, input: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """A run of axes joined."""
    shape = tuple(input.shape)
    if not shape:
        return reshape(build, input, 1)
    start, end = start_dim % len(shape), end_dim % len(shape)
    joined = math.prod(shape[start : end + 1])
    return reshape(build, input, (*shape[:start], joined, *shape[end + 1 :]))


def squeeze(build: Build, input: Any, dim: Any = None) -> Any:
    """Without axes of size one."""
    ndim = len(input.shape)
    wanted = range(ndim) if dim is None else [dim] if isinstance(dim, int) else dim
    gone = {k % ndim for k in wanted} if ndim else set()
    kept = [n for k, n in enumerate(input.shape) if n != 1 or k not in gone]
    return reshape(build, input, kept)


def unsqueeze(build: Build, input: Any, dim: int) -> Any:
    """With one more axis, of size one."""
    shape = list(input.shape)
    shape.insert(dim % (len(shape) + 1), 1)
    return reshape(build, input, shape)


def swap_axes(build: Build, input: Any, *axes: int, **other: int) -> Any:
    """With two axes exchanged."""
    one, two = axes + tuple(other.values())
    order = list(range(len(input.shape)))
    order[one], order[two] = order[two], order[one]
    return build("transpose", input, axes=tuple(order))


def matrix_transpose(build: Build, input: Any) -> Any:
    """The transpose of a matrix; a vector is its own."""
    return build("transpose", input) if len(input.shape) == 2 else _itself(input)


def permute(build: Build, input: Any, *dims: Any, **other: Any) -> Any:
    """The axes in another order."""
    dims = other.pop("dims", dims)
    _refuse(other)
    if len(dims) == 1 and not isinstance(dims[0], int):
        dims = dims[0]
    return build("transpose", input, axes=tuple(dims))


def move_axes(build: Build, input: Any, source: Any, destination: Any) -> Any:
    """With axes at other places, the others kept in their order."""
    # A tensor whose axes tell by their sizes which they are.
    marked = torch.empty(tuple(range(len(input.shape))), device="meta")
    return permute(
        build, input, tuple(torch.movedim(marked, source, destination).shape)
    )


def triangle(name: str) -> Rule:
    """The part of a matrix on one side of a diagonal."""

    def rule(build: Build, input: Any, diagonal: int = 0) -> Any:
        if len(input.shape) != 2:
            raise Unlike
        return build(name, input, k=diagonal)

    return rule


def broadcast_to(build: Build, input: Any, size: Any) -> Any:
    """Entries repeated to fill a shape."""
    return build("broadcast_to", input, shape=tuple(size))


def einsum(build: Build, equation: str, *operands: Any) -> Any:
    """Sums of products over repeated subscripts."""
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = tuple(operands[0])
    return build("einsum", *operands, subscripts=equation)


def diag(build: Build, input: Any, diagonal: int = 0) -> Any:
    """To and from a diagonal."""
    _square_or_vector(input)
    return build("diag", input, k=diagonal)


def diagonal(
    build: Build, input: Any, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> Any:
    """The diagonal of a matrix."""
    if len(input.shape) != 2 or (dim1 % 2, dim2 % 2) != (0, 1):
        raise Unlike
    return diag(build, input, offset)


def diag_embed(build: Build, input: Any, offset: int = 0, **other: Any) -> Any:
    """The matrix with a given diagonal."""
    _refuse(other)
    if len(input.shape) != 1:
        raise Unlike
    return build("diag", input, k=offset)


# ---- shared --------------------------------------------------------------------------

_OPERANDS = ("input", "self", "other", "tensor", "mat2", "vec", "vec2")


def _refuse(keywords: dict[str, Any]) -> None:
    if keywords:
        raise Unlike


def _axis(dim: Any) -> Any:
    return tuple(dim) if isinstance(dim, list) else dim


def _scaled(build: Build, tensor: Any, alpha: float) -> Any:
    return tensor if alpha == 1 else build("multiply", alpha, tensor)


def _itself(input: Any) -> Any:
    if len(input.shape) > 2:
        raise Unlike
    return input


def _square_or_vector(input: Any) -> None:
    shape = tuple(input.shape)
    if len(shape) == 2 and shape[0] != shape[1]:
        raise Unlike
