"""What all minimizers have in common: start, refusals, the call of the loop."""

from typing import Any

import torch
from torch import Tensor

from optlayers.programs.minimize import MinimizeProgram
from optlayers.solution import Solution, Status
from optlayers.solvers.iterative import RUNNING, iterate, start_or_zero

# An objective below this falls without bound, as far as floating numbers can tell.
UNBOUNDED_BELOW = -1e20
# Decreases below so many roundings of the objective say nothing of a step.
ROUNDINGS = 10


def refuse_constraints(program: MinimizeProgram) -> str | None:
    """The refusal of methods for unconstrained problems."""
    if program.is_constrained:
        return "takes no constraints or bounds; use interior_point."
    return None


def refuse_without_residuals(program: MinimizeProgram) -> str | None:
    """The refusal of methods for sums of squares within bounds."""
    if program.residuals is None:
        return "minimizes sums of squares, and the program names no residuals."
    if program.equality_count or program.inequality_count:
        return "takes no constraints but bounds; use interior_point."
    return None


def solved_by(method: Any, program: MinimizeProgram, start: Tensor | None) -> Solution:
    """Run a method for unconstrained problems, with its own tolerance and step limit.

    Args:
        method: a `Method` with the options `tolerance` and `max_steps`.
        program: of B problems.
        start: [B, n] or None.

    Raises:
        ShapeError: a start of another shape.
    """
    found = iterate(
        method, program, start_or_zero(program, start), tolerance=method.tolerance,
        max_steps=method.max_steps,
    )  # fmt: skip
    none = found.value.new_zeros(len(found.value), 0)
    duals = {"equalities": none, "inequalities": none}
    return Solution(found.value, duals, found.status, found.stats)


def slope_size(value: Tensor, gradient: Tensor) -> Tensor:
    """The largest entry of the gradient, [B]; inf where it or the value is lost."""
    if gradient.shape[1] == 0:
        return torch.zeros_like(value)
    size = gradient.abs().amax(1)
    return torch.where(size.isfinite() & value.isfinite(), size, torch.inf)


def fault_of(value: Tensor, stalled: Tensor) -> Tensor:
    """UNBOUNDED or STALLED where a sample can go no further, else RUNNING, int8 [B].

    Args:
        value: f at the last accepted point, [B].
        stalled: whether there is no further step, bool [B].
    """
    fault = torch.full_like(stalled, RUNNING, dtype=torch.int8)
    fault = fault.masked_fill(stalled, int(Status.STALLED))
    return fault.masked_fill(value < UNBOUNDED_BELOW, int(Status.UNBOUNDED))


def gain_of(
    old: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor], foreseen: Tensor
) -> Tensor:
    """The decrease of f as a share of the one foreseen, [B]; -inf where not finite.

    Where both are within rounding of f, a shorter gradient is as good.

    Args:
        old: f and its gradient where the step begins, [B] and [B, n].
        new: likewise where it ends.
        foreseen: the decrease of the model, [B].
    """
    (before, slope), (after, gradient) = old, new
    fall, rounding = before - after, rounding_of(before)
    is_blurred = (fall.abs() <= rounding) & (foreseen <= rounding)
    shorter = gradient.norm(dim=1) < slope.norm(dim=1)
    gain = torch.where(is_blurred, shorter.to(fall.dtype), fall / foreseen)
    is_finite = after.isfinite() & gradient.isfinite().all(1) & gain.isfinite()
    return torch.where(is_finite, gain, -torch.inf)


def rounding_of(value: Tensor) -> Tensor:
    """The change of f(x) that rounding may cause, [B]."""
    return ROUNDINGS * torch.finfo(value.dtype).eps * value.abs().clamp_min(1e-300)


def dot(first: Tensor, second: Tensor) -> Tensor:
    """The inner product of rows, [B, n] and [B, n] -> [B]."""
    return (first * second).sum(1)


def chosen(which: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Rows of the first where `which`, bool [B], holds, and of the second elsewhere."""
    return torch.where(which.view(-1, *[1] * (first.ndim - 1)), first, second)
