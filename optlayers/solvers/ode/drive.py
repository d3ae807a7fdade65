"""The walk along the solution: steps accepted or rejected per sample, saves, statuses.

A sample that has arrived or failed takes steps of length zero, which change nothing. In
grad mode the accepted steps form a graph; the choice of steps is never part of it.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from optlayers.programs.initial_value import InitialValueProgram
from optlayers.solution import Solution, Status
from optlayers.solvers.ode.attempt import attempt, without_overflow
from optlayers.solvers.ode.compiled import CompiledAttempt
from optlayers.solvers.ode.course import Course, has_grown
from optlayers.solvers.ode.dense import DenseOutput
from optlayers.solvers.ode.events import Cut, EventWatch, Trial
from optlayers.solvers.ode.grid import Footprints, Grid
from optlayers.solvers.ode.options import StepOptions
from optlayers.solvers.ode.pace import Pace
from optlayers.solvers.ode.rest import PRODUCTS, SPEAKING, RestWatch
from optlayers.solvers.ode.saves import Saves
from optlayers.solvers.ode.stepper import Step, Stepper
from optlayers.solvers.ode.stiffness import (
    LOOK_EVERY,
    STEPS_LEFT,
    Handover,
    StiffnessWatch,
)
from optlayers.solvers.ode.stops import Stops, stops_of
from optlayers.solvers.ode.tally import Tally

# Steps between two looks for samples whose steps have become too short to go on.
FAULTS_EVERY = 8


class Walk:
    """One integration of a batch.

    Attributes:
        state: where every sample stands, [B, n].
        size: the step that is tried next, [B]; zero of samples that rest.
        carry: what the stepper keeps from step to step.
        is_running: whether any sample has not arrived.
        count: steps made.
    """

    def __init__(
        self,
        stepper: Stepper,
        program: InitialValueProgram,
        options: StepOptions,
        *,
        records: bool = False,
        dense: bool = False,
        handover: Handover | None = None,
    ) -> None:
        """Evaluate the field once and choose the first step.

        Args:
            stepper: the method.
            program: of B samples.
            options: of the solver.
            records: whether the steps are kept, for `grid` and `places`.
            dense: whether the steps are kept for `at`.
            handover: what goes on with samples that turn out to be stiff.
        """
        self._sign = program.sign()
        self._program = program = program.increasing()
        self._stepper, self._options = stepper, options
        times = program.times.detach()
        self._course = Course(times)
        self.state = program.initial
        self.saves = Saves(times, self.state, places=records)
        self._footprints = Footprints() if records else None
        self.count = 0
        self._tally = Tally(self.time)
        self._workspace = stepper.workspace(self.state)
        self._pace = Pace(stepper, options, self.state)
        self._rest = None
        if self._pace.is_adaptive and not stepper.is_implicit and self.state.numel():
            self._rest = RestWatch(stepper, self._pace, options.rtol, self.state)
        self._stops = stops_of(program, options.control, self._course)
        self._attempt = attempt
        if options.compile and not torch.is_grad_enabled():
            is_fixed = self._stops is None
            self._attempt = CompiledAttempt(program.field, is_fixed=is_fixed)
        self._field = program.rate
        if self._stops is not None:
            self._field = self._stops.within(program.rate)
        self._dense = DenseOutput(self.state) if dense else None
        self.watch: Callable[[Walk], None] | None = None
        self._handover, self._stiffness = handover, None
        if handover is not None:
            self._stiffness = StiffnessWatch(handover, self.state)
        self._methods = [(0, stepper)]
        self._is_stiff = torch.zeros_like(self._course.running)
        # Steps made by the method before this one.
        self._since = 0
        self._events = None
        if program.events:
            self._events = EventWatch(
                program.events, self._field, self.time, self.state
            )
            self._lose(self._events)
        self._begin()

    def advance(self) -> None:
        """One trial step of every sample."""
        stepper, time, size, state = self._stepper, self.time, self.size, self.state
        begun = size, state, self.carry
        step, ratio, factor = self._attempt(
            stepper, self._pace, self._field, time, *begun, self._course.running,
            self._pace.earlier, self._workspace,
        )  # fmt: skip
        with torch.no_grad():
            accepted = self._judge(ratio, factor)
        if torch.is_grad_enabled():
            step = without_overflow(
                step, ratio, self._program.initial.detach(), stepper, self._field, time,
                *begun, self._workspace,
            )  # fmt: skip
        cut, is_complete = None, False
        if self._events is not None or self._dense is not None:
            step, cut, is_complete = self._look_inside(step, time, size, accepted)
        with torch.no_grad():
            due = self.saves.due(self.time)
            unseen = self._unseen(ratio)
            most, left, kept, mute = torch.stack(
                (due.amax(), self._course.running.sum(), accepted.sum(), unseen.sum())
            ).tolist()
        if most:
            if not is_complete:
                step = stepper.complete(self._field, time, size, state, step)
            self.saves.take(stepper, step, time, size, state, self.count, due, most)
        self._take(step, accepted, is_whole=kept == len(time))
        if cut is not None:
            self._restart(cut.rows, cut.state)
        if self._stops is not None:
            self._pass_stops(self._stops)
        if self._rest is not None and mute:
            self._slow_down(self._rest, unseen)
        self._shorten()
        if self._footprints is not None:
            self._footprints.add(time, size * accepted, state)
        self.count += 1
        self.is_running = left > 0
        self._look_around(step, size, accepted)
        if self.watch is not None:
            self.watch(self)

    @property
    def time(self) -> Tensor:
        """Where every sample stands, forward, [B]."""
        return self._course.time

    @property
    def running(self) -> Tensor:
        """Which samples have not arrived, bool [B]."""
        return self._course.running | self._course.waiting

    @property
    def method(self) -> Stepper:
        """The method that makes the next step."""
        return self._stepper

    @property
    def methods(self) -> tuple[tuple[int, Stepper], ...]:
        """The methods that made the steps, each with the number of its first."""
        return tuple(self._methods)

    @property
    def elapsed(self) -> Tensor:
        """The time that each sample has reached, in the user's direction, [B]."""
        # Plus zero, so that no time is minus zero.
        return self._sign * self.time + 0.0

    @property
    def fraction(self) -> float:
        """The share of its time that the slowest sample has covered, from 0 to 1."""
        begin, end = self._program.times[:, 0], self._program.times[:, -1]
        with torch.no_grad():
            share = (self.time - begin) / (end - begin)
            share = torch.where(self.running, share, 1.0)
            return float(share.amin()) if len(share) else 1.0

    def at(self, times: Tensor) -> Tensor:
        """The solution at any times passed, if `dense`; NaN from where a sample failed.

        Args:
            times: [B, M], in the user's direction of time, not before t0.

        Returns:
            [B, M, n].
        """
        assert self._dense is not None
        times = self._sign.unsqueeze(1) * times
        reached, failed = (
            self.time.unsqueeze(1),
            (self._course.status != 0).unsqueeze(1),
        )
        last, ended = self.saves.last(self.state)
        slack = self._course.slack
        after = ended.unsqueeze(1) & (times - slack.unsqueeze(1) > reached)
        lost = failed & (times > reached)
        values = self._dense.at(torch.where(after | lost, reached, times), slack)
        values = torch.where(after.unsqueeze(2), last.unsqueeze(1), values)
        return values.masked_fill(lost.unsqueeze(2), torch.nan)

    def distance(self, state: Tensor, other: Tensor) -> Tensor:
        """How far two states are from each other, in allowed errors of a step, [B].

        Args:
            state: [B, n].
            other: [B, n].
        """
        return self._pace.relative(state - other, other.abs())

    def solution(self) -> Solution:
        """What has been found so far."""
        missing = self.saves.is_missing().any(1)
        status = self._course.status
        status = torch.where(missing & (status == 0), int(Status.STEP_LIMIT), status)
        stats = self._tally.stats(self._stepper.evaluations, self.elapsed)
        if self._stiffness is not None:
            stats["is_stiff"] = self._is_stiff
        events = () if self._events is None else self._events.logs(self._sign)
        return Solution(self.saves.values(), {}, status.to(torch.int8), stats, events)

    def grid(self) -> Grid:
        """The steps that were made, if they were recorded."""
        assert self._footprints is not None
        return self._footprints.grid(self.time, self.state)

    def take_grid(self) -> Grid:
        """The steps that were made since the last call, to be forgotten."""
        grid, self._footprints = self.grid(), Footprints()
        return grid

    # ---- the beginning -----------------------------------------------------------

    def _begin(self, rows: Tensor | None = None) -> None:
        """Propose a first step; of some rows, bool [B], if the others are done."""
        program, course = self._program, self._course
        if not self.state.numel():
            # Nobody, or nothing that could change.
            course.finish()
            self.saves.pass_all()
        time = course.time
        with torch.no_grad():
            rate = program.rate(time, self.state)
            is_finite = rate.isfinite().all(1) & self.state.isfinite().all(1)
            if rows is not None:
                is_finite = is_finite | ~rows
            course.fail(~is_finite, Status.NOT_FINITE)
            span = (course.end - time).clamp_min(0.0)
            self._pace.begin(program.rate, time, self.state, rate, span)
        self.carry = self._stepper.begin(self._field, time, self.state)
        if self._rest is not None:
            self._slow_down(self._rest, course.ahead())
        self._shorten()
        self._look()

    # ---- one step ----------------------------------------------------------------

    def _judge(self, ratio: Tensor, factor: Tensor | None) -> Tensor:
        """Move time where the step is accepted, and choose the next one."""
        course = self._course
        tried = course.running
        accepted = ratio <= 1
        self._tally.add(tried, accepted)
        course.move(self.size, accepted)
        if not self._pace.is_adaptive:
            # A fixed step that overflows is not tried again.
            course.fail(~accepted & tried, Status.NOT_FINITE)
        course.look()
        has_stops = self._stops is not None or self._ends_at_saves
        self._pace.adapt(self.size, ratio, factor, accepted, has_stops=has_stops)
        return accepted

    def _take(self, step: Step, accepted: Tensor, *, is_whole: bool) -> None:
        """Stand at the end of the step where it is accepted; `is_whole` if of all."""
        if is_whole:
            # Steps without a graph leave their stages, not their results, in memory
            # that is used again.
            self.state, self.carry = step.state, step.carry
        else:
            column = accepted.unsqueeze(1)
            self.state = torch.where(column, step.state, self.state)
            self.carry = torch.where(column, step.carry, self.carry)

    def _look_around(self, step: Step, size: Tensor, accepted: Tensor) -> None:
        """What is not worth a look after every step."""
        made = self.count - self._since
        if self._handover is not None and made % LOOK_EVERY == 0:
            self._look_for_stiffness(step, size, accepted)
        if made % FAULTS_EVERY == 0 or made >= self._options.max_steps:
            self._find_faults()
        if self._handover is not None and not self.is_running:
            self._hand_over(self._handover)

    def _look(self) -> None:
        """Find who is running."""
        self._course.look()
        self.is_running = bool(self._course.running.any())

    def _shorten(self) -> None:
        """The next step, which ends where it must."""
        end = self._course.end
        if self._stops is not None:
            end = torch.minimum(end, self._stops.next)
        if self._ends_at_saves:
            end = torch.minimum(end, self.saves.next())
        self.size = self._joined(torch.minimum(self._pace.proposed, end - self.time))
        if self._options.max_step < torch.inf:
            self.size = self.size.clamp_max(self._options.max_step)

    @property
    def _ends_at_saves(self) -> bool:
        return self._stepper.ends_at_saves and self._pace.is_adaptive

    def _joined(self, size: Tensor) -> Tensor:
        """The shortest step of all samples that go on, if they share their steps."""
        if not self._options.joint:
            return size
        least = torch.where(self._course.ahead(), size, torch.inf).amin()
        return torch.minimum(size, least)

    # ---- events and stops --------------------------------------------------------

    def _look_inside(
        self, step: Step, time: Tensor, size: Tensor, accepted: Tensor
    ) -> tuple[Step, Cut | None, bool]:
        """The step, completed if anyone looks into it, and where events cut it."""
        events, dense, cut = self._events, self._dense, None
        moved = accepted & (size > 0)
        is_met = events is not None and events.are_met(self.time, step, moved)
        if dense is None and not is_met:
            self._lose(events)
            return step, None, False
        state = self.state
        step = self._stepper.complete(self._field, time, size, state, step)
        if dense is not None:
            dense.keep(self._stepper, time, size, moved, state, step)
        if is_met and events is not None:
            cut = events.find(self._stepper, Trial(step, time, size, state, moved))
        self._lose(events)
        if cut is not None:
            with torch.no_grad():
                self._course.turn(cut.rows, cut.time, cut.ends)
                self._course.fail(cut.stuck, Status.STALLED)
                self._course.look()
            self.saves.end(cut.ends, cut.last)
        return step, cut, True

    @torch.no_grad()
    def _lose(self, events: EventWatch | None) -> None:
        """End samples in which the function of an event has become NaN."""
        rows = None if events is None else events.take_lost()
        if rows is not None:
            self._course.fail(rows, Status.NOT_FINITE)
            self._course.look()

    def _restart(self, rows: Tensor, state: Tensor) -> None:
        """Go on from other states, [B, n], in some rows, bool [B]."""
        column = rows.unsqueeze(1)
        self.state = torch.where(column, state, self.state)
        carry = self._stepper.begin(
            self._field, self.time, torch.where(column, self.state, state.detach())
        )
        self.carry = torch.where(column, carry, self.carry)

    def _pass_stops(self, stops: Stops) -> None:
        """Begin anew where the field may have jumped."""
        with torch.no_grad():
            self._course.time, jumped = stops.reach(self.time)
            if not stops.has_jumps or not bool(jumped.any()):
                return
        self._restart(jumped, self.state)

    # ---- samples at rest ---------------------------------------------------------

    def _unseen(self, ratio: Tensor) -> Tensor:
        """Where the error of the step was too small to say anything, bool [B]."""
        return (ratio < SPEAKING) & self._course.running

    @torch.no_grad()
    def _slow_down(self, rest: RestWatch, rows: Tensor) -> None:
        """Bound the steps of samples at rest, or let another method go on there."""
        course, state = self._course, self.state.detach()
        rate = self._field(self.time, state)
        longest, asked = rest.bound(
            self._field, self.time, state, rate, rows, self.count
        )
        if longest is None:
            return
        self._tally.ask(asked, PRODUCTS)
        self._pace.limit(longest)
        if self._handover is None:
            return
        most = torch.where(rest.has_moved, STEPS_LEFT, self._options.max_steps)
        slow = course.running & (course.end - self.time > most * longest)
        if self._options.joint:
            slow = slow.any() & course.running
        if bool(slow.any()):
            course.wait(slow)

    # ---- stiff samples -----------------------------------------------------------

    @torch.no_grad()
    def _look_for_stiffness(self, step: Step, size: Tensor, accepted: Tensor) -> None:
        """Let those rest that another method should go on with."""
        assert self._stiffness is not None
        running, left = self._course.running, self._course.end - self.time
        rows = self._stiffness.look(step, accepted & running, size, left) & running
        if self._options.joint:
            rows = rows.any() & running
        if bool(rows.any()):
            self._course.wait(rows)
            self._shorten()
            self._look()

    def _hand_over(self, handover: Handover) -> None:
        """Go on with another method in the samples that wait."""
        rows, self._handover = self._course.wake(), None
        if not bool(rows.any()):
            return
        self._tally.change(self._stepper.evaluations)
        self._is_stiff = rows
        self._since, self._stepper, self._rest = self.count, handover.stepper, None
        self._methods.append((self.count, self._stepper))
        self._workspace = self._stepper.workspace(self.state)
        self._pace = Pace(self._stepper, self._options, self.state)
        self._begin(rows)

    # ---- failures ----------------------------------------------------------------

    @torch.no_grad()
    def _find_faults(self) -> None:
        course = self._course
        running = course.running
        stuck = course.stuck(self._pace.proposed, self._options.min_step)
        is_stuck = bool(stuck.any())
        if is_stuck:
            grown = has_grown(self.state, self._program.initial)
            if self._options.joint and bool((stuck & grown).any()):
                # Its steps were too short for the others, which go on without it.
                stuck = stuck & grown
            course.fail(stuck & grown, Status.NOT_FINITE)
            self._give_up(stuck & ~grown, Status.STALLED)
        is_over = self.count - self._since >= self._options.max_steps
        if is_over:
            self._give_up(running, Status.STEP_LIMIT)
        if is_over or is_stuck:
            self._shorten()
        self._look()

    def _give_up(self, rows: Tensor, status: Status) -> None:
        """Stop samples, or let another method try."""
        if self._handover is None:
            self._course.fail(rows, status)
        else:
            self._course.wait(rows)
