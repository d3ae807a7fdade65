"""A torch function of one sample's expressions, evaluated for a batch of points.

The unknowns of a sample are one vector z [n]; parameters and learned tensors come in
one list of inputs, each with the batch axis in front or shared by all samples.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from optlayers.geometry.charts import Chart
from optlayers.modeling.capture import lookup, referenced, unused
from optlayers.modeling.evaluate import Evaluator
from optlayers.modeling.expressions import Expression
from optlayers.modeling.fields import BoundField
from optlayers.modeling.foreign import BatchFunction

Modules = Mapping[str, nn.Module]


@dataclass(frozen=True)
class Unknowns:
    """How the variables of one sample stand in its vector of unknowns.

    Attributes:
        shapes: of the coordinates of each variable, which follow one another, each in
            C order.
        charts: how those of poses stand for their matrices; other variables are their
            own coordinates.
    """

    shapes: Mapping[str, tuple[int, ...]]
    charts: Mapping[str, Chart] = field(default_factory=dict)

    @classmethod
    def of(cls, fields: Mapping[str, BoundField]) -> "Unknowns":
        """The variables among these fields."""
        own = {name: one for name, one in fields.items() if one.is_variable}
        shapes = {name: one.coordinate_shape for name, one in own.items()}
        pairs = ((name, _chart_of(one)) for name, one in own.items())
        return cls(shapes, {name: one for name, one in pairs if one is not None})

    @property
    def sizes(self) -> list[int]:
        """Number of entries of each variable."""
        return [torch.Size(shape).numel() for shape in self.shapes.values()]

    @property
    def size(self) -> int:
        """Number of unknowns n."""
        return sum(self.sizes)

    def value_shape(self, name: str) -> tuple[int, ...]:
        """Shape of the value of a variable; poses are matrices."""
        if name in self.charts:
            return tuple(self.charts[name].base.shape)
        return self.shapes[name]

    def split(self, point: Tensor) -> dict[str, Tensor]:
        """The variables of z [*lead, n] by name, each [*lead, *shape]."""
        lead = point.shape[:-1]
        parts = point.split(self.sizes, -1) if len(self.shapes) > 1 else (point,)
        values = {
            name: part if len(shape) == 1 else part.reshape((*lead, *shape))
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }
        for name, chart in self.charts.items():
            values[name] = chart.elements(values[name])
        return values

    def coordinates(self, name: str, value: Tensor) -> Tensor:
        """What stands in z for the value of a variable.

        Args:
            name: of the variable.
            value: [*lead, *shape]; of poses their matrices, or the nearest ones'.

        Returns:
            [*lead, size].
        """
        if name in self.charts:
            value = self.charts[name].steps(value)
        count = len(self.shapes[name])
        return value.reshape((*value.shape[: value.ndim - count], -1))

    def shortened(self, point: Tensor) -> Tensor:
        """z of the same values, no rotation near a full turn from its base.

        Args:
            point: z, [B, n].
        """
        parts = dict(zip(self.shapes, point.split(self.sizes, -1), strict=True))
        for name, chart in self.charts.items():
            steps = parts[name].reshape((len(point), *self.shapes[name]))
            parts[name] = chart.group.shortened(steps).flatten(1)
        return torch.cat(list(parts.values()), -1)


def _chart_of(field: BoundField) -> Chart | None:
    """How poses become steps; None of what are no poses."""
    if field.group is None:
        return None
    unit = torch.eye(field.group.order, dtype=torch.float64)
    base = unit if field.start is None else field.start
    return Chart(field.group, base.expand(field.shape))


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a system reads beside its unknowns.

    Attributes:
        parameter_ndims: axes of one sample of each parameter that is read.
        learned_ndims: axes of each nn.Parameter that is read.
        module_names: the modules that are called, and keep their own precision.
        within_functions: the modules and nn.Parameters that functions refer to, which
            keep their own precision too.
        reads_closures: whether a function is called that may read other tensors still.
    """

    parameter_ndims: Mapping[str, int]
    learned_ndims: Mapping[str, int]
    module_names: tuple[str, ...]
    within_functions: Mapping[str, nn.Module | Tensor]
    reads_closures: bool

    @classmethod
    def of(
        cls,
        outputs: Sequence[Expression],
        evaluator: Evaluator,
        fields: Mapping[str, BoundField],
        captured: Mapping[str, nn.Module | Tensor],
    ) -> "Inputs":
        """What the evaluator of these outputs reads."""
        parameters = [n for n in evaluator.field_names if not fields[n].is_variable]
        met = {name: lookup(captured, name) for name in evaluator.captured_names}
        modules = tuple(n for n, one in met.items() if isinstance(one, nn.Module))
        functions = list(_functions(outputs))
        within: dict[str, nn.Module | Tensor] = {}
        for name, one in chain(*(referenced(each).items() for each in functions)):
            if not any(known is one for known in within.values()):
                within[unused(name, within)] = one
        return cls(
            {name: len(fields[name].shape) for name in parameters},
            {n: one.ndim for n, one in met.items() if isinstance(one, Tensor)},
            modules,
            within,
            bool(modules) or any(map(_is_foreign, functions)),
        )

    @property
    def ndims(self) -> tuple[int, ...]:
        """Axes of one sample of each input."""
        return (*self.parameter_ndims.values(), *self.learned_ndims.values())

    def dtypes(self, modules: Modules) -> dict[str, torch.dtype]:
        """The precision that each thing which keeps its own wants z in, by name.

        Args:
            modules: that are called, by name.
        """
        found = {}
        for name, one in (*modules.items(), *self.within_functions.items()):
            tensors = [one] if isinstance(one, Tensor) else _tensors(one)
            for tensor in tensors:
                if tensor.is_floating_point():
                    found[name] = tensor.dtype
                    break
        return found

    def tensors(
        self,
        parameters: Mapping[str, Tensor],
        captured: Mapping[str, nn.Module | Tensor],
    ) -> list[Tensor]:
        """The inputs in order, as they are."""
        learned = (lookup(captured, name) for name in self.learned_ndims)
        return [*(parameters[name] for name in self.parameter_ndims), *learned]

    def modules(self, captured: Mapping[str, nn.Module | Tensor]) -> Modules:
        """The modules that are called, by name."""
        return {name: lookup(captured, name) for name in self.module_names}


class SampleFunction:
    """F(z; inputs): expressions of one sample, one after another, as one vector."""

    def __init__(
        self,
        evaluator: Evaluator,
        unknowns: Unknowns,
        inputs: Inputs,
        sides: Sequence[tuple[int, int | None, tuple[int, ...]]],
    ) -> None:
        """Say how outputs become entries.

        Args:
            evaluator: of the outputs.
            unknowns: how z is split.
            inputs: what is read beside z.
            sides: for each part of the vector the output it is, the one subtracted
                from it (None: nothing), and the shape they broadcast to.
        """
        self.evaluator = evaluator
        self.unknowns = unknowns
        self.inputs = inputs
        self.sides = tuple(sides)

    def __call__(
        self, point: Tensor, inputs: Sequence[Tensor], modules: Modules
    ) -> Tensor:
        """Values of a batch.

        Args:
            point: z, [B, n].
            inputs: each [*shape] (shared) or [B, *shape].
            modules: by name.

        Returns:
            [B, m], as many entries as the parts have together.
        """
        given, captured = self._scope(point, inputs, modules)
        values, is_batched = self.evaluator.batched(given, captured)
        parts = []
        for number, subtracted, shape in self.sides:
            part = _rows(values[number], is_batched[number], shape)
            if subtracted is not None:
                part = part - _rows(values[subtracted], is_batched[subtracted], shape)
            # Every view of a small batch costs as much as a sum, and again backward.
            if part.shape != (point.shape[0], *shape):
                part = part.expand(point.shape[0], *shape)
            size = math.prod(shape)
            parts.append(part if part.ndim == 2 else part.reshape(len(part), size))
        whole = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        return whole.to(point.dtype)

    def jacobian(
        self, point: Tensor, inputs: Sequence[Tensor], modules: Modules
    ) -> Tensor:
        """dF/dz of a batch, [B, m, n], in a form that all transforms can see."""

        def of_batch(z: Tensor) -> Tensor:
            return self(z, inputs, modules)

        value, products, *_ = torch.func.vjp(of_batch, point)
        unit = torch.eye(value.shape[1], dtype=value.dtype, device=value.device)

        def row(cotangent: Tensor) -> Tensor:
            # As samples are independent, one product serves the batch.
            (found,) = products(cotangent.expand_as(value))
            return found

        return torch.func.vmap(row, randomness="different")(unit).movedim(0, 1)

    def _scope(
        self, point: Tensor, inputs: Sequence[Tensor], modules: Modules
    ) -> tuple[dict[str, Tensor], dict[str, nn.Module | Tensor]]:
        """The values of fields, and those of what is captured."""
        given = self.unknowns.split(point)
        captured: dict[str, nn.Module | Tensor] = dict(modules)
        count = len(self.inputs.parameter_ndims)
        given.update(zip(self.inputs.parameter_ndims, inputs[:count], strict=True))
        captured.update(zip(self.inputs.learned_ndims, inputs[count:], strict=True))
        return given, captured


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _rows(value: Tensor, is_batched: bool, shape: tuple[int, ...]) -> Tensor:
    """A value that broadcasts against [B, *shape], its own axes the last ones."""
    if not is_batched:
        return value
    missing = len(shape) - value.ndim + 1
    return value[(slice(None), *[None] * missing)] if missing else value


def _functions(outputs: Sequence[Expression]) -> Iterator[Callable[..., Any]]:
    """The functions that these expressions call as they are."""
    pending, seen = list(outputs), set[Expression]()
    while pending:
        one = pending.pop()
        if one in seen:
            continue
        seen.add(one)
        if one.name == "torch":
            function = one.options["function"]
            is_smooth = isinstance(function, BatchFunction)
            yield function.function if is_smooth else function
        pending.extend(one.arguments)


def _is_foreign(function: Callable[..., Any]) -> bool:
    """Whether it is neither torch's nor ours, so that it may close over tensors."""
    module = getattr(function, "__module__", None) or "torch"
    is_ours = module.startswith(("optlayers.modeling.", "optlayers.geometry."))
    return module.partition(".")[0] != "torch" and not is_ours
