"""Initial value problems x'(t) = f(t, x), x(t0) = x0, wanted at given times.

B of them in one batch: each has its own initial value, times and events.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from optlayers.errors import ParameterError, ShapeError
from optlayers.interfaces import Kind

# f(t [B], x [B, n]) -> [B, n]; row i of the result depends on row i alone.
FieldFunction = Callable[[Tensor, Tensor], Tensor]
Direction = Literal[-1, 0, 1]


@dataclass(frozen=True, eq=False)
class Event:
    """Something that happens when a function of time and state changes its sign.

    A function that is zero at the first time fires only where it crosses zero again;
    it may not become NaN, for then a crossing would be missed: the sample ends there.

    Attributes:
        function: g(t [B], x [B, n]) -> [B].
        terminal: whether the integration of a sample ends at its first event; None is
            True of an event without a jump, which goes on from a new state.
        direction: +1 fires where g rises along the integration, -1 where it falls, 0
            at both.
        jump: the state after the event, (t [B], x [B, n]) -> [B, n]; None keeps it.

    Raises:
        ParameterError: another direction.
    """

    function: Callable[[Tensor, Tensor], Tensor]
    terminal: bool | None = None
    direction: Direction = 0
    jump: FieldFunction | None = None

    def __post_init__(self) -> None:
        if self.terminal is None:
            object.__setattr__(self, "terminal", self.jump is None)
        if self.direction not in (-1, 0, 1):
            raise ParameterError(
                f"Event(direction={self.direction!r}): +1 fires where the function "
                "rises, -1 where it falls, 0 at both."
            )

    def value(self, time: Tensor, state: Tensor) -> Tensor:
        """g(t, x), [B] and [B, n] -> [B].

        Raises:
            ShapeError: the function returns another shape.
            ParameterError: it returns no tensor.
        """
        value = self.function(time, state)
        if not isinstance(value, Tensor):
            raise ParameterError(
                f"the function of an event returns {type(value).__name__}; it must "
                f"return a tensor {list(time.shape)}, one number for each sample."
            )
        if value.shape != time.shape:
            raise ShapeError(
                f"the function of an event takes times {list(time.shape)} and states "
                f"{list(state.shape)} to {list(value.shape)}; it must return one "
                "number for each sample."
            )
        return value

    def after(self, time: Tensor, state: Tensor) -> Tensor:
        """The state after the event, [B] and [B, n] -> [B, n].

        Raises:
            ShapeError: the jump returns another shape.
        """
        if self.jump is None:
            return state
        after = self.jump(time, state)
        if after.shape != state.shape:
            raise ShapeError(
                f"the jump of an event takes a state {list(state.shape)} to "
                f"{list(after.shape)}; it must return the whole state."
            )
        return after


@dataclass(frozen=True, eq=False)
class InitialValueProgram:
    """B initial value problems of one size.

    Attributes:
        field: f, which may close over tensors that require gradients.
        initial: x0, [B, n].
        times: where the solution is wanted, [B, T], each row strictly increasing or
            strictly decreasing; the first column is the initial time.
        events: what may happen on the way.
        stops: times at which f may jump, [B, K], in the order in which they are met;
            no step crosses one. None if there are none.
    """

    field: FieldFunction
    initial: Tensor
    times: Tensor
    events: tuple[Event, ...] = ()
    stops: Tensor | None = None
    kind: ClassVar[Kind] = Kind.ODE

    @property
    def batch_size(self) -> int:
        """B, the number of problems."""
        return self.initial.shape[0]

    @property
    def size(self) -> int:
        """n, the number of states of one problem."""
        return self.initial.shape[1]

    def rate(self, time: Tensor, state: Tensor) -> Tensor:
        """f(t, x), [B] and [B, n] -> [B, n].

        Raises:
            ShapeError: the field returns another shape.
            ParameterError: it returns no tensor, or one of another dtype.
        """
        value = self.field(time, state)
        if not isinstance(value, Tensor):
            raise ParameterError(
                f"the field returns {type(value).__name__}; it must return a tensor of "
                f"rates {list(state.shape)}, as its state is one. Join several by "
                "torch.stack(..., 1) or torch.cat(..., 1)."
            )
        if value.dtype != state.dtype:
            raise ParameterError(
                f"the field takes a state of {state.dtype} to rates of {value.dtype}. "
                "Bring start or what the field computes with to one dtype, with .to()."
            )
        if value.shape != state.shape:
            raise ShapeError(
                f"the field takes a state {list(state.shape)} to {list(value.shape)}; "
                "it must return one rate for each state, and one row for each sample."
            )
        return value

    def sign(self) -> Tensor:
        """-1 of samples whose times decrease, +1 of the others, [B]."""
        times = self.times.detach()
        return torch.where(times[:, -1] < times[:, 0], -1.0, 1.0).to(times)

    def increasing(self) -> "InitialValueProgram":
        """The same problems with time running forward in all of them.

        Where the times of a sample decrease, its time is counted backward: s = -t,
        dx/ds = -f(-s, x).
        """
        sign = self.sign()
        if bool((sign == 1).all()):
            return self
        column = sign.unsqueeze(1)

        def reversed_field(time: Tensor, state: Tensor) -> Tensor:
            return column * self.rate(sign * time, state)

        return replace(
            self,
            field=reversed_field,
            times=column * self.times,
            events=tuple(_with_time(one, sign) for one in self.events),
            stops=None if self.stops is None else column * self.stops,
        )


def _with_time(event: Event, sign: Tensor) -> Event:
    """The event as one of the time sign * t, sign [B]."""
    jump = event.jump
    return replace(
        event,
        function=lambda time, state: event.function(sign * time, state),
        jump=None if jump is None else lambda t, x: jump(sign * t, x),
    )
