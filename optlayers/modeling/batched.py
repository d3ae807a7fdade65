"""A line of calls for a whole batch at once, on tensors with the batch axis in front.

What depends on no batched value is computed once; what no rule knows runs under vmap.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from optlayers.modeling.atoms.shapes import Shape
from optlayers.modeling.lines import (
    ConstantLine,
    FieldLine,
    LearnedLine,
    Line,
    Operands,
    Run,
    Scope,
)


class Batched(NamedTuple):
    """Values of a batch.

    Attributes:
        values: one per output, [B, *shape] or [*shape].
        is_batched: whether each has the batch axis; shared otherwise.
    """

    values: list[Tensor]
    is_batched: tuple[bool, ...]


class BatchProgram:
    """Lines for one choice of values that are batched."""

    def __init__(
        self,
        lines: Sequence[Line],
        shapes: Sequence[Shape],
        outputs: Sequence[int],
        batched: Sequence[bool],
    ) -> None:
        """Choose how each line runs.

        Args:
            lines: in an order in which each reads only earlier ones.
            shapes: of one sample of each line's value.
            outputs: the lines whose values are wanted.
            batched: of each line that reads a value, whether that is batched; False
                for the others.
        """
        runs: list[tuple[Run, tuple[int, ...]]] = []
        is_batched: list[bool] = []
        for line, shape, own in zip(lines, shapes, batched, strict=True):
            run, is_one = _run_of(line, shape, own, shapes, is_batched)
            runs.append((run, line.slots))
            is_batched.append(is_one)
        self._runs = tuple(runs)
        self._outputs = tuple(outputs)
        self._is_batched = tuple(is_batched[slot] for slot in outputs)

    def __call__(self, scope: Scope) -> Batched:
        """Evaluate a batch."""
        results: list[Any] = []
        for run, slots in self._runs:
            results.append(run(scope, [results[slot] for slot in slots]))
        return Batched([results[slot] for slot in self._outputs], self._is_batched)


def _run_of(
    line: Line,
    shape: Shape,
    own: bool,
    shapes: Sequence[Shape],
    is_batched: Sequence[bool],
) -> tuple[Run, bool]:
    """How a line runs, and whether its value is batched."""
    if isinstance(line, FieldLine | LearnedLine | ConstantLine):
        return line.run, own
    batched = tuple(is_batched[slot] for slot in line.slots)
    if not any(batched):
        return line.run, False
    operands = Operands(tuple(shapes[slot] for slot in line.slots), batched)
    return line.for_batch(operands, shape), True
