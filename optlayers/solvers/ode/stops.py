"""Times that no step crosses, because the field jumps there or a step shall end there.

Where the field jumps, steps that end there see its limit from before, and steps that
begin there the one from after.
"""

import torch
from torch import Tensor

from optlayers.programs.initial_value import FieldFunction, InitialValueProgram
from optlayers.solvers.ode.control import Control, FixedStep
from optlayers.solvers.ode.course import Course


class Stops:
    """The stops of a batch, and which of them each sample has passed.

    Attributes:
        next: the next one of each sample, [B]; infinite if there is none.
        has_jumps: whether the field jumps at any of them.
    """

    def __init__(
        self, jumps: Tensor | None, others: Tensor | None, time: Tensor, slack: Tensor
    ) -> None:
        """Stand at the beginning.

        Args:
            jumps: increasing times at which the field may jump, [B, K], or None; NaN
                where a sample has fewer.
            others: increasing times at which steps shall end, [B, M], or None.
            time: t0, [B].
            slack: differences of time that are rounding, [B].
        """
        empty = time.new_zeros(len(time), 0)
        jumps = empty if jumps is None else jumps.detach().to(time)
        others = empty if others is None else others
        places = torch.cat((jumps, others), 1).nan_to_num(nan=torch.inf)
        places, order = places.sort(dim=1, stable=True)
        counted = (order < jumps.shape[1]).cumsum(1)
        # One more that is never reached, and the number of jumps before the first.
        infinite = time.new_full((len(time), 1), torch.inf)
        self._places = torch.cat((places, infinite), 1)
        self._jumps = torch.nn.functional.pad(counted, (1, 0))
        self._slack = slack
        self._due = (self._places - slack.unsqueeze(1)).contiguous()
        self.has_jumps = bool(jumps.shape[1])
        self._after = torch.full_like(time, -torch.inf)
        self._passed = torch.zeros_like(time, dtype=torch.int64)
        self._look(time)

    def reach(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """Note which stops the samples stand at.

        Args:
            time: where they stand now, [B].

        Returns:
            The same time, exactly that of the stop where one was reached, and where the
            field may have jumped, bool [B].
        """
        earlier = self._passed
        jumped = self._look(time)
        place = self._places.gather(1, (self._passed - 1).clamp_min(0).unsqueeze(1))
        time = torch.where(self._passed > earlier, place.squeeze(1), time)
        return time, jumped

    def within(self, field: FieldFunction) -> FieldFunction:
        """The field as the present step of each sample may see it."""
        if not self.has_jumps:
            return field

        def between(time: Tensor, state: Tensor) -> Tensor:
            inside = torch.clamp(time, self._after, self.next - self._slack)
            # Not the derivative of the clamp, which is zero at both ends: a method
            # that uses df/dt would lose its order.
            return field(time + (inside - time).detach(), state)

        return between

    def _look(self, time: Tensor) -> Tensor:
        """Find the next stop; whether the field jumps at one that was passed."""
        column = self._passed.unsqueeze(1)
        jumps = self._jumps.gather(1, column)
        column = torch.searchsorted(self._due, time.unsqueeze(1), right=True)
        column = column.clamp_max_(self._places.shape[1] - 1)
        self._passed = column.squeeze(1)
        jumped = (self._jumps.gather(1, column) > jumps).squeeze(1)
        place = self._places.gather(1, (column - 1).clamp_min_(0)).squeeze(1)
        self._after = torch.where(jumped, place + self._slack, self._after)
        self.next = self._places.gather(1, column).squeeze(1)
        return jumped


def stops_of(
    program: InitialValueProgram, control: Control, course: Course
) -> Stops | None:
    """The stops of a problem, or None if there are none.

    Args:
        program: of B samples, time running forward.
        control: fixed steps without a length of their own end at each save time.
        course: at its beginning.
    """
    each_save = isinstance(control, FixedStep) and control.size is None
    if program.stops is None and not each_save:
        return None
    others = program.times.detach()[:, 1:] if each_save else None
    return Stops(program.stops, others, course.time, course.slack)
