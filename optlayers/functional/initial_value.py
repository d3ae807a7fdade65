"""Initial value problems in the user's form, and their solutions back in it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from optlayers.errors import ParameterError, ShapeError, TransformError
from optlayers.functional.options import SolveOptions
from optlayers.functional.plans import accepted_solver
from optlayers.functional.pytrees import Unknowns
from optlayers.implicit.transforms import hides_values
from optlayers.programs.initial_value import Event, InitialValueProgram
from optlayers.solution import Solution
from optlayers.solvers.ode.failure import raise_failed

# Allowed relative error of a step where none is asked for.
TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-5}


@dataclass(frozen=True)
class Problem:
    """What was asked for.

    Attributes:
        program: of B samples.
        solver: that takes it.
        options: of gradient and failure.
        unknowns: the form of the state.
    """

    program: InitialValueProgram
    solver: Any
    options: SolveOptions
    unknowns: Unknowns

    def told(self, solved: Solution, subject: str) -> Solution:
        """The solution in the user's form, or the exception that failures ask for.

        Args:
            solved: of B samples.
            subject: the name of the function that was called.

        Raises:
            SolveError: samples did not reach their last time (`on_failure="raise"`).
        """
        unknowns = self.unknowns
        if self.options.on_failure == "raise":
            raise_failed(subject, self.program, solved, unknowns.batch_shape)
        batch = unknowns.batch_shape
        return replace(
            solved,
            value=self.restored(solved.value),
            status=solved.status.reshape(batch),
            stats={key: one.reshape(batch) for key, one in solved.stats.items()},
            events=tuple(
                replace(one.reshaped(batch), states=self.restored(one.states))
                for one in solved.events
            ),
            dense=solved.dense and self._dense(solved),
        )

    def restored(self, value: Tensor) -> Any:
        """States [B, T, n] in the user's form."""
        # Time is the axis before the state: the leaves are restored time by time.
        if self.unknowns.is_tensor:
            return value.reshape(*self.unknowns.batch_shape, *value.shape[1:])
        return self.unknowns.restore_over(value)

    def _dense(self, solved: Solution) -> Callable[[Tensor], Any]:
        """The solution at any times, in the user's form."""

        def at(times: Any) -> Any:
            batch = self.unknowns.batch_shape
            value = values_asked(self.program, solved, self.options, batch, times)
            if value.ndim == 2:
                return self.unknowns.restore(value)
            return self.restored(value)

        return at


def values_asked(
    program: InitialValueProgram,
    solved: Solution,
    options: SolveOptions,
    batch: Sequence[int],
    times: Any,
) -> Tensor:
    """The solution at other times, of failed samples as the options say.

    Args:
        program: of B samples.
        solved: with its steps kept.
        options: failure behaviour.
        batch: the user's batch axes; prod = B.
        times: a number, [M] or [*batch, M].

    Returns:
        [B, M, n], of a number [B, n].

    Raises:
        ShapeError: times of another form.
        ParameterError: a time before the first or after the last save time.
    """
    initial = program.initial
    asked = times if isinstance(times, Tensor) else torch.as_tensor(times)
    is_one = asked.ndim == 0
    rows = rows_of_times(asked.reshape(1) if is_one else times, batch, initial)
    _check_inside(program, rows)
    value, failed = solved.at(rows), ~solved.ok[:, None, None]
    value = torch.where(failed, value.detach(), value)
    value = value.masked_fill(failed & (options.on_failure == "nan"), torch.nan)
    return value.squeeze(1) if is_one else value


def _check_inside(program: InitialValueProgram, times: Tensor) -> None:
    given = program.times.detach()
    ends = torch.stack((given[:, 0], given[:, -1]))
    low, high = ends.amin(0).unsqueeze(1), ends.amax(0).unsqueeze(1)
    slack = 4 * torch.finfo(given.dtype).eps * ends.abs().amax(0).unsqueeze(1)
    outside = (times < low - slack) | (times > high + slack) | times.isnan()
    if bool(outside.any()):
        i, k = (int(one) for one in outside.nonzero()[0])
        raise ParameterError(
            f"at(t): t = {float(times[i, k]):.6g} of sample {i} lies outside "
            f"[{float(low[i]):.6g}, {float(high[i]):.6g}], over which it was "
            "integrated. Integrate further, or ask within."
        )


def problem_of(
    field: Callable[[Tensor, Any], Any],
    start: Any,
    times: Tensor,
    events: Event | Sequence[Event] | None,
    subject: str,
    *,
    atol: float | None,
    options: SolveOptions,
) -> Problem:
    """Everything about a call, checked.

    Args:
        field: f, of the user's form.
        start: the initial value.
        times: where the solution is wanted.
        events: one or several, or None.
        subject: the name of the function that was called.
        atol: allowed absolute error, or None.
        options: solver, gradient, failure; tolerance is the relative one.

    Raises:
        ShapeError: times do not fit start, or the field returns another shape.
        ParameterError: an option out of its range.
        TransformError: called inside `torch.func` or `torch.compile`.
    """
    if hides_values():
        raise TransformError(
            f"functional.{subject} was called inside torch.func or torch.compile, "
            "which cannot see the tensors that its field closes over. Call it outside; "
            "give vmap's axis as one more batch axis of start."
        )
    options.check_kind(InitialValueProgram.kind)
    unknowns = Unknowns.of(start)
    initial = unknowns.rows(start)
    single = isinstance(events, Event)
    listed = () if events is None else (events,) if single else _events_of(events)
    if listed and options.order > 2:
        raise ParameterError(
            f"order={options.order} with events: the times of events can be "
            "differentiated twice. Give order=2 or less."
        )
    program = InitialValueProgram(
        _rowwise(field, unknowns),
        initial,
        rows_of_times(times, unknowns.batch_shape, initial),
        tuple(_event_of_rows(one, unknowns) for one in listed),
    )
    solver, rtol = options.solver, options.tolerance
    made_with: dict[str, Any] = {"rtol": rtol or TOLERANCES[initial.dtype]}
    if atol is not None:
        made_with["atol"] = atol
    if not isinstance(solver, str) and (rtol is not None or atol is not None):
        raise ParameterError(
            f"rtol= and atol= belong to the solver that was given: "
            f"{type(solver).__name__}(rtol=..., atol=...)."
        )
    chosen = accepted_solver(program, solver, **made_with)
    return Problem(program, chosen, options, unknowns)


def check_rtol(rtol: Any) -> None:
    """Refuse a relative tolerance that is none.

    Raises:
        ParameterError: no number between 0 and 1.
    """
    if rtol is None or (isinstance(rtol, Real) and 0 < float(rtol) < 1):
        return
    raise ParameterError(f"rtol={rtol!r}: give a number between 0 and 1, such as 1e-8.")


def _events_of(events: Any) -> tuple[Event, ...]:
    listed: tuple[Any, ...] = (events,) if callable(events) else tuple(events)
    for one in listed:
        if not isinstance(one, Event):
            raise ParameterError(
                f"events={one!r}: give Event(function), or a sequence of these; its "
                "options say whether the integration ends there, or goes on from where."
            )
    return listed


def rows_of_times(times: Tensor, batch: Sequence[int], initial: Tensor) -> Tensor:
    """Times [T] or [*batch, T] as [B, T], in the dtype of the state.

    Args:
        times: as the user gave them.
        batch: the user's batch axes; prod = B.
        initial: x0, [B, n].

    Raises:
        ShapeError: they fit no batch of this form.
        ParameterError: another device, or complex numbers.
    """
    if not isinstance(times, Tensor):
        times = torch.as_tensor(times, dtype=initial.dtype, device=initial.device)
    if times.ndim == 0 or times.shape[-1] == 0:
        raise ShapeError(
            f"times is {list(times.shape)}; give [T] or [*batch, T], T at least 1, the "
            "initial time first."
        )
    if times.is_complex() or times.device != initial.device:
        raise ParameterError(
            f"times is {times.dtype} on {times.device}, start {initial.dtype} on "
            f"{initial.device}; give real times on the same device."
        )
    count = times.shape[-1]
    try:
        times = times.to(initial.dtype).expand(*batch, count)
    except RuntimeError:
        raise ShapeError(
            f"times {list(times.shape)} fit no batch {list(batch)} of start; give [T], "
            f"or {[*batch, count]}."
        ) from None
    return times.reshape(math.prod(batch), count)


def _rowwise(
    field: Callable[[Tensor, Any], Any], unknowns: Unknowns
) -> Callable[[Tensor, Tensor], Tensor]:
    """A function of the user's form as one of [B] and [B, n]."""
    batch = unknowns.batch_shape
    if unknowns.is_matrix:
        return field

    def rowwise(time: Tensor, state: Tensor) -> Tensor:
        rate = field(time.reshape(batch), unknowns.restore(state))
        return unknowns.rows(rate)

    return rowwise


def _event_of_rows(event: Event, unknowns: Unknowns) -> Event:
    """An event of the user's form as one of [B] and [B, n]."""
    if unknowns.is_matrix:
        return event
    batch = unknowns.batch_shape

    def function(time: Tensor, state: Tensor) -> Tensor:
        value = event.function(time.reshape(batch), unknowns.restore(state))
        if value.shape != torch.Size(batch):
            raise ShapeError(
                f"the function of an event returned {list(value.shape)}; it must "
                f"return one number for each sample, {list(batch)}."
            )
        return value.reshape(-1)

    jump = None if event.jump is None else _rowwise(event.jump, unknowns)
    return replace(event, function=function, jump=jump)
