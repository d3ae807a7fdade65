"""A differential equation as data: rates, initial values, events; what is refused.

dx/dt = f(x, u, p, t), x(t0) = g(p), and jumps of x where an event function is zero.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from optlayers.errors import DeclarationError, ShapeError
from optlayers.modeling.constraints import Constraint
from optlayers.modeling.expressions import Expression
from optlayers.modeling.fields import BoundField, Role
from optlayers.modeling.inference import describe, described, located_at, quoted
from optlayers.modeling.origin import Origin
from optlayers.modeling.wording import counted


@dataclass(frozen=True, eq=False)
class EventDeclaration:
    """Something that happens where a function of state and time crosses zero.

    Attributes:
        name: the keyword it was given by, or "event_0", ...
        function: scalar, not staged.
        direction: +1 fires where it rises through zero, -1 where it falls, 0 both.
        terminal: whether the integration ends there.
        jump: the state after the event, of the states that change, by name; each of
            the shape of its state.
        origin: where it was written.
    """

    name: str
    function: Expression
    direction: int
    terminal: bool
    jump: Mapping[str, Expression]
    origin: Origin

    def named(self, name: str) -> "EventDeclaration":
        """The same event under another name."""
        return replace(self, name=name)

    def __iter__(self) -> Iterator[Expression]:
        """Its expressions: the function, then the values after it."""
        yield self.function
        yield from self.jump.values()


@dataclass(frozen=True, eq=False)
class Dynamics:
    """What an `integrate(...)` states. No expression is staged.

    Attributes:
        rates: dx/dt of every state, of its shape, in order of the signature.
        initial: x at the first time of every state, of parameters alone, likewise.
        events: in order of writing, unnamed ones first.
        time: the field under whose name a call gives its save times.
        controls: fields that a call gives for every interval between save times.
        why: one sentence on what it is.
    """

    rates: Mapping[str, Expression]
    initial: Mapping[str, Expression]
    events: tuple[EventDeclaration, ...]
    time: str
    controls: tuple[str, ...]
    why: str

    @property
    def states(self) -> tuple[str, ...]:
        """Names of the states, in order of the signature."""
        return tuple(self.rates)


def dynamics_of(
    name: str,
    equations: Sequence[Constraint],
    events: Sequence[EventDeclaration],
    fields: Mapping[str, BoundField],
) -> Dynamics:
    """Read equations as rates and initial values.

    Args:
        name: of the declaration, for messages.
        equations: what `integrate(...)` was given, each with its name.
        events: likewise.
        fields: the bound fields of the declaration, one of them the time.

    Raises:
        DeclarationError: a Variable, a State with bounds, a relation that is neither a
            rate nor an initial value, a State without its two equations, or with more.
        ShapeError: an equation that has not the shape of its State.
    """
    _check_fields(name, fields)
    states = {n: one for n, one in fields.items() if one.role is Role.STATE}
    moving = {one.name for one in fields.values() if one.role is not Role.PARAMETER}
    found = _sorted(equations, moving)
    for state in states.values():
        _check_complete(name, state, found)
    rates, initial = (
        {n: _value(found[word][n], word, field) for n, field in states.items()}
        for word in ("der", "first")
    )
    for event in events:
        _check_event(event, moving)
    _check_promises([*rates.values(), *chain(*events)], moving)
    return Dynamics(
        rates=rates,
        initial=initial,
        events=tuple(events),
        time=next(n for n, one in fields.items() if one.role is Role.TIME),
        controls=tuple(n for n, one in fields.items() if one.role is Role.CONTROL),
        why=_why(states, [found["der"][n] for n in states]),
    )


def parts_named(expression: Expression, names: Collection[str]) -> Iterator[Expression]:
    """The nodes of these names within an expression, itself included."""
    pending, seen = [expression], set[int]()
    while pending:
        one = pending.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if one.name in names:
            yield one
        pending.extend(one.arguments)


def broadcast_as(value: Expression, shape: tuple[int, ...]) -> Expression:
    """A value repeated to fill the shape of its state."""
    return Expression(
        "broadcast_to",
        (value,),
        {"shape": shape},
        shape,
        None,
        value.sign,
        value.origin,
    )


# ---- fields --------------------------------------------------------------------------


def _check_fields(name: str, fields: Mapping[str, BoundField]) -> None:
    for one in fields.values():
        where = f"{one.origin.place}: {one.name} = {one.text}"
        if one.role is Role.VARIABLE:
            raise DeclarationError(
                f"{where}: integrate chooses nothing, it follows states from where "
                "they start.\n  Declare a State for what changes in time, a Parameter "
                "for what the call gives."
            )
        if one.role is Role.STATE and _attribute(one) is not None:
            raise DeclarationError(
                f"{where}: integrate keeps no bounds and needs no first guess; drop "
                f"{_attribute(one)}=.\n  Integrate another state whose image is in the "
                "bounds, as in x = ol.exp(z), or project the result."
            )
        if one.role is Role.CONTROL and one.start is not None:
            raise DeclarationError(
                f"{where}: in an integrate a Control is given by the call, one value "
                "for each interval between save times, and needs no first guess; drop "
                "start=."
            )
    if not any(one.role is Role.STATE for one in fields.values()):
        raise DeclarationError(
            f"{name} integrates nothing; declare what changes in time, as in "
            "x=State(), and its rate, ol.der(x) == ..."
        )


def _attribute(field: BoundField) -> str | None:
    for word in ("nonneg", "nonpos", "lower", "upper", "start"):
        value = getattr(field, word)
        if value is not None and value is not False:
            return word
    return None


# ---- equations -----------------------------------------------------------------------


def _sorted(
    equations: Sequence[Constraint], moving: Collection[str]
) -> dict[str, dict[str, Constraint]]:
    """The equation of each state's rate ("der") and of its initial value ("first")."""
    found: dict[str, dict[str, Constraint]] = {"der": {}, "first": {}}
    for one in equations:
        word, state = _reading(one, moving)
        if state in found[word]:
            raise DeclarationError(_twice(word, state, found[word][state], one))
        found[word][state] = one
    return found


def _reading(one: Constraint, moving: Collection[str]) -> tuple[str, str]:
    """("der" or "first", the state), of an equation that says what one of them is."""
    if one.relation != "==":
        raise DeclarationError(located_at(one, _no_equation(one)))
    sides = (one.left, one.right)
    marks = [list(parts_named(side, ("der", "first"))) for side in sides]
    if not any(marks):
        raise DeclarationError(located_at(one, _algebraic(one)))
    for side, other, others in zip(sides, sides[::-1], marks[::-1], strict=True):
        if side.name in ("der", "first") and not others:
            state = _state_of(side)
            if side.name == "first" and other.field_names & set(moving):
                raise DeclarationError(located_at(one, _moving(one, state, other)))
            return side.name, state
    pairs = list(zip(sides, marks[::-1], strict=True))
    for side, others in sorted(pairs, key=lambda pair: pair[0].name != "der"):
        if side.name in ("der", "first"):
            raise DeclarationError(located_at(one, _beside(one, side, others)))
    raise DeclarationError(located_at(one, _inside(one, [*marks[0], *marks[1]])))


def _value(one: Constraint, word: str, field: BoundField) -> Expression:
    """The other side of an equation, in the shape of its state."""
    is_left = one.left.name == word and _state_of(one.left) == field.name
    value = one.right if is_left else one.left
    if value.shape == field.shape:
        return value
    if one.shape != field.shape:
        asked = f"ol.der({field.name})" if word == "der" else f"{field.name}.first"
        raise ShapeError(
            located_at(
                one,
                f"{one.name}: {asked} has shape {list(field.shape)}, and "
                f"{described(value)}.\n  {field.name} was declared {field.text}.",
            )
        )
    return broadcast_as(value, field.shape)


def _state_of(mark: Expression) -> str:
    """The state of which something is the rate or the initial value."""
    return mark.arguments[0].options["field"].name


def _check_complete(
    name: str, state: BoundField, found: Mapping[str, Mapping[str, Constraint]]
) -> None:
    where = f"{state.origin.place}: {state.name} = {state.text}"
    if state.name not in found["der"]:
        raise DeclarationError(
            f"{where}: {name} does not say how {state.name} changes; add its equation, "
            f"ol.der({state.name}) == ..., or declare it a Parameter."
        )
    if state.name not in found["first"]:
        raise DeclarationError(
            f"{where}: {name} does not say where {state.name} starts; add its initial "
            f"condition, as in start={state.name}.first == x0 with a Parameter x0."
        )


def _twice(word: str, state: str, one: Constraint, other: Constraint) -> str:
    what = "equations" if word == "der" else "initial conditions"
    return located_at(
        other,
        f"{state} has two {what}, {one.name} ({one.origin.place}: "
        f"`{one.origin.text}`) and {other.name}; keep one.",
    )


def _no_equation(one: Constraint) -> str:
    if one.relation == "<=":
        return (
            f"{one.name} is an inequality, and integrate takes equations.\n  To stop "
            "or react where a bound is reached, write ol.event(left - right)."
        )
    return (
        f"{one.name} is a membership in a cone, and integrate takes equations; what "
        "holds at the start holds later only if the rates keep it."
    )


def _inside(one: Constraint, marks: Sequence[Expression]) -> str:
    mark = next((mark for mark in marks if mark.name == "der"), marks[0])
    state = _state_of(mark)
    entries = "\n  The entries are stated together, as in ol.stack([...])."
    hint = entries if mark.shape else ""
    if mark.name == "der":
        return (
            f"{one.name} has ol.der({state}) inside; solve for der({state}): it "
            f"stands alone on one side, as in ol.der({state}) == f, and nowhere "
            f"else.{hint}"
        )
    return (
        f"{one.name} has {state}.first inside; an initial condition has it alone on "
        f"one side and parameters on the other, as in {state}.first == x0.{hint}"
    )


def _beside(one: Constraint, mark: Expression, others: Sequence[Expression]) -> str:
    """What is wrong where a rate or initial value stands alone, but others opposite."""
    first = next((other for other in others if other.name == "first"), None)
    if mark.name == "first" or first is None:
        return _inside(one, others)
    state = _state_of(first)
    return (
        f"{one.name} has {state}.first in the rate of {_state_of(mark)}; a rate is "
        "built of states, controls, parameters and the time.\n  Write the Parameter "
        f"that {state}.first equals in its place."
    )


def _algebraic(one: Constraint) -> str:
    return (
        f"{one.name} states neither a rate, ol.der(x) == ..., nor an initial value, "
        "x.first == ....\n  An algebraic equation beside them is not integrated: "
        "insert what it defines where it is used, or differentiate it once."
    )


def _moving(one: Constraint, state: str, other: Expression) -> str:
    return (
        f"{one.name}: the initial value of {state} is known before anything moves, so "
        f"{describe(other)} may be built of parameters only, not of states, controls "
        "or the time."
    )


# ---- events and promises -------------------------------------------------------------


def _check_event(event: EventDeclaration, moving: Collection[str]) -> None:
    for part in event:
        for mark in parts_named(part, ("der", "first")):
            raise DeclarationError(
                f"{quoted(mark)} stands in {event.name}; an event reads states, "
                "controls, parameters and the time. For a rate write out its right "
                "side, for an initial value its Parameter."
            )
    if not event.function.field_names & set(moving):
        raise DeclarationError(
            f"{quoted(event.function)}: the function of {event.name} depends on "
            "neither a state nor the time, so it never crosses zero."
        )


def _check_promises(expressions: Sequence[Expression], moving: Collection[str]) -> None:
    """Promises are checked before a solve, when nothing that moves has a value."""
    for one in chain(*(parts_named(each, ("assert",)) for each in expressions)):
        if one.field_names & set(moving):
            attribute = one.options["attribute"]
            word = {"psd": "psd_matrix"}.get(attribute, attribute)
            raise DeclarationError(
                f"{quoted(one)}: ol.{word} promises something of parameters, and "
                f"{describe(one.arguments[0])} changes with the time; drop it."
            )


def _why(states: Mapping[str, BoundField], rates: Sequence[Constraint]) -> str:
    size = sum(math.prod(one.shape) for one in states.values())
    names = ", ".join(one.name for one in rates)
    return (
        f"integrate(...) states {counted(size, 'differential equation')} of first "
        f"order ({names}) with initial values: an initial value problem"
    )
