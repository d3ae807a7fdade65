"""Leaves: what a compiled problem reads of its parameters, and their evaluation.

A leaf is a parameter itself or an expression of parameters computed in torch; the data
of the cone program are affine in the leaves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from optlayers.compile.parametric import Parametrics
from optlayers.modeling.evaluate import Evaluator
from optlayers.modeling.expressions import Expression
from optlayers.modeling.inference import describe

Captured = Mapping[str, nn.Module | Tensor]


@dataclass(frozen=True, eq=False)
class Leaf:
    """One tensor that the data of the program are affine in.

    Attributes:
        expression: what it is, of parameters alone.
        text: how it was written.
        shape: of one sample.
        field: name of the parameter that it equals; None if it is computed.
        assertion: "nonneg", "nonpos" or "psd" if the user vouched for it; else None.
        field_names: the parameters it is computed from.
    """

    expression: Expression
    text: str
    shape: tuple[int, ...]
    field: str | None
    assertion: str | None
    field_names: frozenset[str]

    @property
    def size(self) -> int:
        """Number of entries."""
        return int(np.prod(self.shape, dtype=int))


class LeafTable:
    """Collects the leaves of one problem; the same expression is one leaf.

    Attributes:
        leaves: in the order they were met.
    """

    def __init__(self, parametrics: Parametrics) -> None:
        self.parametrics = parametrics
        self.leaves: list[Leaf] = []
        self._positions: dict[Expression, int] = {}

    def position(self, expression: Expression) -> int:
        """Number of the leaf that is this expression."""
        expression = self.parametrics.canonical(expression)
        found = self._positions.get(expression)
        if found is None:
            found = self._positions[expression] = len(self.leaves)
            self.leaves.append(_leaf(expression))
        return found

    def first_entries(self) -> np.ndarray:
        """Where each leaf begins in the vector of all; last, the length of that."""
        sizes = [leaf.size for leaf in self.leaves]
        return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])


class LeafEvaluation:
    """Evaluates all leaves of a problem for a batch of parameters.

    Leaves of the same parameters share one evaluator. Those that depend on a batched
    parameter are evaluated under one `torch.func.vmap`, the others once.
    """

    def __init__(
        self, leaves: Sequence[Leaf], parameter_shapes: Mapping[str, tuple[int, ...]]
    ) -> None:
        self.ndims = {name: len(shape) for name, shape in parameter_shapes.items()}
        self.plain = tuple(
            (position, leaf.field, leaf.size)
            for position, leaf in enumerate(leaves)
            if leaf.field is not None
        )
        self.count = len(leaves)
        groups: dict[tuple[frozenset[str], bool], list[int]] = {}
        for position, leaf in enumerate(leaves):
            if leaf.field is None:
                key = (leaf.field_names, _calls_module(leaf.expression))
                groups.setdefault(key, []).append(position)
        self.groups = tuple(
            LeafGroup(
                tuple(positions),
                tuple(sorted(names)),
                calls_module,
                Evaluator([leaves[position].expression for position in positions]),
            )
            for (names, calls_module), positions in groups.items()
        )

    def __call__(
        self, parameters: Mapping[str, Tensor], captured: Captured
    ) -> list[Tensor]:
        """Values of the leaves, float64.

        Args:
            parameters: by name, each [*shape] (shared) or [B, *shape].
            captured: parameters and modules met in the declaration, by name.

        Returns:
            One tensor per leaf, flattened in C order, [size] or [B, size].
        """
        found: dict[int, Tensor] = {}
        for position, name, size in self.plain:
            value = parameters[name]
            lead = value.shape[: value.ndim - self.ndims[name]]
            found[position] = value.to(torch.float64).reshape(*lead, size)
        batched = {
            name: parameters[name]
            for name, ndim in self.ndims.items()
            if parameters[name].ndim > ndim
        }
        mapped = []
        for group in self.groups:
            if any(name in batched for name in group.field_names):
                mapped.append(group)
            else:
                values = group.evaluate(parameters, captured)
                found.update(zip(group.positions, values, strict=True))
        if mapped:
            found.update(_evaluate_mapped(mapped, parameters, batched, captured))
        return [found[position] for position in range(self.count)]


@dataclass(frozen=True, eq=False)
class LeafGroup:
    """Computed leaves that depend on the same parameters.

    Attributes:
        positions: their numbers.
        field_names: the parameters.
        calls_module: whether a module is called, which keeps its own precision.
        evaluator: computes them for one sample.
    """

    positions: tuple[int, ...]
    field_names: tuple[str, ...]
    calls_module: bool
    evaluator: Evaluator

    def evaluate(
        self, parameters: Mapping[str, Tensor], captured: Captured
    ) -> list[Tensor]:
        """Values for one sample, float64 [size] each."""
        given = {name: parameters[name] for name in self.field_names}
        if not self.calls_module:
            # S'S squares the condition of S: float32 would lose it.
            given = {name: one.to(torch.float64) for name, one in given.items()}
        values = self.evaluator(given, captured)
        return [value.to(torch.float64).reshape(value.numel()) for value in values]


def _evaluate_mapped(
    groups: Sequence[LeafGroup],
    parameters: Mapping[str, Tensor],
    batched: Mapping[str, Tensor],
    captured: Captured,
) -> dict[int, Tensor]:
    def one_sample(own: dict[str, Tensor]) -> list[Tensor]:
        given = {**parameters, **own}
        return [v for group in groups for v in group.evaluate(given, captured)]

    used = {name for group in groups for name in group.field_names}
    mapped = {name: batched[name] for name in batched if name in used}
    if all(value.shape[0] == 1 for value in mapped.values()):
        # A batch of one needs no mapping, which costs a sixth of its whole call.
        only = one_sample({name: value[0] for name, value in mapped.items()})
        values = [value.unsqueeze(0) for value in only]
    else:
        values = torch.func.vmap(one_sample, randomness="different")(mapped)
    positions = [position for group in groups for position in group.positions]
    return dict(zip(positions, values, strict=True))


def _leaf(expression: Expression) -> Leaf:
    bare = expression
    while bare.name == "assert":
        (bare,) = bare.arguments
    return Leaf(
        expression=expression,
        text=_text(expression),
        shape=expression.shape,
        field=bare.options["field"].name if bare.name == "field" else None,
        assertion=(
            expression.options["attribute"] if expression.name == "assert" else None
        ),
        field_names=expression.field_names,
    )


def _text(expression: Expression) -> str:
    is_ours = expression.origin.code is None and expression.origin.quotation is None
    if expression.arguments and is_ours:
        return f"computed from {', '.join(sorted(expression.field_names)) or 'nothing'}"
    return describe(expression)


def _calls_module(expression: Expression) -> bool:
    return expression.name == "module" or any(map(_calls_module, expression.arguments))
