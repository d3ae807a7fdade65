"""The solution at any time, from the steps that were taken.

Steps are kept as they were made, with their graph if there is one.
"""

import torch
from torch import Tensor

from optlayers.solvers.ode.stepper import Step, Stepper


class DenseOutput:
    """The steps of one integration, and the solution within them; time runs forward."""

    def __init__(self, initial: Tensor) -> None:
        """Before the first step, at x0, [B, n]."""
        self._initial = initial
        self._parts: list[_Part] = []

    def keep(
        self,
        stepper: Stepper,
        time: Tensor,
        size: Tensor,
        moved: Tensor,
        state: Tensor,
        step: Step,
    ) -> None:
        """Take one more step.

        Args:
            stepper: made it.
            time: t at its beginning, [B].
            size: h, [B].
            moved: whether it was accepted and is no rest, bool [B].
            state: x at its beginning, [B, n].
            step: completed.
        """
        if not torch.is_grad_enabled():
            # Without a graph stages live in memory that is used again.
            step = step._replace(stages=step.stages.clone())
        if not self._parts or self._parts[-1].stepper is not stepper:
            self._parts.append(_Part(stepper))
        self._parts[-1].steps.append((time, size, moved, state, step))

    def at(self, times: Tensor, slack: Tensor) -> Tensor:
        """The solution from t0 to where each sample stands, [B, M, n].

        Where the state jumps, it is the one before, as of save times.

        Args:
            times: [B, M].
            slack: differences of time that are rounding, [B].
        """
        many = times.shape[1]
        values = self._initial.unsqueeze(1).expand(-1, many, -1)
        if not self._parts or not many:
            return values
        with torch.no_grad():
            every = [one for part in self._parts for one in part.steps]
            start = torch.stack([one[0] for one in every])
            moved = torch.stack([one[2] for one in every])
            order = torch.arange(len(moved), device=moved.device).unsqueeze(1)
            last = torch.where(moved, order, -1).amax(0).unsqueeze(1)
            # Rejected steps begin where the accepted one after them begins.
            begun, wanted = start.t().contiguous(), times - slack.unsqueeze(1)
            first = torch.searchsorted(begun, begun[:, :1].contiguous(), right=True)
            found = torch.searchsorted(begun, wanted.detach().contiguous())
            index = torch.minimum(torch.maximum(found, first) - 1, last)
        gone = 0
        for part in self._parts:
            count = len(part.steps)
            here = (index >= gone) & (index < gone + count)
            inside = part.at(times, (index - gone).clamp(0, count - 1), here)
            values = torch.where(here.unsqueeze(2), inside, values)
            gone += count
        return values


class _Part:
    """Consecutive steps of one method."""

    def __init__(self, stepper: Stepper) -> None:
        self.stepper = stepper
        self.steps: list[tuple[Tensor, Tensor, Tensor, Tensor, Step]] = []
        self._stacked: tuple[int, tuple[Tensor, ...]] = (0, ())

    def at(self, times: Tensor, index: Tensor, wanted: Tensor) -> Tensor:
        """The solution within steps, [B, M, n].

        Args:
            times: [B, M].
            index: the number of the step, int64 [B, M].
            wanted: where the time lies within that step, bool [B, M].
        """
        batch, many = times.shape
        start, size, begin, end, stages = self._tensors()
        rows = torch.arange(batch, device=index.device).unsqueeze(1)
        flat = (index * batch + rows).view(-1)
        h = size.view(-1).index_select(0, flat)
        fraction = times.reshape(-1) - start.view(-1).index_select(0, flat)
        fraction = fraction / h.clamp_min(torch.finfo(h.dtype).tiny)
        # Elsewhere nothing may overflow, lest its derivative becomes NaN.
        fraction = torch.where(wanted.view(-1), fraction, 0.0)

        def chosen(one: Tensor) -> Tensor:
            return one.flatten(0, 1).index_select(0, flat)

        first = chosen(begin)
        step = Step(chosen(end), None, torch.stack([chosen(s) for s in stages]), first)
        values = self.stepper.interpolate(first, h, step, fraction.unsqueeze(1))
        return values.view(batch, many, -1)

    def _tensors(self) -> tuple[Tensor, ...]:
        """All steps: t, h [N, B]; x before and after [N, B, n]; stages [S, N, B, n]."""
        count, stacked = self._stacked
        if count != len(self.steps):
            times, sizes, _, begins, steps = zip(*self.steps, strict=True)
            stacked = (
                torch.stack(times),
                torch.stack(sizes),
                torch.stack(begins),
                torch.stack([one.state for one in steps]),
                torch.stack([one.stages for one in steps], 1),
            )
            self._stacked = len(self.steps), stacked
        return stacked
