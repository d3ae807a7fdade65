"""Events along a walk: seen by a change of sign, found on dense output, logged.

A step is cut at the earliest event that is terminal or jumps; others are only logged.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from optlayers.implicit.moved_times import moved
from optlayers.programs.initial_value import Event, FieldFunction
from optlayers.programs.root import RootProgram
from optlayers.solution import EventLog
from optlayers.solvers.ode.event_times import Crossing, differentiable, slope
from optlayers.solvers.ode.stepper import Step, Stepper
from optlayers.solvers.root.chandrupatla import Chandrupatla

# Times that differ by so many roundings are the same.
SAME = 16


class Trial(NamedTuple):
    """A step that may hold events.

    Attributes:
        step: completed where the events look into it.
        time, size: t and h, each [B].
        state: x at the beginning, [B, n].
        moved: where it was accepted and is no rest, bool [B].
    """

    step: Step
    time: Tensor
    size: Tensor
    state: Tensor
    moved: Tensor


class Cut(NamedTuple):
    """Where steps were ended by events.

    Attributes:
        rows: in which samples, bool [B].
        time: when, [B].
        state: after the jump, from which those samples go on at `time`, [B, n].
        last: after the jump, differentiable in the time of the event, [B, n].
        ends: samples whose integration ends here, bool [B].
        stuck: samples in which an event follows another at once, bool [B].
    """

    rows: Tensor
    time: Tensor
    state: Tensor
    last: Tensor
    ends: Tensor
    stuck: Tensor


class EventWatch:
    """The events of a program while its solution is walked along."""

    def __init__(
        self,
        events: Sequence[Event],
        field: FieldFunction,
        time: Tensor,
        state: Tensor,
    ) -> None:
        """Evaluate all events at the beginning.

        Args:
            events: at least one.
            field: f, to the right of its jumps.
            time: t0, [B].
            state: x0, [B, n].
        """
        self._events, self._field = tuple(events), field
        self._cuts = [one.terminal or one.jump is not None for one in events]
        directions = [[one.direction] for one in events]
        self._direction = torch.tensor(directions, device=time.device)
        self._eps = torch.finfo(time.dtype).eps
        self._solver = Chandrupatla(tolerance=4 * self._eps)
        self._logs: list[list[Crossing]] = [[] for _ in events]
        with torch.no_grad():
            values = self._evaluate(time, state)
            # Which functions have become NaN, [E, B]: since the last look, and ever.
            lost = values.isnan() & state.isfinite().all(1)
            self._lost: Tensor | None = lost
            self._without_number = torch.zeros_like(lost)
            self._values = torch.where(values.isnan(), 1.0, values)
            self._from_zero = self._values == 0
            self._start_from_zero(time, state, self._from_zero)
            self._any_zero = True

    def are_met(self, after: Tensor, step: Step, moved: Tensor) -> bool:
        """Whether any event lies in a step; one evaluation of each.

        Args:
            after: time at the end of the step, [B].
            step: which was made.
            moved: where it was accepted and is no rest, bool [B].
        """
        with torch.no_grad():
            values = self._values
            now = torch.where(moved, self._evaluate(after, step.state), values)
            # One look that misses nothing, NaN included, before the careful one.
            if not bool((values * now > 0).all()):
                self._lost = lost = now.isnan()
                now = torch.where(lost, values, now)
                rises = (values < 0) & (now >= 0) & (self._direction >= 0)
                falls = (values > 0) & (now <= 0) & (self._direction <= 0)
                self._fires = (rises | falls) & moved
                self._now = now
                if bool(self._fires.any()):
                    return True
            self._values = now
            if self._any_zero:
                self._from_zero = self._from_zero & ~moved
                self._any_zero = bool(self._from_zero.any())
        return False

    def find(self, stepper: Stepper, trial: Trial) -> Cut | None:
        """Locate what `are_met` has seen, log it, and end steps where they must."""
        with torch.no_grad():
            places = self._places(stepper, trial)
            cutting = torch.tensor(self._cuts, device=places.device).unsqueeze(1)
            first = torch.where(cutting, places, torch.inf).amin(0)
            last_time = trial.time.abs() + trial.size
            same = SAME * self._eps * last_time / trial.size.clamp_min(
                torch.finfo(places.dtype).tiny
            )  # fmt: skip
            met = (places <= 1) & (places <= first + same)
            which = met.any(1).tolist()
        found = [
            self._cross(stepper, trial, i, met[i], places[i]) if seen else None
            for i, seen in enumerate(which)
        ]
        for log, crossing in zip(self._logs, found, strict=True):
            if crossing is not None:
                log.append(crossing)
        rows = first <= 1
        if not bool(rows.any()):
            self._values = self._now
            self._from_zero = self._from_zero & ~trial.moved
            return None
        return self._cut(trial, found, rows)

    def take_lost(self) -> Tensor | None:
        """Samples in which a function has just become NaN, bool [B]; None if none."""
        lost, self._lost = self._lost, None
        if lost is None:
            return None
        self._without_number = self._without_number | lost
        return lost.any(0)

    def logs(self, sign: Tensor) -> tuple[EventLog, ...]:
        """What has been found so far.

        Args:
            sign: -1 of samples whose time is counted backward, else +1, [B].
        """
        pairs = zip(self._logs, self._without_number, strict=True)
        return tuple(
            replace(_log(found, sign, self._size), lost=lost) for found, lost in pairs
        )

    # ---- within a step -----------------------------------------------------------

    def _evaluate(self, time: Tensor, state: Tensor) -> Tensor:
        """All event functions, [E, B]."""
        self._size = state.shape[1]
        return torch.stack([one.value(time, state) for one in self._events])

    def _places(self, stepper: Stepper, trial: Trial) -> Tensor:
        """How far into the step each event is, [E, B]; infinite where it is not."""
        found = []
        for i, seen in enumerate(self._fires.any(1).tolist()):
            place = trial.time.new_full(trial.time.shape, torch.inf)
            if seen:
                place = torch.where(
                    self._fires[i], self._place(stepper, trial, i), place
                )
            found.append(place)
        return torch.stack(found)

    def _place(self, stepper: Stepper, trial: Trial, i: int) -> Tensor:
        """Where in [0, 1] event i changes its sign, [B]."""
        step, time, size, state, _ = trial
        rows, from_zero, after = self._fires[i], self._from_zero[i], self._now[i]
        before = torch.where(from_zero, self._values[i] * size, self._values[i])
        scale = torch.where(rows, self._scale(size)[i], 1.0)

        def residual(point: Tensor) -> Tensor:
            theta = point.squeeze(1)
            inside = stepper.interpolate(state, size, step, point).squeeze(1)
            value = self._events[i].value(torch.addcmul(time, theta, size), inside)
            # The root at the beginning is divided out: it was an event already.
            value = torch.where(from_zero, value / theta, value)
            value = torch.where(theta == 1, after, value)
            value = torch.where(theta == 0, before, value)
            return torch.where(rows, value / scale, 0.0).unsqueeze(1)

        one = torch.ones_like(time).unsqueeze(1)
        program = RootProgram(residual, len(time), 1, lower=0 * one, upper=one)
        return self._solver.solve(program, 0.5 * one).value.squeeze(1)

    def _scale(self, size: Tensor) -> Tensor:
        """How large the functions are at the ends of a step of size [B], [E, B]."""
        before = torch.where(self._from_zero, self._values * size, self._values)
        return torch.maximum(before.abs(), self._now.abs())

    def _cross(
        self, stepper: Stepper, trial: Trial, i: int, rows: Tensor, place: Tensor
    ) -> Crossing:
        """Time and state of event i; of other samples those before the step."""
        step, time, size, state, _ = trial
        place = torch.where(rows, place, 0.0)
        at = torch.addcmul(time, place, size)
        inside = stepper.interpolate(state, size, step, place.unsqueeze(1)).squeeze(1)
        inside = torch.where(rows.unsqueeze(1), inside, state.detach())
        crossing = Crossing(rows, at, inside)
        if not torch.is_grad_enabled():
            return crossing
        span = torch.maximum(self._values[i].abs(), self._now[i].abs())
        span = torch.where(self._from_zero[i], self._now[i].abs(), span)
        least = 2 * self._eps**0.5 * span / size
        return differentiable(
            self._events[i], f"events[{i}]", self._field, crossing, least
        )

    def _cut(self, trial: Trial, found: list[Crossing | None], rows: Tensor) -> Cut:
        """The state from which samples go on."""
        at, state = trial.time, trial.state.detach()
        taken = ends = stuck = torch.zeros_like(rows)
        jumped = []
        for i, (event, crossing) in enumerate(zip(self._events, found, strict=True)):
            jumped.append(torch.zeros_like(rows))
            if crossing is None or not self._cuts[i]:
                continue
            here = crossing.rows & ~taken
            at = torch.where(here, crossing.time, at)
            state = torch.where(here.unsqueeze(1), crossing.state, state)
            if event.jump is not None:
                after = event.after(at, state)
                state = torch.where(crossing.rows.unsqueeze(1), after, state)
            jumped[i] = crossing.rows
            taken = taken | crossing.rows
            if event.terminal:
                ends = ends | crossing.rows
            stuck = stuck | (crossing.rows & self._from_zero[i])
        return self._restarted(trial, rows, torch.stack(jumped), at, state, ends, stuck)

    def _restarted(
        self,
        trial: Trial,
        rows: Tensor,
        jumped: Tensor,
        at: Tensor,
        state: Tensor,
        ends: Tensor,
        stuck: Tensor,
    ) -> Cut:
        """The events as they stand after the cut, which they may not find again."""
        time = at.detach()
        last = state
        if at.requires_grad:
            state = moved(self._field, at, state, time - at)
        with torch.no_grad():
            now = torch.where(rows, self._evaluate(time, state), self._now)
            # Of an event just met, a function that is still zero but for rounding.
            rest = self._eps**0.75 * self._scale(trial.size)
            zero = rows & ((jumped & (now.abs() <= rest)) | (now == 0))
            self._from_zero = zero | (self._from_zero & ~trial.moved)
            self._any_zero = True
            none = now.isnan() & rows & ~ends
            if self._lost is not None:
                # What lies behind the cut does not count.
                none = none | (self._lost & ~rows)
            self._lost = none
            self._values = torch.where(now.isnan(), 1.0, now)
            self._start_from_zero(time, state, zero)
            short = SAME * self._eps * torch.maximum(time.abs(), trial.size)
            stuck = stuck & ~ends & (time - trial.time <= short)
        return Cut(rows, time, state, last, ends, stuck)

    def _start_from_zero(self, time: Tensor, state: Tensor, rows: Tensor) -> None:
        """Where a function is zero, its slope tells the sign that it will have."""
        values = []
        for i, seen in enumerate(rows.any(1).tolist()):
            value = self._values[i]
            if seen:
                change, _ = slope(self._events[i], self._field, time, state)
                value = torch.where(rows[i], change, value)
            values.append(value)
        self._values = torch.stack(values)


def _log(found: list[Crossing], sign: Tensor, size: int) -> EventLog:
    """The crossings of one event as [B, K] and [B, K, n]."""
    batch = len(sign)
    if not found:
        return EventLog(sign.new_zeros(batch, 0), sign.new_zeros(batch, 0, size))
    rows = torch.stack([one.rows for one in found])
    counts = rows.sum(0)
    order = (~rows).to(torch.int8).argsort(dim=0, stable=True)[: int(counts.amax())]
    slots = torch.arange(len(order), device=sign.device).unsqueeze(1)
    missing = slots >= counts
    times = torch.stack([one.time for one in found]).gather(0, order)
    wide = order.unsqueeze(2).expand(-1, -1, size)
    states = torch.stack([one.state for one in found]).gather(0, wide)
    return EventLog(
        (sign * times).masked_fill(missing, torch.nan).t(),
        states.masked_fill(missing.unsqueeze(2), torch.nan).movedim(0, 1),
    )
