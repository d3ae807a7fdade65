"""One trial step: stages, estimated error, and how long the next one should be.

A pure function of tensors, so that a compiler can make it one piece.
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
