"""Values of expressions: a straight line of torch calls, for one sample or a batch.

What several outputs share is computed once.
"""

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from optlayers.errors import DeclarationError
from optlayers.modeling.atoms import ATOMS
from optlayers.modeling.atoms.shapes import Shape
from optlayers.modeling.batched import Batched, BatchProgram
from optlayers.modeling.capture import lookup
from optlayers.modeling.expressions import Expression
from optlayers.modeling.inference import located_at
from optlayers.modeling.lines import (
    AtomLine,
    ConstantLine,
    FieldLine,
    LearnedLine,
    Line,
    ModuleLine,
    Scope,
    TorchLine,
)

Captured = Mapping[str, nn.Module | Tensor]


class Evaluator:
    """Evaluates expressions of parameters and given variables.

    Attributes:
        field_names: the parameters, and variables, that it reads.
        captured_names: the captured parameters and modules it reads.
    """

    def __init__(
        self, outputs: Sequence[Expression], variables: Collection[str] = ()
    ) -> None:
        """Line up the calls.

        Args:
            outputs: expressions of parameters and of `variables`, not staged.
            variables: names of variables whose values are given, as those of
                parameters are.

        Raises:
            DeclarationError: an output depends on other variables or on stages.
        """
        program = _Program(frozenset(variables))
        self._outputs = tuple(program.slot_of(one) for one in outputs)
        self._lines, self._shapes = tuple(program.lines), tuple(program.shapes)
        self._programs: dict[tuple[bool, ...], BatchProgram] = {}
        self._reads = tuple(
            (slot, len(self._shapes[slot]))
            for slot, one in enumerate(self._lines)
            if isinstance(one, FieldLine | LearnedLine)
        )
        self.field_names = program.field_names()
        self.captured_names = program.captured_names()

    def __call__(
        self, values: Mapping[str, Tensor], captured: Captured
    ) -> list[Tensor]:
        """Evaluate one sample.

        Args:
            values: tensor of each field, of its declared shape.
            captured: parameter or module of each captured name.

        Returns:
            One tensor per output, of the output's shape.
        """
        scope = Scope(values, captured, self._reference(values, captured))
        results: list[Any] = []
        for line in self._lines:
            results.append(line.run(scope, [results[slot] for slot in line.slots]))
        return [results[slot] for slot in self._outputs]

    def batched(self, values: Mapping[str, Tensor], captured: Captured) -> Batched:
        """Evaluate a batch at once, each value [B, *shape] or [*shape] for all samples.

        Args:
            values: tensor of each field.
            captured: parameter or module of each captured name.

        Returns:
            One tensor per output, [B, *shape], or [*shape] where nothing that it
            depends on is batched, and which of the two.
        """
        scope = Scope(values, captured, self._reference(values, captured))
        key = tuple(self._is_batched(scope, *one) for one in self._reads)
        program = self._programs.get(key)
        if program is None:
            program = self._program(key)
            self._programs[key] = program
        return program(scope)

    def _is_batched(self, scope: Scope, slot: int, ndim: int) -> bool:
        return self._lines[slot].run(scope, ()).ndim > ndim

    def _program(self, batched: Sequence[bool]) -> BatchProgram:
        own = {slot for (slot, _), one in zip(self._reads, batched, strict=True) if one}
        flags = [slot in own for slot in range(len(self._lines))]
        return BatchProgram(self._lines, self._shapes, self._outputs, flags)

    def __getstate__(self) -> dict[str, Any]:
        """Without what is made again when it is needed."""
        return {**self.__dict__, "_programs": {}}

    def _reference(self, values: Mapping[str, Tensor], captured: Captured) -> Tensor:
        """A tensor whose dtype and device the constants take."""
        for name in self.field_names:
            return values[name]
        for name in self.captured_names:
            value = lookup(captured, name)
            if isinstance(value, Tensor):
                return value
            for parameter in value.parameters():
                return parameter
        return torch.zeros(())


class _Program:
    """Lines in an order in which each reads only earlier ones."""

    def __init__(self, variables: frozenset[str]) -> None:
        self.variables = variables
        self.lines: list[Line] = []
        self.shapes: list[Shape] = []
        self._slots: dict[Hashable, int] = {}
        self._known: dict[int, int] = {}

    def field_names(self) -> tuple[str, ...]:
        """Fields that are read, each once."""
        return tuple(one.name for one in self.lines if isinstance(one, FieldLine))

    def captured_names(self) -> tuple[str, ...]:
        """Captured parameters and modules that are read, each once."""
        found = (
            one.name for one in self.lines if isinstance(one, LearnedLine | ModuleLine)
        )
        return tuple(dict.fromkeys(found))

    def slot_of(self, expression: Expression) -> int:
        """The slot of an expression's value; its arguments come before it."""
        # A loop in the body may nest expressions deeper than Python recurses.
        pending = [expression]
        while pending:
            one = pending[-1]
            if id(one) in self._known:
                pending.pop()
                continue
            missing = [arg for arg in one.arguments if id(arg) not in self._known]
            if missing:
                pending.extend(reversed(missing))
                continue
            pending.pop()
            slots = tuple(self._known[id(argument)] for argument in one.arguments)
            self._known[id(one)] = self._place(one, slots)
        return self._known[id(expression)]

    def _place(self, one: Expression, slots: tuple[int, ...]) -> int:
        if one.name == "assert":
            return slots[0]
        if one.is_staged or self._is_unknown(one):
            raise DeclarationError(located_at(one, "it has no value before the solve."))
        if one.name in ("torch", "module"):
            # One call may have several outputs, and stand at several stages.
            key = (id(one.options["arguments"]), slots)
            slot = self._add(key, _call(one, slots), one.shape)
            output = one.options["output"]
            if output is None:
                return slot
            pick = AtomLine("output", _pick, {"output": output}, (slot,))
            return self._add(("output", slot, output), pick, one.shape)
        return self._add(_key(one, slots), _line(one, slots), one.shape)

    def _is_unknown(self, one: Expression) -> bool:
        """Whether it is a variable without a value; its terms are met before a term."""
        if one.name != "field" or not one.depends_on_variables:
            return False
        return one.options["field"].name not in self.variables

    def _add(self, key: Hashable, line: Line, shape: Shape) -> int:
        found = self._slots.get(key)
        if found is None:
            found = self._slots[key] = len(self.lines)
            self.lines.append(line)
            self.shapes.append(shape)
        return found


def _line(one: Expression, slots: tuple[int, ...]) -> Line:
    options = one.options
    if one.name == "field":
        return FieldLine(options["field"].name)
    if one.name == "learned":
        return LearnedLine(options["name"])
    if one.name == "constant":
        return ConstantLine(options["value"])
    if one.name == "pattern":
        return AtomLine(one.name, options["pattern"].scatter, {}, slots)
    if one.name == "index":
        index = tuple(_index_entry(entry) for entry in options["index"])
        return AtomLine(one.name, _entry_of, {"index": index}, slots)
    return AtomLine(one.name, ATOMS[one.name].torch_function, options, slots)


def _call(one: Expression, slots: tuple[int, ...]) -> Line:
    arguments, keywords = one.options["arguments"], one.options["keywords"]
    if one.name == "module":
        name, is_smooth = one.options["name"], one.options["is_smooth"]
        return ModuleLine(name, is_smooth, arguments, keywords, slots)
    return TorchLine(one.options["function"], arguments, keywords, slots)


def _key(one: Expression, slots: tuple[int, ...]) -> Hashable:
    """Equal for expressions of equal value; identity where that is unknown."""
    options = one.options
    if one.name == "field":
        return ("field", options["field"].name)
    if one.name == "learned":
        return ("learned", options["name"])
    if one.name == "constant":
        value = options["value"]
        return ("constant", value.item()) if value.ndim == 0 else id(one)
    key = (one.name, slots, tuple(sorted(options.items())))
    if one.name == "index":
        key = (one.name, slots, repr(options["index"]))
        if any(isinstance(entry, np.ndarray) for entry in options["index"]):
            return id(one)
    try:
        hash(key)
    except TypeError:
        return id(one)
    return key


def _index_entry(entry: Any) -> Any:
    return torch.from_numpy(entry) if isinstance(entry, np.ndarray) else entry


def _entry_of(value: Tensor, index: tuple[Any, ...]) -> Tensor:
    return value[index]


def _pick(values: Any, output: int) -> Any:
    return values[output]
