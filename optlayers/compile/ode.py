"""Differential equations: declaration -> an initial value problem for any parameters.

x' = f(t, x, u(t), p), x(t0) = g(p): the expressions are evaluated as they were written,
for a whole batch at once; controls hold their value between save times.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn

from optlayers.compile.promises import Promises
from optlayers.compile.samples import Unknowns
from optlayers.compile.switches import Clock, Knots, marks_of
from optlayers.interfaces import Kind
from optlayers.modeling.atoms.signals import hold
from optlayers.modeling.declaration import Declaration, field_expression
from optlayers.modeling.dynamics import EventDeclaration
from optlayers.modeling.evaluate import Evaluator
from optlayers.modeling.expressions import Expression
from optlayers.modeling.fields import BoundField
from optlayers.programs.initial_value import Direction, Event, InitialValueProgram
from optlayers.solution import Solution

Captured = Mapping[str, nn.Module | Tensor]
StateFunction = Callable[[Tensor, Tensor], Tensor]


class CompiledEvent(NamedTuple):
    """An event of a declaration.

    Attributes:
        name: under which results have it.
        function: evaluates the scalar that crosses zero.
        jump: evaluates the states after it; None if none changes.
        terminal: whether a sample ends there.
        direction: of the crossing that counts.
    """

    name: str
    function: Evaluator
    jump: Evaluator | None
    terminal: bool
    direction: Direction


class Posed(NamedTuple):
    """The problems of a batch, and how their solution reads.

    Attributes:
        program: what is to be integrated.
        told: makes of its solution, before events and values at other times are read,
            the one in the time of the user.
    """

    program: InitialValueProgram
    told: Callable[[Solution], Solution]


@dataclass(frozen=True, eq=False)
class OdeTemplate:
    """A differential equation of known sizes.

    Attributes:
        states: how the vector x stands for the states.
        rates: evaluates dx/dt of every state.
        initial: evaluates the initial value of every state.
        events: in declared order.
        time: the field that gives save times.
        controls: fields with one value for each interval between save times.
        knots: those of signals in rates, where these switch or bend.
        promises: what must hold of the parameters before a solve.
        parameter_ndims: axes of one sample of whatever a call gives, by name.
        why: one sentence on what it is.
    """

    states: Unknowns
    rates: Evaluator
    initial: Evaluator
    events: tuple[CompiledEvent, ...]
    time: str
    controls: tuple[str, ...]
    knots: Knots
    promises: Promises
    parameter_ndims: Mapping[str, int]
    why: str
    kind: ClassVar[Kind] = Kind.ODE

    def posed(
        self,
        parameters: Mapping[str, Tensor],
        captured: Captured,
        times: Tensor,
    ) -> Posed:
        """The problems of a batch.

        Args:
            parameters: by name, each [*shape] (shared) or [B, *shape], the time and
                controls with an axis for save times, or the intervals between them.
            captured: parameters and modules met in the declaration, by name.
            times: save times, [B, T].
        """
        given = {n: one for n, one in parameters.items() if n != self.time}
        signals = {
            name: _hold(given.pop(name), times, self.parameter_ndims[name])
            for name in self.controls
        }
        knots = self.knots.of(given, captured, times)
        marks = marks_of(knots, times, saves_switch=bool(self.controls))
        clock, still = None, times
        if _moves(knots) or (self.controls and _moves(times)):
            clock = Clock(marks, times)
            still = times.detach()
            if knots is not None:
                inner = clock.still(times[:, 1:-1])
                still = torch.cat((still[:, :1], inner, still[:, -1:]), 1)

        def values(time: Tensor, state: Tensor) -> dict[str, Tensor]:
            if clock is not None:
                time = clock.time(time)
            held = {name: signal(time) for name, signal in signals.items()}
            return {**given, **self._named(state), self.time: time, **held}

        def vector(evaluator: Evaluator) -> StateFunction:
            def function(time: Tensor, state: Tensor) -> Tensor:
                found = evaluator.batched(values(time, state), captured)
                return _row(found.values, found.is_batched, state)

            return function

        first = self.initial.batched(given, captured)
        field = vector(self.rates)
        program = InitialValueProgram(
            field=field if clock is None else clock.warped(field),
            initial=_row(first.values, first.is_batched, times[:, :1]),
            times=still,
            events=tuple(_event(one, vector) for one in self.events),
            stops=marks.stops(),
        )
        return Posed(program, _as_it_is if clock is None else clock.told)

    def _named(self, state: Tensor) -> dict[str, Tensor]:
        """The states of x [B, n], each [B, *shape]."""
        shapes = self.states.shapes
        if not any(shapes.values()):
            return dict(zip(shapes, state.unbind(-1), strict=True))
        return self.states.split(state)


def compile_ode(declaration: Declaration) -> OdeTemplate:
    """Compile a declaration that ends with `integrate(...)`, of known sizes."""
    dynamics = declaration.dynamics
    assert dynamics is not None
    fields = declaration.fields
    states = Unknowns({name: fields[name].shape for name in dynamics.states})
    moving = (*dynamics.states, dynamics.time, *dynamics.controls)
    rates, initial = list(dynamics.rates.values()), list(dynamics.initial.values())
    timed = (dynamics.time, *dynamics.controls)
    parts: list[Expression] = [*rates, *initial]
    for event in dynamics.events:
        parts.extend(event)
    return OdeTemplate(
        states=states,
        rates=Evaluator(rates, variables=moving),
        initial=Evaluator(initial),
        events=tuple(_compiled(one, states, moving, fields) for one in dynamics.events),
        time=dynamics.time,
        controls=dynamics.controls,
        knots=Knots(rates, dynamics.time, moving),
        promises=Promises.of(declaration, parts, timed),
        parameter_ndims={
            name: len(one.shape) + (name in timed)
            for name, one in fields.items()
            if not one.is_variable
        },
        why=dynamics.why,
    )


def _compiled(
    event: EventDeclaration,
    states: Unknowns,
    moving: Sequence[str],
    fields: Mapping[str, BoundField],
) -> CompiledEvent:
    jump = None
    if event.jump:
        after = [
            event.jump[name] if name in event.jump else field_expression(fields[name])
            for name in states.shapes
        ]
        jump = Evaluator(after, variables=moving)
    function = Evaluator([event.function], variables=moving)
    direction = cast(Direction, event.direction)
    return CompiledEvent(event.name, function, jump, event.terminal, direction)


def _event(one: CompiledEvent, vector: Callable[[Evaluator], StateFunction]) -> Event:
    crossing = vector(one.function)
    return Event(
        function=lambda time, state: crossing(time, state).squeeze(1),
        terminal=one.terminal,
        direction=one.direction,
        jump=None if one.jump is None else vector(one.jump),
    )


def _row(values: Sequence[Tensor], is_batched: Sequence[bool], like: Tensor) -> Tensor:
    """Values of a sample, one after another, as [B, n] of the dtype of `like`."""
    batch = like.shape[0]
    if all(is_batched) and all(one.ndim == 1 for one in values):
        return torch.stack(list(values), 1).to(like.dtype)
    parts = [
        one.unsqueeze(1).flatten(1) if is_one else one.reshape(-1).expand(batch, -1)
        for one, is_one in zip(values, is_batched, strict=True)
    ]
    return (parts[0] if len(parts) == 1 else torch.cat(parts, 1)).to(like.dtype)


def _moves(times: Tensor | None) -> bool:
    """Whether derivatives in these times are asked for."""
    return times is not None and times.requires_grad and torch.is_grad_enabled()


def _as_it_is(solved: Solution) -> Solution:
    return solved


def _hold(values: Tensor, times: Tensor, ndim: int) -> Callable[[Tensor], Tensor]:
    """A control as a function of time, [B] -> [B, *shape], constant between save times.

    Args:
        values: one for each interval, [T - 1, *shape] or [B, T - 1, *shape].
        times: save times, [B, T], increasing or decreasing.
        ndim: axes of one sample of the values.

    Raises:
        ShapeError: not one value for each interval.
    """
    if values.ndim == ndim:
        values = values.expand(len(times), *values.shape)
    sign = torch.where(times[:, -1] < times[:, 0], -1.0, 1.0).to(times)
    knots = (sign.unsqueeze(1) * times[:, :-1]).detach()
    return lambda time: hold(values, knots, sign * time)
