"""Times at which inputs switch: no step crosses one, and solutions depend on them.

With switches P_k, t(s) = P_k + (s - sg P_k) r_k, r_k = (P_(k+1) - P_k) / sg(P_(k+1) -
P_k), sg without derivative: dx/ds = r_k f(t(s), x), where s stands still and t moves.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from optlayers.modeling.atoms.signals import hold, interpolate
from optlayers.modeling.dynamics import parts_named
from optlayers.modeling.evaluate import Evaluator
from optlayers.modeling.expressions import Expression
from optlayers.modeling.foreign import fill
from optlayers.programs.initial_value import FieldFunction
from optlayers.solution import EventLog, Solution

Captured = Mapping[str, nn.Module | Tensor]


class Knots:
    """The knots of signals of the time itself that do not move, within expressions."""

    def __init__(
        self, expressions: Sequence[Expression], time: str, moving: Collection[str]
    ) -> None:
        """Find them.

        Args:
            expressions: of parameters and of what moves.
            time: name of the field that is the time.
            moving: names of all fields that change with the time.
        """
        self._time = time
        found: dict[tuple[int, int], Expression] = {}
        clock = None
        for one in signals_in(expressions):
            _, knots, t = fill(one.options["arguments"], one.arguments)
            is_time = t.name == "field" and t.options["field"].name == time
            if is_time and not knots.field_names & set(moving):
                # Before its first knot a held signal has its first value already.
                first = 1 if one.options["function"] is hold else 0
                clock, found[id(knots), first] = t, knots
        self._firsts = [first for _, first in found]
        # The time is evaluated beside them: constants take its precision.
        outputs = [] if clock is None else [*found.values(), clock]
        self._evaluator = Evaluator(outputs, variables=(time,)) if outputs else None

    def of(
        self, given: Mapping[str, Tensor], captured: Captured, times: Tensor
    ) -> Tensor | None:
        """All knots of each sample in no order, [B, K]; None if there are none.

        Args:
            given: parameters by name, [*shape] or [B, *shape].
            captured: parameters and modules met in the declaration, by name.
            times: save times, [B, T].
        """
        if self._evaluator is None:
            return None
        values = {**given, self._time: times[:, 0].detach()}
        rows = self._evaluator.batched(values, captured).values[:-1]
        parts = [
            one[..., first:].to(times).expand(len(times), -1)
            for one, first in zip(rows, self._firsts, strict=True)
        ]
        return torch.cat(parts, 1)


class Marks(NamedTuple):
    """Where the inputs of a batch switch.

    Attributes:
        places: strictly between first and last time, in the order in which they are
            met, [B, K]; in a sample with fewer, the last time in the place of others.
        inside: which of them are switches, bool [B, K].
        sign: -1 of samples whose times decrease, else +1, [B, 1].
    """

    places: Tensor
    inside: Tensor
    sign: Tensor

    def stops(self) -> Tensor | None:
        """The times that no step crosses, [B, K], NaN where there are fewer."""
        if not self.places.shape[1]:
            return None
        return self.places.detach().masked_fill(~self.inside, torch.nan)


def marks_of(knots: Tensor | None, times: Tensor, *, saves_switch: bool) -> Marks:
    """The switches of a batch.

    Args:
        knots: of its signals, [B, K], or None.
        times: save times, [B, T].
        saves_switch: whether inputs switch at inner save times, too.
    """
    still = times.detach()
    sign = torch.where(still[:, -1:] < still[:, :1], -1.0, 1.0).to(times)
    found = [times[:, :0]] if knots is None else [knots]
    if saves_switch:
        found.append(times[:, 1:-1])
    forward = sign * torch.cat(found, 1)
    slack = _slack(still)
    first, last = sign * still[:, :1] + slack, sign * still[:, -1:] - slack
    inside = (forward > first) & (forward < last)
    forward = torch.where(inside, forward, sign * times[:, -1:])
    forward, order = forward.sort(dim=1, stable=True)
    return Marks(sign * forward, inside.gather(1, order), sign)


class Clock:
    """The time t as a function of one that stands still when switches are moved.

    Both are equal, bitwise: only the derivatives of t in switches and in the first and
    last time are not zero. Where switches coincide, they move together, by their mean.
    """

    def __init__(self, marks: Marks, times: Tensor) -> None:
        """Lay out the intervals between switches.

        Args:
            marks: the switches, [B, K].
            times: save times, [B, T].
        """
        self._sign = marks.sign
        forward = torch.cat((times[:, :1], marks.places, times[:, -1:]), 1) * self._sign
        slack, ahead = _slack(times.detach()), forward.detach().diff(dim=1)
        # Broken samples are not integrated, but what they make must be finite.
        is_sound = (
            forward.isfinite().all(1, keepdim=True) & (ahead >= 0).all(1)[:, None]
        )
        count = torch.arange(forward.shape[1], device=times.device).to(times)
        forward = torch.where(is_sound, forward, count)
        self._places = forward.detach()
        # At the last time itself the last interval counts, whatever is parked there.
        inner, last = self._places[:, 1:-1], self._places[:, -1:]
        self._inner = inner.masked_fill(inner >= last, torch.inf).unsqueeze(1)
        width = self._places.diff(dim=1)
        is_wide = ~(width <= slack)
        self._width = torch.where(is_wide, width, 1.0)
        self._change = _mean(forward - self._places, is_wide)
        self._stretch = 1 + self._change.diff(dim=1) / self._width

    def warped(self, field: FieldFunction) -> FieldFunction:
        """The rate by the still time, of a field that takes that time already."""

        def rate(still: Tensor, state: Tensor) -> Tensor:
            place = self._interval(still.unsqueeze(1))
            return _taken(self._stretch, place) * field(still, state)

        return rate

    def time(self, still: Tensor) -> Tensor:
        """t at a still time of each sample, [B] or [B, M]."""
        if still.ndim == 1:
            return self.time(still.unsqueeze(1)).squeeze(1)
        place = self._interval(still)
        gone = self._sign * still - _taken(self._places, place)
        weight = gone / _taken(self._width, place)
        left, right = _taken(self._change, place), _taken(self._change, place + 1)
        return still + self._sign * (left + weight * (right - left))

    def still(self, times: Tensor) -> Tensor:
        """The still time of t, [B, M]."""
        place = self._interval(times.detach())
        gone = self._sign * times - _taken(self._places, place)
        moved = (gone - _taken(self._change, place)) / _taken(self._stretch, place)
        return times.detach() + self._sign * (moved - moved.detach())

    def told(self, solved: Solution) -> Solution:
        """A solution in the still time, of which all times are those of the user."""
        dense = solved.dense
        return replace(
            solved,
            events=tuple(self._event(one) for one in solved.events),
            dense=None if dense is None else lambda times: dense(self.still(times)),
        )

    def _event(self, log: EventLog) -> EventLog:
        missing = log.times.isnan()
        first = (self._sign * self._places[:, :1]).expand_as(log.times)
        times = self.time(torch.where(missing, first, log.times))
        return replace(log, times=times.masked_fill(missing, torch.nan))

    def _interval(self, still: Tensor) -> Tensor:
        """The interval of still times, [B, M]; by counting, which vmap can map."""
        forward = (self._sign * still).detach().unsqueeze(2)
        return (forward >= self._inner).sum(2)


def signals_in(expressions: Sequence[Expression]) -> Iterator[Expression]:
    """The nodes of `hold` and `interpolate`."""
    for each in expressions:
        for one in parts_named(each, ("torch",)):
            function = one.options["function"]
            if function is hold or function is interpolate:
                yield one


def _mean(change: Tensor, is_wide: Tensor) -> Tensor:
    """Changes [B, K], the mean of those that no wide interval [B, K - 1] parts."""
    group = torch.nn.functional.pad(is_wide.cumsum(1), (1, 0))
    zero = torch.zeros_like(change.detach())
    count = zero.scatter_add(1, group, torch.ones_like(zero)).clamp_min(1.0)
    return (zero.scatter_add(1, group, change) / count).gather(1, group)


def _taken(table: Tensor, place: Tensor) -> Tensor:
    return torch.take_along_dim(table, place, dim=1)


def _slack(times: Tensor) -> Tensor:
    """Differences of time that are rounding, [B, 1]."""
    return 8 * torch.finfo(times.dtype).eps * times.abs().amax(1, keepdim=True)
