"""What the options and the start of every root solver have in common."""

from typing import Any

import torch
from torch import Tensor

from optlayers.errors import ParameterError, ShapeError
from optlayers.programs.root import RootProgram


def check_options(solver: Any, *positive: str) -> None:
    """Refuse a step limit below one, and tolerances that are not positive.

    Raises:
        ParameterError: names the option and the value.
    """
    name = type(solver).__name__
    steps = solver.max_steps
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ParameterError(f"{name}(max_steps={steps!r}): give an integer from 1 on.")
    for option in ("tolerance", *positive):
        value = getattr(solver, option)
        if not value > 0:
            raise ParameterError(
                f"{name}({option}={value!r}): give a number above zero."
            )


def start_or_zero(program: RootProgram, start: Tensor | None) -> Tensor:
    """The start, or zeros, within the bounds, [B, n].

    Raises:
        ShapeError: a start of another shape.
    """
    shape = (program.batch_size, program.size)
    if start is None:
        return program.clamp(torch.zeros(shape, dtype=torch.float64))
    if tuple(start.shape) != shape:
        raise ShapeError(
            f"start is {list(start.shape)}; the program has {list(shape)} unknowns."
        )
    return program.clamp(start.detach())
