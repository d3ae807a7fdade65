"""Compare solvers on one layer: solutions, multipliers and gradients, side by side."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from optlayers.batching import restore
from optlayers.compat.cvxpylayers import solve_by_cvxpylayers
from optlayers.errors import OptlayersError
from optlayers.layers.layer import Layer
from optlayers.layers.result import Result


@dataclass(frozen=True)
class Comparison:
    """How far each entry is from the first, as largest absolute differences.

    Attributes:
        reference: the name of the entry the others are compared with.
        solution: by entry, the largest difference over all variables.
        dual: by entry, the largest difference over all multipliers.
        gradient: by entry, the largest difference over all parameter gradients,
            relative to 1 + the largest reference gradient.
        errors: by entry, why it gave no answer.
    """

    reference: str
    solution: Mapping[str, float]
    dual: Mapping[str, float]
    gradient: Mapping[str, float]
    errors: Mapping[str, str]

    def table(self) -> Table:
        """The comparison as a rich table."""
        table = Table(title=f"differences from {self.reference}")
        for column in ("entry", "solution", "dual", "gradient"):
            table.add_column(column, justify="left" if column == "entry" else "right")
        for name in self.solution:
            numbers = (self.solution[name], self.dual[name], self.gradient[name])
            table.add_row(name, *(f"{number:.1e}" for number in numbers))
        for name, reason in self.errors.items():
            table.add_row(name, reason, "", "")
        return table


@dataclass(frozen=True)
class _Answer:
    values: dict[str, Tensor]
    duals: dict[str, Tensor]
    gradients: dict[str, Tensor]


def compare(
    layer: Layer,
    inputs: Mapping[str, Tensor],
    solvers: Sequence[Any] = ("clarabel", "daqp", "diffcp", "cvxpylayers"),
    *,
    console: Console | None = None,
) -> Comparison:
    """Solve and differentiate with each solver and print how far apart they are.

    The gradient is that of the sum of all variables, with respect to each input. The
    first entry that answers is the reference.

    Args:
        layer: a layer made by `problem.layer(...)`.
        inputs: its parameters by name, as for the call.
        solvers: registered names or instances; "diffcp" solves with the layer's own
            choice and differentiates with diffcp, "cvxpylayers" does both there.
        console: where to print; the terminal by default.
    """
    answers: dict[str, _Answer] = {}
    errors: dict[str, str] = {}
    for solver in solvers:
        name = solver if isinstance(solver, str) else type(solver).__name__
        try:
            answers[name] = _answer(layer, inputs, solver)
        except OptlayersError as reason:
            errors[name] = str(reason).splitlines()[0]
    comparison = _measure(answers, errors)
    (console or Console()).print(comparison.table())
    return comparison


def _answer(layer: Layer, inputs: Mapping[str, Tensor], solver: Any) -> _Answer:
    given = {
        name: value.detach().clone().requires_grad_() for name, value in inputs.items()
    }
    values, duals = _REFERENCES.get(solver, _by_layer)(layer, given, solver)
    total = torch.stack([value.sum() for value in values.values()]).sum()
    gradients = torch.autograd.grad(total, list(given.values()), allow_unused=True)
    return _Answer(
        {name: value.detach() for name, value in values.items()},
        {name: value.detach() for name, value in duals.items()},
        {
            name: torch.zeros_like(given[name]) if gradient is None else gradient
            for name, gradient in zip(given, gradients, strict=True)
        },
    )


Named = tuple[dict[str, Tensor], dict[str, Tensor]]


def _by_layer(layer: Layer, given: Mapping[str, Tensor], solver: Any) -> Named:
    return _outputs(layer, layer(**given, solver=solver))


def _by_diffcp(layer: Layer, given: Mapping[str, Tensor], solver: Any) -> Named:
    return _outputs(layer, layer(**given, gradient="diffcp"))


def _by_cvxpylayers(layer: Layer, given: Mapping[str, Tensor], solver: Any) -> Named:
    compiled = layer.compiled(**given)
    named = compiled.named(*solve_by_cvxpylayers(compiled.program))
    shape = compiled.batch_shape
    return (
        {name: restore(value, shape) for name, value in named.values.items()},
        {name: restore(value, shape) for name, value in named.dual.items()},
    )


# Peers that are no solver of the registry, by the name `compare` takes.
_REFERENCES: Mapping[Any, Callable[[Layer, Mapping[str, Tensor], Any], Named]] = {
    "diffcp": _by_diffcp,
    "cvxpylayers": _by_cvxpylayers,
}


def _outputs(layer: Layer, out: Result) -> Named:
    names = layer.problem.declared.variable_names
    return {name: out[name] for name in names}, dict(out.dual)


def _measure(answers: dict[str, _Answer], errors: dict[str, str]) -> Comparison:
    if not answers:
        reasons = "\n".join(f"  {name}: {reason}" for name, reason in errors.items())
        raise OptlayersError(f"compare: no entry answered.\n{reasons}")
    reference, first = next(iter(answers.items()))
    size = max(map(_largest, first.gradients.values()), default=0.0)
    return Comparison(
        reference,
        {name: _apart(one.values, first.values) for name, one in answers.items()},
        {name: _apart(one.duals, first.duals) for name, one in answers.items()},
        {
            name: _apart(one.gradients, first.gradients) / (1 + size)
            for name, one in answers.items()
        },
        errors,
    )


def _largest(value: Tensor) -> float:
    return value.abs().max().item() if value.numel() else 0.0


def _apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return max((_largest(one[name] - other[name]) for name in other), default=0.0)
