"""Expressions as formulas: juxtaposition, bars, superscripts, stages as subscripts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from optlayers.modeling.expressions import Expression
from optlayers.modeling.notation import Binding, Notation, Piece


@dataclass(frozen=True)
class StageIndex:
    """A stage by name: `k + 1`, `0`, `T - 1`.

    Attributes:
        symbol: "k", "T", or "" for a plain number.
        offset: what is added to it.
    """

    symbol: str = "k"
    offset: int = 0

    def written(self, notation: Notation) -> str:
        """As it stands in a subscript."""
        if not self.symbol:
            return str(self.offset)
        if self.offset == 0:
            return self.symbol
        sign = "+" if self.offset > 0 else notation.minus
        return f"{self.symbol}{sign}{abs(self.offset)}"


def stage_name(stage: int, steps: int) -> StageIndex:
    """A stage counted from the nearer end of 0, ..., T."""
    if stage > steps // 2:
        return StageIndex("T", stage - steps)
    return StageIndex("", stage)


@dataclass(frozen=True)
class Formulas:
    """Writes expressions.

    Attributes:
        notation: how.
        rules: how each operation is written; a name and parentheses for the others.
        steps: number of steps T, or None where nothing is staged.
        stage: the stage at which staged fields are written.
        time: name of the time of a differential equation.
    """

    notation: Notation
    rules: Mapping[str, "Rule"]
    steps: int | None = None
    stage: StageIndex = StageIndex()
    time: str = "t"

    def write(self, e: Expression) -> Piece:
        """One expression."""
        rule = self.rules.get(e.name)
        return self.called(e) if rule is None else rule(self, e)

    def at(self, stage: StageIndex) -> "Formulas":
        """The same, at another stage."""
        return replace(self, stage=stage)

    def tight(self, e: Expression, least: Binding) -> str:
        """An operand, in parentheses if it binds less than `least`."""
        piece = self.write(e)
        if piece.binding >= least:
            return piece.text
        return self.notation.grouped(piece.text)

    def window(self, stages: range) -> tuple[str, str]:
        """First and last stage of a window, as they are written."""
        assert self.steps is not None
        names = (stage_name(one, self.steps) for one in (stages[0], stages[-1]))
        first, last = (one.written(self.notation) for one in names)
        return first, last

    def transposed(self, e: Expression) -> str:
        """The transpose of an operand; of a vector the row."""
        return self.notation.transposed(self.tight(e, Binding.ATOM))

    def product(self, left: str, right: str) -> Piece:
        """Two factors side by side."""
        numbers = left[-1:].isdigit() and right[0].isdigit()
        between = f" {self.notation.dot} " if numbers else " "
        signed = left.startswith(self.notation.minus)
        binding = Binding.PREFIX if signed else Binding.PRODUCT
        return Piece(f"{left}{between}{right}", binding)

    def called(self, e: Expression, name: str | None = None) -> Piece:
        """A function by name, its arguments and unusual options in parentheses."""
        shown = [self.write(one).text for one in e.arguments]
        shown += [self._option(key, value) for key, value in _telling(e)]
        name = self.notation.word(e.name) if name is None else name
        return Piece(f"{name}{self.notation.grouped(', '.join(shown))}")

    def _option(self, key: str, value: Any) -> str:
        if isinstance(value, int | float) and not isinstance(value, bool):
            shown = self.notation.number(value)
        elif isinstance(value, tuple):
            shown = self.notation.grouped(", ".join(map(str, value)))
        else:
            shown = self.notation.word(str(value))
        return f"{self.notation.word(key)}={shown}"


Rule = Callable[[Formulas, Expression], Piece]

# What torch nodes keep for their evaluation, and what only cvxpy's solvers care about.
_SILENT = frozenset(
    "function arguments keywords output dtype name module is_smooth "
    "max_denom approx assume_PSD order".split()
)
_USUAL: Mapping[Any, Any] = {
    "M": 1,
    "ddof": 0,
    ("diag", "k"): 0,
    ("triu", "k"): 0,
    ("tril", "k"): 0,
    ("diff", "k"): 1,
}


def _telling(e: Expression) -> list[tuple[str, Any]]:
    """Options that are not the usual ones, as far as a reader cares."""
    return [
        (key, value)
        for key, value in e.options.items()
        if value is not None
        and value is not False
        and key not in _SILENT
        and value != _USUAL.get(key, _USUAL.get((e.name, key)))
    ]
