"""An integration made without derivatives, and the steps it took, to be taken again.

Rejected steps are left out; samples that failed stand for one that did not.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from optlayers.programs.initial_value import FieldFunction, InitialValueProgram
from optlayers.solution import Solution


@runtime_checkable
class Stepping(Protocol):
    """A solver whose steps may be taken one by one."""

    @property
    def stepper(self) -> Any:
        """The method: `begin`, `step`, `complete` and `interpolate`."""
        ...

    @property
    def is_for_stiff(self) -> bool:
        """Whether its method is implicit, or may be handed over to one that is."""
        ...

    def walk(self, program: InitialValueProgram, *, records: bool = False) -> Any:
        """The integration at its beginning."""
        ...

    def solve(self, program: InitialValueProgram) -> Solution:
        """The integration to its end."""
        ...


class Steps(NamedTuple):
    """The accepted steps of B samples, of each in order; time runs forward.

    Attributes:
        times, sizes: t and h, each [N, B]; at the end of samples with fewer steps,
            their last time and zero.
        states: x at the beginning of each step, [N, B, n].
        iteration: the step that covers each save time, int64 [B, T]; -1 where none
            does, as of the first.
        fraction: how far into that step, [B, T].
        methods: the steppers that made them, each with the number of its first step.
    """

    times: Tensor
    sizes: Tensor
    states: Tensor
    iteration: Tensor
    fraction: Tensor
    methods: tuple[tuple[int, Any], ...]

    def chunks(self, length: int) -> Iterator[tuple[Any, int, int]]:
        """A stepper with the range of at most `length` of its steps, for all steps."""
        ends = [first for first, _ in self.methods[1:]] + [len(self.times)]
        for (begin, stepper), end in zip(self.methods, ends, strict=True):
            for first in range(begin, end, length):
                yield stepper, first, min(first + length, end)


class Due(NamedTuple):
    """Save times within some steps, as one list of K.

    Attributes:
        save: their places among [B * T].
        step: their steps, counted from the first of these, times B, plus the sample;
            of a single step the sample alone.
        fraction: how far into that step.
    """

    save: Tensor
    step: Tensor
    fraction: Tensor


def record(program: InitialValueProgram, solver: Stepping) -> tuple[Solution, Steps]:
    """Integrate without derivatives.

    Args:
        program: of B samples.
        solver: whose steps are recorded.
    """
    with torch.no_grad():
        walk = solver.walk(program, records=True)
        while walk.is_running:
            walk.advance()
        solution = walk.solution()
        grid, places = walk.grid(), walk.saves.places()
        iteration = torch.where(walk.saves.is_missing(), -1, places.iteration)
        iteration[:, 0] = -1
        steps = Steps(
            grid.times, grid.sizes, grid.states, iteration, places.fraction,
            walk.methods,
        )  # fmt: skip
        steps = _accepted(steps, walk.time, walk.state)
        return solution, _without_failed(steps, solution.ok)


def due(steps: Steps, first: int, last: int) -> Due:
    """The save times within the steps from `first` to before `last`."""
    inside = (steps.iteration >= first) & (steps.iteration < last)
    row, column = inside.nonzero(as_tuple=True)
    batch, count = inside.shape
    step = (steps.iteration[row, column] - first) * batch + row
    return Due(row * count + column, step, steps.fraction[row, column])


def due_of_each(steps: Steps) -> list[Due]:
    """The save times within each step."""
    count = steps.iteration.shape[1]
    place = steps.iteration.reshape(-1)
    each = torch.bincount(place + 1, minlength=len(steps.times) + 1).tolist()
    save = place.argsort(stable=True)
    lists = zip(
        save.split(each),
        save.div(count, rounding_mode="floor").split(each),
        steps.fraction.reshape(-1)[save].split(each),
        strict=True,
    )
    return [Due(*one) for one in lists][1:]


def interpolated(
    stepper: Any, state: Tensor, size: Tensor, step: Any, wanted: Due
) -> Tensor:
    """The solution at save times within steps, [K, n].

    Args:
        stepper: that made the steps.
        state: at their beginnings, [M, n].
        size: h, [M].
        step: all of them, completed.
        wanted: which save times.
    """
    rows = wanted.step
    chosen = step._replace(
        state=step.state.index_select(0, rows),
        stages=step.stages.index_select(1, rows),
        carry=step.carry.index_select(0, rows),
    )
    values = stepper.interpolate(
        state.index_select(0, rows),
        size.index_select(0, rows),
        chosen,
        wanted.fraction.unsqueeze(1),
    )
    return values.squeeze(1)


def within(
    stepper: Any,
    field: FieldFunction,
    time: Tensor,
    size: Tensor,
    state: Tensor,
    places: Sequence[float],
) -> Tensor:
    """The solution at some places of each step, [M, P, n].

    Of an implicit method by a shorter step to each: its dense output rests on stages
    that are less accurate than the end where the solution is stiff. At rtol 1e-8 that
    was 30 times the tolerance of kvaerno5 on Robertson's problem.

    Args:
        stepper: that made the steps.
        field: f of M steps.
        time: t, [M].
        size: h, [M].
        state: at their beginnings, [M, n].
        places: fractions of h.
    """
    carry = stepper.begin(field, time, state)
    if stepper.is_implicit:
        steps = [stepper.step(field, time, p * size, state, carry) for p in places]
        return torch.stack([one.state for one in steps], 1)
    step = stepper.step(field, time, size, state, carry)
    step = stepper.complete(field, time, size, state, step)
    wanted = state.new_tensor(places).expand(len(time), -1)
    return stepper.interpolate(state, size, step, wanted)


def over_steps(field: FieldFunction, batch: int) -> FieldFunction:
    """The field of N steps of B samples, ([N B], [N B, n]) -> [N B, n].

    The field may hold numbers of each sample, so it sees the steps one by one, or
    through `torch.func.vmap` where that takes it.
    """
    mapped = torch.func.vmap(field)

    def lifted(time: Tensor, state: Tensor) -> Tensor:
        times = time.view(-1, batch)
        states = state.view(len(times), batch, -1)
        if len(times) == 1:
            return field(time, state)
        try:
            rate = mapped(times, states)
        except RuntimeError:  # an operation that cannot be mapped
            rate = torch.stack([field(*one) for one in zip(times, states, strict=True)])
        return rate.reshape(state.shape)

    return lifted


def between_stops(
    field: FieldFunction, stops: Tensor | None, time: Tensor, size: Tensor
) -> FieldFunction:
    """The field as one step may see it: what it is inside, up to both ends.

    Args:
        field: f.
        stops: times at which it may jump, or None.
        time: t at the beginning of the step, [M].
        size: h, [M].
    """
    if stops is None:
        return field
    end = time + size
    slack = 8 * torch.finfo(time.dtype).eps * torch.maximum(time.abs(), end.abs())

    def inside(at: Tensor, state: Tensor) -> Tensor:
        near = torch.clamp(at, time + slack, end - slack)
        # Not the derivative of the clamp, which is zero at both ends.
        return field(at + (near - at).detach(), state)

    return inside


def _accepted(steps: Steps, end: Tensor, last: Tensor) -> Steps:
    """The steps without those that were rejected.

    Args:
        steps: all that were made.
        end: where the samples stand at last, [B].
        last: their states there, [B, n].
    """
    took = steps.sizes > 0
    if not len(took) or bool(took.all()):
        return steps
    firsts = [first for first, _ in steps.methods] + [len(took)]
    ranks, starts, count = [], [], 0
    for begin, stop in pairwise(firsts):
        rank = took[begin:stop].cumsum(0) + (count - 1)
        starts.append(count)
        count = max(count, int(rank[-1].amax()) + 1)
        ranks.append(rank)
    rank = torch.cat(ranks)
    # Rejected steps all go to one place more, which is cut off.
    place = torch.where(took, rank, count)
    # A sample rests at its last state, and before another method takes it over, too.
    times = end.expand(count + 1, -1).clone().scatter_(0, place, steps.times)
    sizes = torch.zeros_like(times).scatter_(0, place, steps.sizes)
    wide = place.unsqueeze(2).expand_as(steps.states)
    states = last.expand(count + 1, -1, -1).clone().scatter_(0, wide, steps.states)
    at = steps.iteration.clamp_min(0).t()
    steppers = [stepper for _, stepper in steps.methods]
    return Steps(
        times[:count],
        sizes[:count],
        states[:count],
        torch.where(steps.iteration < 0, -1, rank.gather(0, at).t()),
        steps.fraction,
        tuple(zip(starts, steppers, strict=True)),
    )


def _without_failed(steps: Steps, ok: Tensor) -> Steps:
    """The steps in which failed samples take those of the first that did not fail.

    Of what is computed from them nothing is asked, but it must be finite. If all
    failed, none moves.
    """
    if bool(ok.all()):
        return steps
    if not bool(ok.any()):
        return Steps(
            steps.times.nan_to_num(0.0, 0.0, 0.0),
            torch.zeros_like(steps.sizes),
            steps.states.nan_to_num(0.0, 0.0, 0.0),
            torch.full_like(steps.iteration, -1),
            steps.fraction,
            steps.methods,
        )
    first = ok.to(torch.int8).argmax()
    rows = torch.where(ok, torch.arange(len(ok), device=ok.device), first)
    return Steps(
        steps.times.index_select(1, rows),
        steps.sizes.index_select(1, rows),
        steps.states.index_select(1, rows),
        torch.where(ok.unsqueeze(1), steps.iteration, -1),
        steps.fraction,
        steps.methods,
    )
