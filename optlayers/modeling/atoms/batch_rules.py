"""How atoms are evaluated for a batch at once, [B, *shape], rather than a sample.

A rule is told which operands of a node have the batch axis in front, and makes its
torch function, or None for what it does not know, which then runs under vmap.
"""

import math
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from optlayers.modeling.atoms.arrangement import cumsum
from optlayers.modeling.atoms.shapes import Shape, reduced_axes

# The torch function of one node, called with its operands.
BatchCall = Callable[..., Any]


@dataclass(frozen=True)
class Node:
    """One node, and how its operands stand; at least one of them is batched.

    Attributes:
        function: of one sample, called as `function(*tensors, **options)`.
        options: its static options.
        shapes: shape of one sample of each operand.
        batched: whether each operand comes as [B, *shape], or shared as [*shape].
        shape: of one sample of the result.
    """

    function: Callable[..., Any]
    options: Mapping[str, Any]
    shapes: tuple[Shape, ...]
    batched: tuple[bool, ...]
    shape: Shape

    @property
    def ndim(self) -> int:
        """Axes of one sample of the first operand."""
        return len(self.shapes[0])

    def with_options(self, **options: Any) -> BatchCall:
        """The function of one sample, other options in the place of its own."""
        return partial(self.function, **{**self.options, **options})


Rule = Callable[[Node], BatchCall | None]


# ---- operands --------------------------------------------------------------------


def elementwise(node: Node) -> BatchCall:
    """The function itself, once the axes behind the batch are as many in all."""
    function = node.with_options()
    depth = max(map(len, node.shapes))
    return on_aligned(function, node.shapes, node.batched, depth)


def on_aligned(
    function: BatchCall,
    shapes: Sequence[Shape],
    batched: Sequence[bool],
    depth: int,
) -> BatchCall:
    """The function of operands whose samples got axes of size one up to `depth`."""
    pairs = zip(shapes, batched, strict=True)
    missing = [depth - len(shape) if own else 0 for shape, own in pairs]
    if not any(missing):
        return function

    def aligned(*tensors: Tensor) -> Any:
        return function(*map(_deepened, tensors, missing))

    return aligned


def _deepened(tensor: Tensor, count: int) -> Tensor:
    for _ in range(count):
        tensor = tensor.unsqueeze(1)
    return tensor


def repeated(tensors: Sequence[Tensor], batched: Sequence[bool]) -> list[Tensor]:
    """All operands as [B, *shape], shared ones expanded."""
    size = tensors[batched.index(True)].shape[0]
    pairs = zip(tensors, batched, strict=True)
    return [one if own else one.expand(size, *one.shape) for one, own in pairs]


def on_repeated(node: Node, function: Callable[[list[Tensor]], Tensor]) -> BatchCall:
    """The function of a list of operands, all of them batched."""
    return lambda *tensors: function(repeated(tensors, node.batched))


def direct(node: Node) -> BatchCall:
    """The function as it is: of one operand, it acts on its last axes."""
    return node.with_options()


# ---- along axes ------------------------------------------------------------------


def reduction(node: Node) -> BatchCall | None:
    """A function of one operand with an option `axis`: some axes, None for all."""
    if len(node.shapes) > 1:
        return None
    axes = reduced_axes(node.ndim, node.options.get("axis"))
    return node.with_options(axis=tuple(axis + 1 for axis in axes))


def norm(node: Node) -> BatchCall | None:
    """A norm of vectors; operator norms of a matrix have a rule of their own."""
    if node.ndim != 2 or node.options.get("axis") is not None:
        return reduction(node)
    return None


def cumulative(node: Node) -> BatchCall:
    """A function of one operand along one axis, the first by default."""
    axis = node.options.get("axis", 0)
    if axis is None:
        return lambda x: cumsum(x.flatten(1), axis=1)
    return node.with_options(axis=axis % node.ndim + 1)


# ---- products --------------------------------------------------------------------


def matmul(node: Node) -> BatchCall:
    """Products of vectors and matrices, batched or shared."""
    (left, right), (own_left, own_right) = node.shapes, node.batched
    if not own_left and len(right) == 1 and len(left) <= 2:
        return _turned
    if not own_right and (len(right) == 1 or max(len(left), len(right)) <= 2):
        return torch.matmul
    if len(left) == len(right) == 1:
        return lambda x, y: (x * y).sum(-1)
    return _matrices(node)


def _turned(A: Tensor, x: Tensor) -> Tensor:
    """A x of a shared matrix or vector: one product with all rows of x [B, n]."""
    return torch.matmul(x, A.mT if A.ndim > 1 else A)


def _matrices(node: Node) -> BatchCall:
    (left, right), (own_left, own_right) = node.shapes, node.batched
    is_row, is_column = own_left and len(left) == 1, own_right and len(right) == 1
    shapes = ((1, *left) if is_row else left, (*right, 1) if is_column else right)
    depth = max(map(len, shapes))
    product = on_aligned(torch.matmul, shapes, node.batched, depth)

    def of_vectors(x: Tensor, y: Tensor) -> Tensor:
        x = x.unsqueeze(-2) if is_row else x
        y = y.unsqueeze(-1) if is_column else y
        result = product(x, y)
        return result.squeeze(-2 if is_row else -1)

    return of_vectors if is_row or is_column else product


def quad_form(node: Node) -> BatchCall:
    """x' P x."""
    product = matmul(Node(torch.matmul, {}, node.shapes, node.batched, node.shapes[0]))
    return lambda x, P: (x * product(x, P)).sum(-1)


def vdot(node: Node) -> BatchCall:
    """Sum of products of entries."""
    own_x, own_y = node.batched
    count = math.prod(node.shapes[0])

    def flat(tensor: Tensor, is_batched: bool) -> Tensor:
        return tensor.reshape((tensor.shape[0], count) if is_batched else (count,))

    return lambda x, y: (flat(x, own_x) * flat(y, own_y)).sum(-1)


def outer(node: Node) -> BatchCall:
    """All products of an entry of x and an entry of y, vectors or scalars."""
    is_x, is_y = map(bool, node.shapes)

    def product(x: Tensor, y: Tensor) -> Tensor:
        x = x.unsqueeze(-1) if is_x else x[..., None, None]
        y = y.unsqueeze(-2) if is_y else y[..., None, None]
        return x * y

    return product


def einsum(node: Node) -> BatchCall | None:
    """Sums of products over repeated subscripts, the batch a letter of its own."""
    subscripts = node.options["subscripts"].replace(" ", "")
    inputs, arrow, output = subscripts.partition("->")
    if not arrow or "." in subscripts:
        return None
    batch = next(one for one in string.ascii_letters if one not in subscripts)
    terms = [
        batch + term if own else term
        for term, own in zip(inputs.split(","), node.batched, strict=True)
    ]
    return partial(torch.einsum, f"{','.join(terms)}->{batch}{output}")


# ---- entries moved ---------------------------------------------------------------


def index(node: Node) -> BatchCall | None:
    """Entries chosen; lists of entries apart from each other put their axis first."""
    entries = node.options["index"]
    lists = [k for k, one in enumerate(entries) if isinstance(one, Tensor)]
    if lists and lists[-1] - lists[0] >= len(lists):
        return None
    chosen = (slice(None), *entries)
    return lambda x: x[chosen]


def reshape(node: Node) -> BatchCall:
    """The same entries in another shape, by rows or by columns."""
    target = node.shape
    if node.options.get("order", "C") == "C":
        return lambda x: x.reshape(x.shape[0], *target)
    into, back = _reversed(node.ndim), _reversed(len(target))
    return lambda x: x.permute(into).reshape(x.shape[0], *target[::-1]).permute(back)


def _reversed(ndim: int) -> tuple[int, ...]:
    return (0, *range(ndim, 0, -1))


def transpose(node: Node) -> BatchCall:
    """The axes in another order; reversed by default."""
    axes = node.options.get("axes")
    if axes is None:
        order = _reversed(node.ndim)
    else:
        order = (0, *(axis % node.ndim + 1 for axis in axes))
    return lambda x: x.permute(order)


def broadcast_to(node: Node) -> BatchCall:
    """Entries repeated to fill a shape."""
    missing, target = len(node.shape) - node.ndim, node.shape
    return lambda x: _deepened(x, missing).expand(x.shape[0], *target)


def concatenate(node: Node) -> BatchCall:
    """Pieces joined along an axis they have; joined flat for None."""
    axis = node.options.get("axis", 0)
    if axis is None:
        return on_repeated(
            node, lambda parts: torch.cat([one.flatten(1) for one in _deep(parts)], 1)
        )
    return _joined(node, axis % node.ndim + 1)


def stack(node: Node) -> BatchCall:
    """Pieces joined along a new axis."""
    dim = node.options.get("axis", 0) % (node.ndim + 1) + 1
    return on_repeated(node, lambda parts: torch.stack(parts, dim))


def hstack(node: Node) -> BatchCall:
    """Pieces side by side."""
    if max(map(len, node.shapes)) > 1:
        return _joined(node, 2)
    return on_repeated(node, lambda parts: torch.cat(_deep(parts), 1))


def vstack(node: Node) -> BatchCall:
    """Pieces one above the other; vectors are rows."""
    return on_repeated(node, lambda parts: torch.cat([_row(one) for one in parts], 1))


def _joined(node: Node, dim: int) -> BatchCall:
    return on_repeated(node, lambda parts: torch.cat(parts, dim))


def _deep(parts: Sequence[Tensor]) -> list[Tensor]:
    """The pieces, with scalars [B] as vectors [B, 1]."""
    return [one.unsqueeze(1) if one.ndim == 1 else one for one in parts]


def _row(part: Tensor) -> Tensor:
    (part,) = _deep([part])
    return part.unsqueeze(1) if part.ndim == 2 else part


def diagonal(node: Node) -> BatchCall:
    """The matrix with a given diagonal, or the diagonal of a matrix."""
    offset = node.options.get("k", 0)
    if node.ndim == 1:
        return partial(torch.diag_embed, offset=offset)
    return partial(torch.diagonal, offset=offset, dim1=-2, dim2=-1)


def trace(node: Node) -> BatchCall:
    """Sum of the diagonal."""
    return lambda X: torch.diagonal(X, dim1=-2, dim2=-1).sum(-1)


_NAMES: Mapping[Rule, str] = {
    reduction: (
        "sum mean var std max min ptp sum_squares sum_largest sum_smallest log_sum_exp "
        "geo_mean norm1 norm_inf pnorm prod"
    ),
    cumulative: "cumsum cummax cumprod diff",
    direct: "triu tril sigma_max normNuc pattern output",
    norm: "norm",
    matmul: "matmul",
    quad_form: "quad_form",
    vdot: "vdot",
    outer: "outer",
    einsum: "einsum",
    index: "index",
    reshape: "reshape vec",
    transpose: "transpose",
    broadcast_to: "broadcast_to",
    concatenate: "concatenate",
    stack: "stack",
    hstack: "hstack",
    vstack: "vstack",
    diagonal: "diag",
    trace: "trace",
}

BATCH_RULES: Mapping[str, Rule] = {
    name: rule for rule, names in _NAMES.items() for name in names.split()
}
