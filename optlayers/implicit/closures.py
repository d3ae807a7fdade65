"""Which tensors a function closes over, found by watching it, and their derivatives.

Parameters of modules, leaves and results of other computations alike.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from optlayers.errors import NotSupported


def closures(function: Callable[..., Tensor], *arguments: Tensor) -> list[Tensor]:
    """Tensors that require gradients and enter the torch functions that one calls.

    Args:
        function: called twice.
        arguments: what to call it with; without gradients.

    Raises:
        NotSupported: the function uses a tensor in a way that cannot be watched.
    """
    watch = _Watch({}, collects=True)
    with torch.enable_grad(), watch:
        value = function(*arguments)
    found = [one for one, _ in watch.known.values()]
    _refuse_others([value], watch.known.values(), stops=True)
    # What enters unseen shows where copies take the places of what was seen.
    copies = leaves(found)
    with torch.enable_grad():
        value = with_copies(function, found, copies)(*arguments)
    _refuse_others([value], [(one, one) for one in copies], stops=False)
    return found


def with_copies(
    function: Callable[..., Tensor],
    closed_over: Sequence[Tensor],
    copies: Sequence[Tensor],
) -> Callable[..., Tensor]:
    """The function with other tensors in the place of those it closes over.

    Each closure so counts as independent, also where one was computed from another.

    Args:
        function: any.
        closed_over: what `closures` found.
        copies: what takes their places.

    Returns:
        The function, to be called in grad mode. It raises `NotSupported` where it meets
        a tensor that `closures` did not find.
    """
    pairs = list(zip(closed_over, copies, strict=True))

    def apart(*arguments: Tensor) -> Tensor:
        watch = _Watch({id(one): (one, own) for one, own in pairs})
        watch.made.update((id(one), one) for one in arguments)
        with watch:
            return function(*arguments)

    return apart


def leaves(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The same numbers as leaves that collect derivatives."""
    return [one.detach().requires_grad_() for one in tensors]


def products(
    values: Sequence[Tensor], points: Sequence[Tensor], weights: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """The gradients of the sum of all values * weights in leaves.

    Raises:
        NotSupported: the values depend on other leaves, too.
    """
    pairs = zip(values, weights, strict=True)
    pairs = [(one, weight) for one, weight in pairs if one.requires_grad]
    if not pairs:
        return tuple(torch.zeros_like(one) for one in points)
    values, weights = zip(*pairs, strict=True)
    _refuse_others(values, [(one, one) for one in points], stops=False)
    return torch.autograd.grad(
        values, points, weights, allow_unused=True, materialize_grads=True
    )


class _Watch(TorchFunctionMode):
    """Puts copies in the place of tensors that enter from outside.

    Attributes:
        known: tensors and their copies, by the number of the tensor.
        made: tensors that did not enter from outside, by their numbers.
    """

    def __init__(
        self, known: dict[int, tuple[Tensor, Tensor]], *, collects: bool = False
    ) -> None:
        super().__init__()
        self.known = known
        self._collects = collects
        # Held, so that the number of a tensor that is gone is not given again.
        self.made: dict[int, Tensor] = {id(copy): copy for _, copy in known.values()}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        args = _mapped(args, self._entering)
        result = func(*args, **_mapped(dict(kwargs or {}), self._entering))
        return _mapped(result, self._leaving)

    def _entering(self, tensor: Tensor) -> Tensor:
        if not tensor.requires_grad or id(tensor) in self.made:
            return tensor
        if id(tensor) not in self.known:
            if not self._collects:
                raise NotSupported(
                    f"the field uses a tensor {list(tensor.shape)} at some times or "
                    "states only: this gradient must see all that it closes over in "
                    'its first evaluation; use gradient="direct".'
                )
            self.known[id(tensor)] = tensor, tensor
        return self.known[id(tensor)][1]

    def _leaving(self, tensor: Tensor) -> Tensor:
        if id(tensor) not in self.known:
            self.made[id(tensor)] = tensor
        return tensor


def _mapped(nest: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same lists, tuples and dictionaries with every tensor changed."""
    if isinstance(nest, Tensor):
        return change(nest)
    if isinstance(nest, dict):
        return {key: _mapped(one, change) for key, one in nest.items()}
    if isinstance(nest, tuple):
        if type(nest) is not tuple:  # a named tuple, whose kind matters
            for one in nest:
                _mapped(one, change)
            return nest
        return tuple(_mapped(one, change) for one in nest)
    if isinstance(nest, list):
        return [_mapped(one, change) for one in nest]
    return nest


def _refuse_others(
    values: Sequence[Tensor], known: Iterable[tuple[Tensor, Tensor]], *, stops: bool
) -> None:
    """Refuse a graph that reaches a leaf without passing by a known tensor."""
    ends, leaves = set(), set()
    for one, _ in known:
        if one.grad_fn is None:
            leaves.add(id(one))
        elif stops:
            ends.add(one.grad_fn)
    waiting, seen = [one.grad_fn for one in values], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen or node in ends:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None and id(leaf) not in leaves:
            _refuse(leaf)
        waiting += [one for one, _ in node.next_functions]


def _refuse(tensor: Tensor) -> None:
    raise NotSupported(
        f"the field uses a tensor {list(tensor.shape)} in a way that cannot be "
        "watched, such as torch.autograd.Function.apply; use "
        'gradient="direct", or "sweep" of small states.'
    )
