"""The words of differential equations: integrate, der, event."""

from collections.abc import Iterator, Mapping
from typing import Any

from optlayers.errors import DeclarationError, ShapeError
from optlayers.modeling.constraints import Between, Constraint
from optlayers.modeling.dynamics import EventDeclaration, broadcast_as
from optlayers.modeling.expressions import Expression, as_expression
from optlayers.modeling.fields import BoundField, Role
from optlayers.modeling.goals import (
    Goal,
    flattened,
    labelled,
    no_constraint,
    refuse_tensors,
)
from optlayers.modeling.inference import (
    broadcast,
    describe,
    described,
    located,
    located_at,
)
from optlayers.modeling.origin import Origin
from optlayers.modeling.signs import Sign


def integrate(*equations: Any, **named: Any) -> Goal:
    """End a declaration: follow states in time from where they start.

    Every State x has one equation `ol.der(x) == f`, f of states, controls, parameters
    and the Time, and one initial condition `x.first == x0`, x0 of parameters. In their
    body x is the value at the present time. A call gives the save times under the name
    of the Time field, or as `times=` where there is none.

    Args:
        *equations: equations, named `equation_0`, ..., events, named `event_0`, ...;
            lists of them too.
        **named: equations and events by name.

    Raises:
        DeclarationError: something that is neither equation nor event.

    Example:
        @ol.problem
        def decay(x=State(), x0=Parameter(), rate=Parameter()):
            return integrate(ol.der(x) == -rate * x, start=x.first == x0)
    """
    refuse_tensors("integrate", "integrate(field, start, times)", equations, named)
    unnamed = list(flattened(equations))
    events = [one for one in unnamed if isinstance(one, EventDeclaration)]
    others = [one for one in unnamed if not isinstance(one, EventDeclaration)]
    given = [
        *labelled(others, {}, "equation"),
        *labelled(events, {}, "event"),
        *labelled((), named, ""),
    ]
    return Goal(
        "integrate",
        as_expression(0.0),
        tuple(_equations(given)),
        tuple(e.named(n) for n, e in given if isinstance(e, EventDeclaration)),
    )


def der(state: Any) -> Expression:
    """The derivative of a State with respect to the time, dx/dt.

    It stands alone on one side of an equation of `integrate(...)`.

    Args:
        state: a State by itself, [*shape].

    Raises:
        DeclarationError: something else, or a State that has stages.
    """
    field = _field(state)
    if field is not None and field.is_continuous:
        return Expression(
            "der", (state,), {}, state.shape, None, Sign.UNKNOWN, Origin.here()
        )
    raise located(DeclarationError(_no_derivative(state, field)))


def event(
    expression: Any,
    *,
    direction: int = 0,
    terminal: bool | None = None,
    jump: Mapping[Any, Any] | None = None,
) -> EventDeclaration:
    """Something that happens where an expression crosses zero, each sample by itself.

    As `impact=ol.event(...)` in an `integrate(...)` its times are
    `out.events.impact.times`, differentiable in everything the expression is built of.
    An expression that is zero at the first time fires only where it crosses zero again;
    where it becomes NaN, the sample ends as NOT_FINITE.

    Args:
        expression: a scalar of states, controls, parameters and the time.
        direction: +1 fires where it rises through zero, -1 where it falls, 0 both.
        terminal: whether the integration ends there; None is True of an event without
            a jump, which goes on from a new state.
        jump: State -> its value right after the event; other states keep theirs.

    Raises:
        DeclarationError: a relation, a direction that is none, a jump of no State.
        ShapeError: the expression is no scalar, or a jump has not its State's shape.

    Example:
        impact = ol.event(h, direction=-1, jump={v: -e * v})
    """
    if isinstance(expression, Constraint | Between):
        raise located(
            DeclarationError(
                "ol.event takes the expression that crosses zero, no relation: the "
                "left side minus the right, as in ol.event(h - floor)."
            )
        )
    function = as_expression(expression)
    terminal = jump is None if terminal is None else terminal
    _check_event(function, direction, terminal)
    return EventDeclaration(
        "", function, direction, terminal, dict(_jumps(jump)), Origin.here()
    )


def _equations(given: list[tuple[str, Any]]) -> Iterator[Constraint]:
    for name, one in given:
        if isinstance(one, EventDeclaration):
            continue
        if isinstance(one, Between):
            raise DeclarationError(
                located_at(
                    one.lower,
                    f"{name} bounds an expression, and integrate keeps no bounds.\n  "
                    "To stop or react where one is reached, write ol.event(...).",
                )
            )
        if not isinstance(one, Constraint):
            raise located(DeclarationError(no_constraint(name, one, "equation")))
        yield one.named(name)


def _field(value: Any) -> BoundField | None:
    is_field = isinstance(value, Expression) and value.name == "field"
    return value.options["field"] if is_field else None


def _no_derivative(state: Any, field: BoundField | None) -> str:
    if not isinstance(state, Expression):
        return f"ol.der takes a State of the declaration, not {state!r}."
    if field is None:
        return (
            f"ol.der takes a State by itself, not {describe(state)}.\n  For a second "
            "derivative declare the first as a State, ol.der(q) == v; state entries "
            "together, as in ol.der(x) == ol.stack([...])."
        )
    if field.role is Role.STATE:
        return (
            f"{field.name} has stages here, and ol.der belongs to differential "
            f"equations; write {field.name}.next for its value one stage later, or end "
            "the declaration with `return integrate(...)`, called by that name."
        )
    return (
        f"ol.der takes a State, and {field.name} was declared {field.text}; declare "
        "what changes in time as a State."
    )


def _check_event(function: Expression, direction: Any, terminal: Any) -> None:
    if function.shape != ():
        raise located(
            ShapeError(
                f"ol.event takes a scalar, not {described(function)}.\n  Write an "
                "event for each entry, or ol.min(...) for the first of them."
            )
        )
    if isinstance(direction, bool) or direction not in (-1, 0, 1):
        raise located(
            DeclarationError(
                f"direction={direction!r}: +1 is rising through zero, -1 falling, 0 "
                "both."
            )
        )
    if not isinstance(terminal, bool):
        raise located(DeclarationError(f"terminal={terminal!r}: give True or False."))


def _jumps(jump: Any) -> Iterator[tuple[str, Expression]]:
    if jump is None:
        return
    if not isinstance(jump, Mapping):
        raise located(
            DeclarationError(
                f"jump={jump!r}: give a dictionary from a State to its value after the "
                "event, as in jump={v: -e * v}."
            )
        )
    for state, value in jump.items():
        field = _field(state)
        if field is None or not field.is_continuous:
            shown = describe(state) if isinstance(state, Expression) else repr(state)
            raise located(
                DeclarationError(
                    f"jump: {shown} is no State by itself, and only states jump; "
                    "write jump={v: ...} with the State v."
                )
            )
        yield field.name, _after(field, as_expression(value))


def _after(field: BoundField, value: Expression) -> Expression:
    """The value of a state after an event, in its shape."""
    if value.shape == field.shape:
        return value
    try:
        fits = broadcast(value.shape, field.shape) == field.shape
    except ValueError:
        fits = False
    if not fits:
        raise located(
            ShapeError(
                f"jump: {field.name} has shape {list(field.shape)}, its value after "
                f"the event {list(value.shape)}.\n  {field.name} was declared "
                f"{field.text}."
            )
        )
    return broadcast_as(value, field.shape)
