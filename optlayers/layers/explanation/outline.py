"""An explanation as nested lines, which the renderers lay out."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from optlayers.compile.explain import CONES
from optlayers.compile.lowered import LoweredLeaf, LoweredPart, LoweredProgram
from optlayers.compile.reasons import Part, Reason
from optlayers.functional.plans import SolverChoice
from optlayers.modeling.wording import counted

if TYPE_CHECKING:
    from optlayers.layers.explanation.data import Explanation

Item = TypeVar("Item")

# More terms of one sum, or leaves, than these are counted rather than shown.
SHOWN = 12

_SIGNS = {"nonneg": "≥ 0", "nonpos": "≤ 0", "zero": "= 0", "unknown": ""}


@dataclass(frozen=True, eq=False)
class Line:
    """One line and what stands under it.

    Attributes:
        source: text of the user's, or a name; set apart where colours exist.
        facts: what is known of it, short.
        fault: what is wrong with it, in sentences; "" if nothing is.
        lines: the lines under it.
    """

    source: str
    facts: str = ""
    fault: str = ""
    lines: tuple["Line", ...] = ()


def outline_of(explanation: "Explanation") -> Line:
    """The lines of an explanation."""
    one = explanation
    sizes = ", ".join(f"{name} = {size}" for name, size in one.sizes)
    heading = f"{one.name} ({sizes})" if sizes else one.name
    reasons = "the logarithms" if one.is_geometric else "reasons"
    lines = [
        Line("kind", f"{one.kind.value}: {one.why}"),
        *([Line(reasons, lines=tuple(map(_part, one.parts)))] if one.parts else []),
    ]
    if one.program is not None:
        lines.append(_program(one.program))
    if one.solvers:
        lines.append(Line("solvers", lines=tuple(_solvers(one.solvers))))
    return Line(heading, lines=tuple(lines))


# ---- reasons -------------------------------------------------------------------------


def _part(one: Part) -> Line:
    seen: set[int] = set()
    lines = tuple(_reason(side, seen) for side in one.sides)
    # What is said of a subexpression need not be said of the whole again.
    fault = "" if any(_says(line, one.fault) for line in lines) else one.fault
    if one.name == "objective":
        return Line("objective", one.relation, fault, lines)
    if one.relation == "in":
        several = one.cone == "stack"
        facts = "in a product of cones" if several else f"in the {one.cone} cone"
        return Line(one.name, facts, fault, lines)
    left, right = one.sides
    facts = f"{left.curvature} {one.relation} {right.curvature}"
    return Line(one.name, facts, fault, lines)


def _says(line: Line, fault: str) -> bool:
    return line.fault == fault or any(_says(one, fault) for one in line.lines)


def _reason(one: Reason, seen: set[int]) -> Line:
    facts = _facts(one)
    if not one.arguments:
        return Line(one.text, facts, one.fault)
    if id(one) in seen:
        return Line(one.text, f"{facts} (as above)")
    seen.add(id(one))
    lines = _first(one.arguments, lambda each: _reason(each, seen), "terms")
    return Line(one.text, facts, one.fault, lines)


def _facts(one: Reason) -> str:
    words = [_shape(one.shape, one.stages), one.curvature]
    if one.curvature == "unknown":
        words[-1] = "neither convex nor concave" if one.fault else "unknown"
    words.append(_SIGNS[one.sign])
    text = " ".join(word for word in words if word)
    if one.in_torch:
        text += ", evaluated in torch"
    return f"{text}; {one.rule}" if one.rule else text


def _shape(shape: tuple[int, ...], stages: range | None) -> str:
    text = str(list(shape)) if shape else "scalar"
    if stages is None:
        return text
    return f"{text} at k = {stages.start}…{stages.stop - 1}"


# ---- program -------------------------------------------------------------------------


def _program(one: LoweredProgram) -> Line:
    lines = [
        Line("data", _sizes(one)),
        *(_lowered(part) for part in one.parts if part.rows or part.auxiliary),
    ]
    if one.leaves:
        size = sum(math.prod(leaf.shape) for leaf in one.leaves)
        facts = f"{len(one.leaves)} of {counted(size, 'entry')}"
        lines.append(Line("leaves", facts, lines=_first(one.leaves, _leaf, "leaves")))
    if one.checks:
        lines.append(Line("checked before every solve", ", ".join(one.checks)))
    return Line("cone program", lines=tuple(lines))


def _sizes(one: LoweredProgram) -> str:
    variables = counted(one.n, "variable")
    rows = counted(one.m, "row")
    if one.quadratic_entries is None:
        quadratic = "no quadratic part"
    else:
        quadratic = (
            f"P of {counted(one.quadratic_entries, 'entry')}, read off the objective"
        )
    entries = counted(one.matrix_entries, "entry")
    return f"{variables}, {rows}, {quadratic}, A of {entries}"


def _lowered(one: LoweredPart) -> Line:
    cones = [
        counted(each.number, CONES[each.cone])
        + (f" of {each.rows} rows" if each.cone not in ("zero", "nonneg") else "")
        for each in one.cones
    ]
    if one.auxiliary:
        number = counted(one.auxiliary, "auxiliary variable")
        cones.append(f"{number} lifted")
    return Line(one.name, ", ".join(cones))


def _leaf(one: LoweredLeaf) -> Line:
    word = "computed in torch" if one.is_computed else "as given"
    return Line(one.text, f"{_shape(one.shape, None)}, {word}")


# ---- solvers -------------------------------------------------------------------------


def _solvers(choices: Sequence[SolverChoice]) -> Iterator[Line]:
    is_first = True
    for one in choices:
        if one.refusal:
            yield Line(one.name, f"refuses: {one.refusal}")
            continue
        yield Line(one.name, "chosen" if is_first else "tried where those before fail")
        is_first = False


# ---- words ---------------------------------------------------------------------------


def _first(
    items: Sequence[Item], line: Callable[[Item], Line], word: str
) -> tuple[Line, ...]:
    """Lines of the first items, and how many more there are."""
    shown = items if len(items) <= SHOWN else items[: SHOWN - 1]
    lines = [line(one) for one in shown]
    if len(items) > SHOWN:
        lines.append(Line("…", f"{len(items) - SHOWN + 1} more {word}"))
    return tuple(lines)
