"""Cubic interpolation between the ends of a step from values and rates there.

x(t + theta h) = x + (3 theta^2 - 2 theta^3) d + (theta - 2 theta^2 + theta^3) h f(t)
                 + (theta^3 - theta^2) h f(t + h),   d = x(t + h) - x
"""

import torch
from torch import Tensor

from optlayers.programs.initial_value import FieldFunction
from optlayers.solvers.ode.stepper import Step


def with_rates(
    field: FieldFunction, time: Tensor, size: Tensor, state: Tensor, step: Step
) -> Step:
    """The step with stages d, h f(t), h f(t + h), [3, B, n], at two evaluations.

    Args:
        field: f.
        time: t, [B].
        size: h, [B].
        state: x, [B, n].
        step: from there.
    """
    column = size.unsqueeze(1)
    first = column * field(time, state)
    last = column * field(time + size, step.state)
    return step._replace(stages=torch.stack((step.state - state, first, last)))


def hermite(state: Tensor, step: Step, fraction: Tensor) -> Tensor:
    """The interpolant at the fractions [B, M] of a step, [B, M, n].

    Args:
        state: x at the beginning, [B, n].
        step: with the stages of `with_rates`.
        fraction: theta.
    """
    theta = fraction.unsqueeze(2)
    square, cube = theta**2, theta**3
    whole, first, last = step.stages.unsqueeze(2).unbind(0)
    return (
        state.unsqueeze(1)
        + (3 * square - 2 * cube) * whole
        + (theta - 2 * square + cube) * first
        + (cube - square) * last
    )
