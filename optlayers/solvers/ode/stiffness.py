"""Notices that stability, not accuracy, limits the steps of an explicit method.

h |lambda| = |k_S - k_(S-1)| / |g_S - g_(S-1)|, about, k the increments of the last two
stages, which stand at the same time, and g the points where they were evaluated.
Source: Hairer, Wanner, Solving ODEs II (1996), IV.2, equation 2.6.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from optlayers.solvers.ode.explicit import Tableau
from optlayers.solvers.ode.stepper import Step, Stepper

# Iterations between two looks.
LOOK_EVERY = 5
# Looks at a stable limit, less half of those elsewhere, that make a sample stiff. The
# fast parts of a nonstiff solution never last for so long.
LOOKS = 10.0
# A sample that would arrive in so many more steps goes on as it is: a stiff step costs
# several explicit ones.
STEPS_LEFT = 300.0
# The stability regions of methods of order 5 end at -3.3 to -3.5; where steps are
# limited by stiffness, h |lambda| was 3.1 to 3.9 at rtol 1e-4 to 1e-7, and 2.4 at 1e-9.
BOUNDARY = 2.0


@dataclass(frozen=True)
class Handover:
    """What a walk goes on with, in samples that turned out to be stiff.

    Attributes:
        tableau: of the explicit method that begins, its last two stages at t + h.
        stepper: the method that goes on.
    """

    tableau: Tableau
    stepper: Stepper


class StiffnessWatch:
    """Counts, for each sample, how long its steps have been limited by stability."""

    def __init__(self, handover: Handover, state: Tensor) -> None:
        """Before the first step.

        Args:
            handover: from which method, and to which.
            state: x0, [B, n].
        """
        own = handover.tableau
        count = len(own.c)
        last = [*own.a[-1], 0.0]
        before = [*own.a[-2], 0.0, 0.0]
        rates = [0.0] * (count - 2) + [-1.0, 1.0]
        points = [x - y for x, y in zip(last, before, strict=True)]
        self._weights = state.new_tensor([rates, points])
        self._count = state.new_zeros(len(state))

    @torch.no_grad()
    def look(self, step: Step, moved: Tensor, size: Tensor, left: Tensor) -> Tensor:
        """Which samples are stiff by now, bool [B].

        Args:
            step: just made.
            moved: where it was accepted and is no rest, bool [B].
            size: its length h, [B].
            left: the time to go, [B].
        """
        stages = step.stages
        pair = torch.mm(self._weights, stages.reshape(len(stages), -1))
        pair = torch.linalg.vector_norm(pair.view(2, *stages.shape[1:]), dim=2)
        is_limited = moved & (pair[0] > BOUNDARY * pair[1])
        # A rejected step says nothing.
        change = torch.where(is_limited, 1.0, -0.5 * moved)
        self._count = (self._count + change).clamp_min_(0.0)
        return is_limited & (self._count >= LOOKS) & (left > STEPS_LEFT * size)
