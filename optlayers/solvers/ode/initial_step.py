"""The length of the first step, from the size of the first two derivatives.

Source: Hairer, Norsett, Wanner, Solving ODEs I (1993), II.4, "starting step size".
"""

from collections.abc import Callable

import torch
from torch import Tensor

from optlayers.programs.initial_value import FieldFunction

# Derivatives smaller than this, relative to the tolerance, count as zero.
NOTHING = 1e-5


def initial_step(
    field: FieldFunction,
    time: Tensor,
    state: Tensor,
    rate: Tensor,
    span: Tensor,
    measure: Callable[[Tensor], Tensor],
    order: int,
) -> Tensor:
    """A first step whose error should be near the tolerance, [B].

    Args:
        field: f.
        time: t0, [B].
        state: x0, [B, n].
        rate: f(t0, x0), [B, n].
        span: the time to integrate over, [B], not negative.
        measure: the size of a vector relative to the tolerance, [B, n] -> [B].
        order: of the method.
    """
    place, speed = measure(state), measure(rate)
    is_small = (place < NOTHING) | (speed < NOTHING)
    first = torch.where(is_small, 1e-6, 0.01 * place / speed)
    first = torch.fmin(first, span)
    ahead = torch.addcmul(state, first.unsqueeze(1), rate)
    bend = measure(field(time + first, ahead) - rate) / first
    most = torch.fmax(speed, bend)
    second = torch.where(
        most <= 1e-15,
        (first * 1e-3).clamp_min(1e-6),
        (0.01 / most) ** (1 / (order + 1)),
    )
    step = torch.fmin(100 * first, second)
    # Where a derivative overflows, the step control finds its way down from here.
    step = torch.where(step.isfinite() & (step > 0), step, 1e-6)
    return torch.fmin(step, span)
