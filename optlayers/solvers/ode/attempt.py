"""One trial step: stages, estimated error, and how long the next one should be.

`attempt` is a pure function of tensors, so that a compiler can make it one piece.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from optlayers.programs.initial_value import FieldFunction
from optlayers.solvers.ode.pace import Pace
from optlayers.solvers.ode.stepper import Step, Stepper


class Attempt(NamedTuple):
    """A step that was tried, and what is said of it.

    Attributes:
        step: to be accepted or not.
        ratio: estimated over allowed error, [B].
        factor: of the next step, [B]; None if steps are fixed.
    """

    step: Step
    ratio: Tensor
    factor: Tensor | None


def attempt(
    stepper: Stepper,
    pace: Pace,
    field: FieldFunction,
    time: Tensor,
    size: Tensor,
    state: Tensor,
    carry: Any,
    running: Tensor,
    earlier: tuple[Tensor, ...],
    workspace: Any = None,
) -> Attempt:
    """Try a step of every sample.

    Args:
        stepper: the method.
        pace: measures errors.
        field: f.
        time: t, [B].
        size: h, [B].
        state: x, [B, n].
        carry: of the step before.
        running: which samples have not arrived, bool [B].
        earlier: ratios of the steps before, as `pace` keeps them.
        workspace: of the stepper.
    """
    step = stepper.step(field, time, size, state, carry, workspace)
    with torch.no_grad():
        ratio = pace.ratio(step, state, running)
        return Attempt(step, ratio, pace.factor(ratio, earlier))


def without_overflow(
    step: Step,
    ratio: Tensor,
    safe: Tensor,
    stepper: Stepper,
    field: FieldFunction,
    time: Tensor,
    size: Tensor,
    state: Tensor,
    carry: Tensor,
    workspace: Any = None,
) -> Step:
    """The step, whose graph must be finite where it was rejected, too.

    A rejected row has a gradient of zero; but zero times the infinite derivative of an
    overflow is NaN, which would reach the parameters that rows share.

    Args:
        step: that was tried.
        ratio: estimated over allowed error, [B].
        safe: states at which the field is finite, [B, n].
        stepper: the method.
        field: f.
        time: t, [B].
        size: h, [B].
        state: x, [B, n].
        carry: of the step before.
        workspace: of the stepper.
    """
    lost = ~ratio.isfinite()
    if not bool(lost.any()):
        return step
    column = lost.unsqueeze(1)
    state = torch.where(column, safe, state)
    carry = torch.where(column, safe, carry)
    size = torch.where(lost, 0.0, size)
    return stepper.step(field, time, size, state, carry, workspace)
