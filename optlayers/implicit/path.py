"""The solution between recorded steps, looked up at any time.

x(t + theta h) = x + sum_p c_p theta^p, p from 1 to 4, through four places of each step
"""

from typing import Any

import torch
from torch import Tensor

from optlayers.implicit.recorded import Steps, between_stops, over_steps, within
from optlayers.programs.initial_value import InitialValueProgram

# Where in a step the polynomial is that of the method, besides its beginning.
PLACES = (0.25, 0.5, 0.75, 1.0)
# Numbers in the states of the steps that are evaluated together.
TOGETHER = 2**14


class Path:
    """x(t) of B samples, on all the way that their steps have covered.

    Attributes:
        ends: where one step ends and the next begins, increasing, [B, N]; NaN where a
            sample has fewer.
    """

    @torch.no_grad()
    def __init__(self, program: InitialValueProgram, steps: Steps) -> None:
        """Evaluate the steps once more, many in one batch.

        Args:
            program: of B samples, time running forward.
            steps: of its integration, one at least.
        """
        batch, size = program.initial.shape
        length = max(1, TOGETHER // max(1, batch * size))
        terms = torch.cat(
            [_terms(program, steps, *one) for one in steps.chunks(length)]
        )
        # Of each sample the steps in which it moves come first.
        rests = steps.sizes <= 0
        order = rests.to(torch.int8).argsort(dim=0, stable=True)
        begins = steps.times.gather(0, order)
        self._begins = begins.t().contiguous()
        self.ends = self._begins.masked_fill(rests.gather(0, order).t(), torch.nan)
        self._last = ((~rests).sum(0) - 1).clamp_min(0)
        self._rows = torch.arange(batch, device=order.device)
        place = (order * batch + self._rows).view(-1)
        self._start = begins.reshape(-1)
        self._length = steps.sizes.reshape(-1).index_select(0, place)
        # From the highest power down to x at the beginning, each [N B, n].
        self._terms = [one.index_select(0, place) for one in terms.unbind(1)][::-1]

    def at(self, time: Tensor) -> Tensor:
        """x, [M B, n], differentiable in the time; M times of all samples, [M B].

        Before the first step and after the last one their polynomials go on.
        """
        with torch.no_grad():
            wanted = time.view(-1, len(self._rows)).t().contiguous()
            found = torch.searchsorted(self._begins, wanted, right=True).t() - 1
            found = torch.minimum(found.clamp_min_(0), self._last)
            place = (found * len(self._rows) + self._rows).reshape(-1)
            start, length = self._start[place], self._length[place]
            moves = length > 0
        theta = torch.where(
            moves, (time - start) / torch.where(moves, length, 1.0), 0.0
        )
        theta = theta.unsqueeze(1)
        value = self._terms[0].index_select(0, place)
        for term in self._terms[1:]:
            value = torch.addcmul(term.index_select(0, place), theta, value)
        return value


def _terms(
    program: InitialValueProgram, steps: Steps, stepper: Any, first: int, last: int
) -> Tensor:
    """x and c_1 to c_4 of the steps from `first` to before `last`, [M, 5, n]."""
    time = steps.times[first:last].reshape(-1)
    size = steps.sizes[first:last].reshape(-1)
    state = steps.states[first:last].flatten(0, 1)
    field = over_steps(program.rate, program.batch_size)
    field = between_stops(field, program.stops, time, size)
    moved = within(stepper, field, time, size, state, PLACES) - state.unsqueeze(1)
    places = torch.tensor(PLACES, dtype=torch.float64, device=state.device)
    powers = torch.stack([places**p for p in range(1, len(PLACES) + 1)], 1)
    inverse = torch.linalg.inv(powers).to(state)
    return torch.cat((state.unsqueeze(1), inverse @ moved), 1)
