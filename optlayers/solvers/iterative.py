"""The loop of every native iterative solver: masks, step limit, statuses.

A method writes `init`, `step` and `outcome`; samples that are finished or have failed
stay frozen here, whatever the method does with their rows afterwards.
"""

import time
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from optlayers.errors import ShapeError
from optlayers.solution import Solution, Status

# What a method reports of a sample that may go on.
RUNNING = -1


class Outcome(NamedTuple):
    """Where a method stands after a step; later steps must not write to it.

    Attributes:
        point: the iterate, [B, n].
        residual: the size of the residual there, [B]; NaN or inf where it has none.
        fault: a `Status` where the method gives up, RUNNING elsewhere, int8 [B]; None
            if it gives up nowhere.
    """

    point: Tensor
    residual: Tensor
    fault: Tensor | None = None


class Method(Protocol):
    """Three small functions; the state between them is the method's own."""

    def init(self, program: Any, start: Tensor) -> Any:
        """The state before the first step, at start [B, n]."""
        ...

    def step(self, program: Any, state: Any, active: Tensor) -> Any:
        """The state after one more step; rows outside `active`, bool [B], are free."""
        ...

    def outcome(self, state: Any) -> Outcome:
        """Where the state stands."""
        ...


def iterate(
    method: Method,
    program: Any,
    start: Tensor,
    *,
    tolerance: float,
    max_steps: int,
    check_every: int = 1,
) -> Solution:
    """Run a method until every sample is solved, has failed or is out of steps.

    Args:
        method: what to run.
        program: of B samples.
        start: [B, n].
        tolerance: the size of a residual that counts as zero.
        max_steps: most steps per sample.
        check_every: how many steps are made between two looks at the samples, each of
            which costs a few operations and waits for the device. A sample may go on
            for so many steps after it is solved, whatever the others do.

    Returns:
        A `Solution` whose "steps" and "residual" are per sample; a sample that did not
        finish has the last point at which its residual was finite.
    """
    began = time.perf_counter()
    state = method.init(program, start)
    point, residual, fault = method.outcome(state)
    status = torch.full_like(residual, RUNNING, dtype=torch.int8)
    active = torch.ones_like(residual, dtype=torch.bool)
    status = _judged(status, active, residual, fault, tolerance)
    steps = torch.zeros_like(status, dtype=torch.int64)
    for count in range(1, max_steps + 1):
        active = status == RUNNING
        if count % check_every == 1 % check_every and not active.any():
            break
        state = method.step(program, state, active)
        if count % check_every and count < max_steps:
            continue
        new = method.outcome(state)
        point, residual = _kept(point, residual, new, active)
        steps = steps.masked_fill(active, count)
        status = _judged(status, active, new.residual, new.fault, tolerance)
    status = torch.where(status == RUNNING, int(Status.STEP_LIMIT), status)
    seconds = (time.perf_counter() - began) / max(1, len(status))
    stats = {
        "steps": steps,
        "residual": residual,
        "seconds": residual.new_full(residual.shape, seconds, dtype=torch.float64),
    }
    return Solution(point, {}, status.to(torch.int8), stats)


def size_of(residual: Tensor) -> Tensor:
    """The largest entry of each row, [B, n] -> [B]; inf where one is not finite."""
    if residual.shape[1] == 0:
        return residual.new_zeros(residual.shape[0])
    return residual.abs().amax(1).nan_to_num(nan=torch.inf)


def _kept(
    point: Tensor, residual: Tensor, new: Outcome, active: Tensor
) -> tuple[Tensor, Tensor]:
    """The new point, [B, n], and residual, [B], of samples where they are finite."""
    is_better = active & (new.residual < torch.inf)
    if is_better.all():
        return new.point, new.residual
    return (
        torch.where(is_better.unsqueeze(1), new.point, point),
        torch.where(is_better, new.residual, residual),
    )


def _judged(
    status: Tensor,
    active: Tensor,
    residual: Tensor,
    fault: Tensor | None,
    tolerance: float,
) -> Tensor:
    """The status of the samples that were active, int8 [B]; others keep theirs."""
    if fault is not None:
        status = torch.where(active & (fault != RUNNING), fault, status)
    is_lost = active & ~(residual < torch.inf)
    if is_lost.any():
        status = status.masked_fill(is_lost, int(Status.NOT_FINITE))
    return status.masked_fill(active & (residual <= tolerance), int(Status.SOLVED))


def start_or_zero(program: Any, start: Tensor | None) -> Tensor:
    """The start, or zeros, within the bounds, [B, n].

    Args:
        program: of B roots or minima in n unknowns.
        start: [B, n] or None.

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
