"""The solution at the times it is wanted, collected while it is being computed.

Save times that lie within an accepted step are interpolated at once, of all samples
together; a sample that has none due writes where it will write again later.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from optlayers.solvers.ode.stepper import Step, Stepper


class Places(NamedTuple):
    """Where each save time lies among the steps that were taken.

    Attributes:
        iteration: the step that covers it, int64 [B, T]; -1 of the first save time.
        fraction: how far into that step, [B, T].
    """

    iteration: Tensor
    fraction: Tensor


class Saves:
    """Collects x at save times.

    Attributes:
        reached: how many save times each sample has passed, int64 [B].
    """

    def __init__(self, times: Tensor, initial: Tensor, *, places: bool) -> None:
        """Start with the initial values.

        Args:
            times: increasing, [B, T].
            initial: x0, [B, n]; with a graph if one is being made.
            places: whether to remember where save times lie among the steps.
        """
        batch, count = times.shape
        self._count = count
        slack = 4 * torch.finfo(times.dtype).eps * times.abs().amax(1, keepdim=True)
        self._due = (times - slack).contiguous()
        # One more slot takes what is written of samples that have no save time left.
        end = times.new_full((batch, 1), torch.inf)
        self._times = torch.cat((times, end), 1)
        self._rows = torch.arange(batch, device=times.device).unsqueeze(1)
        self.reached = torch.ones(batch, dtype=torch.int64, device=times.device)
        self._records_graph = torch.is_grad_enabled()
        self._parts = [initial.unsqueeze(1)]
        self._written = 1
        self._slots = torch.zeros(
            (batch, count + 1), dtype=torch.int64, device=times.device
        )
        if not self._records_graph:
            self._values = initial.new_empty(batch, count + 1, initial.shape[1])
            self._values[:, 0] = initial
            self._flat = self._values.view(batch * (count + 1), initial.shape[1])
            self._offsets = self._rows * (count + 1)
        self._ended: Tensor | None = None
        self._last: Tensor | None = None
        self._iteration = self._fraction = None
        if places:
            self._iteration = torch.full_like(self._slots, -1)
            self._fraction = torch.zeros_like(self._times)

    def due(self, time: Tensor) -> Tensor:
        """How many further save times are passed at the time [B], int64 [B]."""
        with torch.no_grad():
            passed = torch.searchsorted(self._due, time.unsqueeze(1), right=True)
            return passed.squeeze(1) - self.reached

    def next(self) -> Tensor:
        """The next save time of each sample, [B]; infinite if there is none."""
        return self._times.gather(1, self.reached.unsqueeze(1)).squeeze(1)

    def take(
        self,
        stepper: Stepper,
        step: Step,
        time: Tensor,
        size: Tensor,
        state: Tensor,
        iteration: int,
        due: Tensor,
        most: int,
    ) -> None:
        """Write the values of a step.

        Args:
            stepper: which made the step.
            step: accepted where `due` is positive.
            time: t at its beginning, [B].
            size: its length h, [B].
            state: x at its beginning, [B, n].
            iteration: its number.
            due: how many save times it covers, int64 [B].
            most: the largest of them.
        """
        with torch.no_grad():
            slots = self.reached.unsqueeze(1)
            if most > 1:
                slots = slots + torch.arange(most, device=slots.device)
                slots = slots.clamp_max_(self._count)
            wanted = self._times.gather(1, slots)
            tiny = torch.finfo(size.dtype).tiny
            fraction = (wanted - time.unsqueeze(1)).div_(
                size.clamp_min(tiny).unsqueeze(1)
            )
            fraction.clamp_(0.0, 1.0)
            self.reached = self.reached + due
        values = stepper.interpolate(state, size, step, fraction)
        if self._records_graph:
            self._parts.append(values)
            order = torch.arange(self._written, self._written + most)
            self._slots[self._rows, slots] = order.to(slots.device).expand_as(slots)
            self._written += most
        else:
            places = (self._offsets + slots).view(-1)
            self._flat.index_copy_(0, places, values.view(len(places), -1))
        if self._iteration is not None and self._fraction is not None:
            self._iteration[self._rows, slots] = iteration
            self._fraction[self._rows, slots] = fraction

    def values(self) -> Tensor:
        """x at all save times, [B, T, n]; NaN where a sample did not come so far."""
        count = self._count
        if self._records_graph:
            parts = torch.cat(self._parts, 1)
            slots = self._slots[:, :count].unsqueeze(2)
            values = parts.gather(1, slots.expand(-1, -1, parts.shape[2]))
        else:
            values = self._values[:, :count]
        if self._ended is not None and self._last is not None:
            after = self._unreached() & self._ended.unsqueeze(1)
            values = torch.where(after.unsqueeze(2), self._last.unsqueeze(1), values)
        return values.masked_fill(self.is_missing().unsqueeze(2), torch.nan)

    def pass_all(self) -> None:
        """Count all save times as passed, where there is nothing to compute."""
        self.reached = torch.full_like(self.reached, self._count)

    def end(self, rows: Tensor, state: Tensor) -> None:
        """Repeat a state at all save times that some samples have not reached.

        Args:
            rows: which samples, bool [B].
            state: of these, [B, n].
        """
        if self._ended is None or self._last is None:
            self._ended, self._last = rows, state
            return
        self._ended = self._ended | rows
        self._last = torch.where(rows.unsqueeze(1), state, self._last)

    def last(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """What ended samples repeat, and which they are.

        Args:
            state: what is given for the others, [B, n].
        """
        if self._ended is None or self._last is None:
            return state, torch.zeros_like(self.reached, dtype=torch.bool)
        column = self._ended.unsqueeze(1)
        return torch.where(column, self._last, state), self._ended

    def is_missing(self) -> Tensor:
        """Which save times have no value, bool [B, T]."""
        missing = self._unreached()
        return missing if self._ended is None else missing & ~self._ended.unsqueeze(1)

    def _unreached(self) -> Tensor:
        slots = torch.arange(self._count, device=self.reached.device)
        return slots >= self.reached.unsqueeze(1)

    def places(self) -> Places:
        """Where the save times lie among the steps, if that was asked for."""
        assert self._iteration is not None and self._fraction is not None
        return Places(
            self._iteration[:, : self._count], self._fraction[:, : self._count]
        )
