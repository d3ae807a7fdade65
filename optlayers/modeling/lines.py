"""The lines of an evaluation: each a call whose operands earlier lines computed.

A line runs for one sample, and says how it runs for a batch of them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from optlayers.modeling.atoms import ATOMS
from optlayers.modeling.atoms.batch_rules import (
    BATCH_RULES,
    Node,
    elementwise,
    repeated,
)
from optlayers.modeling.atoms.shapes import Shape
from optlayers.modeling.batch_calls import acts_on_last_axes, batched_call, filled
from optlayers.modeling.capture import lookup
from optlayers.modeling.foreign import BatchFunction, Slot, fill, of_one_sample

# Looked up beforehand: dynamo reads no mapping proxy after a dictionary has changed.
ELEMENTWISE = frozenset(name for name, atom in ATOMS.items() if atom.elementwise)


class Scope(NamedTuple):
    """What the lines of one evaluation may read.

    Attributes:
        values: tensor of each field.
        captured: parameter or module of each captured name.
        reference: a tensor whose dtype and device the constants take.
    """

    values: Mapping[str, Tensor]
    captured: Mapping[str, nn.Module | Tensor]
    reference: Tensor


Run = Callable[[Scope, Sequence[Any]], Any]


class Operands(NamedTuple):
    """How the operands of a line stand when it runs for a batch.

    Attributes:
        shapes: of one sample of each.
        batched: whether each comes as [B, *shape], or shared as [*shape].
    """

    shapes: tuple[Shape, ...]
    batched: tuple[bool, ...]


# ---- what is read ----------------------------------------------------------------


class FieldLine(NamedTuple):
    """The value of a parameter or variable."""

    name: str
    slots: tuple[int, ...] = ()

    def run(self, scope: Scope, given: Sequence[Any]) -> Any:
        """The value as it was given."""
        return scope.values[self.name]


class LearnedLine(NamedTuple):
    """The value of a captured nn.Parameter."""

    name: str
    slots: tuple[int, ...] = ()

    def run(self, scope: Scope, given: Sequence[Any]) -> Any:
        """The value in the dtype and on the device of the rest."""
        value = lookup(scope.captured, self.name)
        return value.to(dtype=scope.reference.dtype, device=scope.reference.device)


class ConstantLine(NamedTuple):
    """A number, array, mask or index written in the declaration."""

    value: Tensor
    slots: tuple[int, ...] = ()

    def run(self, scope: Scope, given: Sequence[Any]) -> Any:
        """The value on the device of the rest; in its dtype if it is floating."""
        if not self.value.is_floating_point():
            return self.value.to(device=scope.reference.device)
        return self.value.to(dtype=scope.reference.dtype, device=scope.reference.device)


# ---- calls -----------------------------------------------------------------------


class AtomLine(NamedTuple):
    """An atom, or a structural node: entries chosen, a matrix of its values."""

    name: str
    function: Callable[..., Any]
    options: Mapping[str, Any]
    slots: tuple[int, ...]

    def run(self, scope: Scope, given: Sequence[Any]) -> Any:
        """The value of one sample."""
        return self.function(*given, **self.options)

    def for_batch(self, operands: Operands, shape: Shape) -> Run:
        """How it runs where some operands are batched.

        Args:
            operands: how they stand.
            shape: of one sample of the result.
        """
        rule = BATCH_RULES.get(self.name)
        if rule is None and self.name in ELEMENTWISE:
            rule = elementwise
        found = rule and rule(Node(self.function, self.options, *operands, shape))
        if not found:
            return over_rows(self.run, operands.batched)
        return lambda scope, given: found(*given)


class TorchLine(NamedTuple):
    """A function of torch that is no atom, or one of the user's."""

    function: Callable[..., Any]
    arguments: Any
    keywords: Any
    slots: tuple[int, ...]

    def run(self, scope: Scope, given: Sequence[Any]) -> Any:
        """The value of one sample."""
        return self.function(*fill(self.arguments, given), **fill(self.keywords, given))

    def for_batch(self, operands: Operands, shape: Shape) -> Run:
        """How it runs where some operands are batched, as of an atom."""
        template = (self.arguments, self.keywords)
        if isinstance(self.function, BatchFunction):
            call = filled(self.function.function, template)
            return lambda _, given: call(*repeated(given, operands.batched))
        node = Node(filled(self.function, template), {}, *operands, shape)
        found = batched_call(self.function, template, node)
        if found is None:
            return over_rows(self.run, operands.batched)
        return lambda scope, given: found(*given)


class ModuleLine(NamedTuple):
    """A module called whole, for batches if it `is_smooth`."""

    name: str
    is_smooth: bool
    arguments: Any
    keywords: Any
    slots: tuple[int, ...]

    def run(self, scope: Scope, given: Sequence[Any]) -> Any:
        """The value of one sample."""
        module = lookup(scope.captured, self.name)
        arguments, keywords = fill(self.arguments, given), fill(self.keywords, given)
        if self.is_smooth:
            return of_one_sample(module, arguments, keywords)
        return module(*arguments, **keywords)

    def for_batch(self, operands: Operands, shape: Shape) -> Run:
        """How it runs where some operands are batched, as of an atom."""
        if self.is_smooth:
            return self._on_batches(operands)
        mapped = over_rows(self.run, operands.batched)
        is_plain = tuple(self.arguments) == (Slot(0),) and not self.keywords
        if not is_plain or not operands.shapes[0]:
            return mapped

        def run(scope: Scope, given: Sequence[Any]) -> Any:
            # Which module, and whether it trains, is known only now.
            module = lookup(scope.captured, self.name)
            known = acts_on_last_axes(module)
            return module(given[0]) if known else mapped(scope, given)

        return run

    def _on_batches(self, operands: Operands) -> Run:
        def run(scope: Scope, given: Sequence[Any]) -> Any:
            rows = repeated(given, operands.batched)
            module = lookup(scope.captured, self.name)
            return module(*fill(self.arguments, rows), **fill(self.keywords, rows))

        return run


CallLine = AtomLine | TorchLine | ModuleLine
Line = FieldLine | LearnedLine | ConstantLine | CallLine


# ---- sample by sample ------------------------------------------------------------


def over_rows(run: Run, batched: Sequence[bool]) -> Run:
    """A line that runs for one sample, mapped over the batch."""
    axes = tuple(0 if own else None for own in batched)
    first = batched.index(True)

    def mapped(scope: Scope, given: Sequence[Any]) -> Any:
        if given[first].shape[0] == 1:
            # A batch of one needs no mapping, which costs most of a small call.
            pairs = zip(given, batched, strict=True)
            one = run(scope, [value[0] if own else value for value, own in pairs])
            return tree_map(_as_rows, one)

        def one_sample(*tensors: Tensor) -> Any:
            return tree_map(_as_tensor, run(scope, tensors))

        return torch.func.vmap(one_sample, axes, randomness="different")(*given)

    return mapped


def _as_rows(value: Any) -> Any:
    return value.unsqueeze(0) if isinstance(value, Tensor) else value


def _as_tensor(value: Any) -> Tensor:
    # What is no tensor among several results is not read, and vmap refuses it.
    return value if isinstance(value, Tensor) else torch.zeros(())
