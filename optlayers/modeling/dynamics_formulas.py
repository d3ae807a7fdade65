"""How rates, initial values and events of a differential equation are written."""

from collections.abc import Mapping

from optlayers.modeling.dynamics import EventDeclaration
from optlayers.modeling.expressions import Expression
from optlayers.modeling.formulas import Formulas, Rule
from optlayers.modeling.notation import Piece

_DIRECTIONS = {1: "rising", -1: "falling", 0: ""}


def event_formula(on: Formulas, event: EventDeclaration) -> str:
    """When an event fires and what it does: "h = 0 falling, v ← −e v"."""
    fires = f"{on.write(event.function).text} = 0"
    if event.direction:
        fires += on.notation.gap + on.notation.word(_DIRECTIONS[event.direction])
    parts = [fires]
    for state, value in event.jump.items():
        after = on.write(value).text
        parts.append(f"{on.notation.name(state)} {on.notation.becomes} {after}")
    parts += [on.notation.word("stop")] if event.terminal else []
    return f",{on.notation.gap}".join(parts)


def _der(on: Formulas, e: Expression) -> Piece:
    state = on.write(e.arguments[0]).text
    return on.notation.derivative(state, on.notation.name(on.time))


def _first(on: Formulas, e: Expression) -> Piece:
    state = on.write(e.arguments[0]).text
    start = on.notation.subscript(on.notation.name(on.time), "0")
    return Piece(f"{state}{on.notation.grouped(start)}")


DYNAMICS: Mapping[str, Rule] = {"der": _der, "first": _first}
