"""The options that all solvers of initial value problems share."""

from dataclasses import dataclass, field
from numbers import Real
from typing import Literal

import torch

from optlayers.errors import ParameterError
from optlayers.solvers.ode.control import Control, IControl

Norm = Literal["rms", "max"]


@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """How accurate the steps are, how they are chosen, and how many there may be.

    Attributes:
        rtol: allowed error of a step relative to the state.
        atol: allowed error besides, in units of the state; a thousandth of rtol if
            None.
        control: how steps are chosen: `IControl`, `PIControl`, `PIDControl`, or
            `FixedStep`.
        first_step: length of the first step; None estimates it.
        min_step: a step that must be shorter has stalled.
        max_step: longest step.
        max_steps: most steps of a sample, accepted or not.
        norm: how errors of several states are one: "rms" or "max".
        joint: whether all samples take the steps of the worst one.
        compile: whether steps without a graph are handed to `torch.compile`, their
            error and the choice of the next one included; needs a C++ compiler, and
            half a minute once for each field, whose Python code does not run again
            after that. Where it cannot be done, a `CompileWarning` says why, once.

    Raises:
        ParameterError: an option out of its range.
    """

    rtol: float = 1e-6
    atol: float | None = None
    control: Control = field(default_factory=IControl)
    first_step: float | None = None
    min_step: float = 0.0
    max_step: float = torch.inf
    max_steps: int = 10_000
    norm: Norm = "rms"
    joint: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        name = type(self).__name__
        for option in ("rtol", "atol", "first_step", "max_step"):
            value = getattr(self, option)
            is_number = isinstance(value, Real)
            if value is not None and not (is_number and float(value) > 0):
                raise ParameterError(
                    f"{name}({option}={value!r}): give a number above zero."
                )
        if not (isinstance(self.min_step, Real) and self.min_step >= 0):
            raise ParameterError(f"{name}(min_step={self.min_step!r}): give 0 or more.")
        if self.min_step > self.max_step:
            raise ParameterError(
                f"{name}(min_step={self.min_step!r}, max_step={self.max_step!r}): "
                "every step would be too short; give a max_step above min_step."
            )
        steps = self.max_steps
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ParameterError(
                f"{name}(max_steps={steps!r}): give an integer from 1 on."
            )
        if self.norm not in ("rms", "max"):
            raise ParameterError(f'{name}(norm={self.norm!r}): "rms" or "max".')

    @property
    def absolute(self) -> float:
        """The absolute tolerance in force."""
        return self.rtol * 1e-3 if self.atol is None else self.atol
