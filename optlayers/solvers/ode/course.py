"""Where each sample of a batch stands in time, and whether it goes on.

A sample goes on until it stands at its end; one that fails, or waits for another
method, has its end where it stands.
"""

import torch
from torch import Tensor

from optlayers.solution import Status


class Course:
    """The way of every sample from its first time to its last.

    Attributes:
        time: where it stands, [B].
        end: where it stops, [B].
        running: which samples have not arrived, bool [B], as of the last `look`.
        waiting: which rest until another method goes on with them, bool [B].
        status: why a sample has failed, int8 [B]; zero of the others.
        slack: differences of time that are rounding, [B].
    """

    def __init__(self, times: Tensor) -> None:
        """Stand at the beginning.

        Args:
            times: increasing, [B, T]; the first and the last count.
        """
        self.time, self._last = times[:, 0].contiguous(), times[:, -1].contiguous()
        self.end = self._last
        self.slack = 4 * torch.finfo(times.dtype).eps * times.abs().amax(1)
        # Within a few roundings of the end a sample has arrived.
        self._near = self.end - self.slack
        self.status = torch.zeros_like(self.time, dtype=torch.int8)
        self.running = self.waiting = torch.zeros_like(self.status, dtype=torch.bool)

    def finish(self) -> None:
        """Take all samples to their ends, where nothing could change."""
        self.time = self.end

    def move(self, size: Tensor, accepted: Tensor) -> None:
        """Go on by a step [B] where it was accepted, bool [B]."""
        self.time = torch.addcmul(self.time, size, accepted)

    def turn(self, rows: Tensor, time: Tensor, ends: Tensor) -> None:
        """Stand at another time, and for good where that is an end.

        Args:
            rows: which samples, bool [B].
            time: their time, [B].
            ends: which of them have arrived there, bool [B].
        """
        self.time = torch.where(rows, time, self.time)
        self._rest(ends)

    def look(self) -> None:
        """Find who is `running` now."""
        self.running = self.ahead()

    def ahead(self) -> Tensor:
        """Which samples have not arrived, bool [B]."""
        return self.time < self._near

    def stuck(self, proposed: Tensor, least: float) -> Tensor:
        """Which running samples are to take a step that is too short, bool [B].

        Args:
            proposed: the next step, [B].
            least: the shortest that is allowed; one that would not change the time is
                not.
        """
        kind = torch.finfo(self.time.dtype)
        shortest = self.time.abs().mul(16 * kind.eps).clamp_min(max(least, kind.tiny))
        return self.running & (proposed < shortest)

    def fail(self, rows: Tensor, status: Status) -> None:
        """Stop samples where they stand; the first reason stays."""
        rows = rows & (self.status == 0)
        self.status = torch.where(rows, int(status), self.status).to(torch.int8)
        self._rest(rows)

    def wait(self, rows: Tensor) -> None:
        """Let samples rest where they stand until `wake`."""
        self.waiting = self.waiting | rows
        self._rest(rows)
        self.look()

    def wake(self) -> Tensor:
        """Let those that wait go on; which these are, bool [B]."""
        rows, self.waiting = self.waiting, torch.zeros_like(self.waiting)
        self.end = torch.where(rows, self._last, self.end)
        self._near = torch.where(rows, self._last - self.slack, self._near)
        return rows

    def _rest(self, rows: Tensor) -> None:
        self.end = torch.where(rows, self.time, self.end)
        self._near = torch.where(rows, -torch.inf, self._near)


def has_grown(state: Tensor, initial: Tensor) -> Tensor:
    """Which samples are so large that they are on their way to infinity, bool [B].

    Args:
        state: x, [B, n].
        initial: x0, [B, n].
    """
    size = initial.abs().amax(1).clamp_min(1.0)
    return state.abs().amax(1) > torch.finfo(state.dtype).eps ** -0.5 * size
