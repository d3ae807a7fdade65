"""What constrained methods have in common: the last steps and the result.

A method ends near a zero of the KKT residual F(z) in projection form; Newton steps on
F itself bring the point to rounding, and only F decides what is SOLVED.
"""

import time
from dataclasses import replace

import torch
from torch import Tensor

from optlayers.programs.minimize import MinimizeProgram
from optlayers.solution import Solution, Status

# Newton steps from points above this violation could lead anywhere.
NEAR = 1e-3
POLISH_STEPS = 10
# A violation below so many roundings cannot be lowered.
ROUNDINGS = 10


def finished(program: MinimizeProgram, found: Solution, tolerance: float) -> Solution:
    """The solution of a method whose value was z, polished and measured.

    Args:
        program: of B samples.
        found: with value z, [B, n + me + m].
        tolerance: largest violation that counts as zero.

    Returns:
        A `Solution` with value x [B, n], duals "equalities" and "inequalities" (of all
        rows), and SOLVED exactly where the measured violation is within the tolerance.
    """
    began = time.perf_counter()
    point, violation = polish(program, found.value, program.violation(found.value))
    x, y, lam, _ = program.split(point)
    claimed = found.status.masked_fill(found.status == Status.SOLVED, Status.STALLED)
    status = torch.where(violation <= tolerance, int(Status.SOLVED), claimed)
    seconds = (time.perf_counter() - began) / max(1, len(status))
    stats = {
        **found.stats,
        "residual": violation,
        "seconds": found.stats["seconds"] + seconds,
    }
    return replace(
        found, value=x, duals={"equalities": y, "inequalities": lam},
        status=status.to(torch.int8), stats=stats,
    )  # fmt: skip


def polish(
    program: MinimizeProgram, point: Tensor, violation: Tensor
) -> tuple[Tensor, Tensor]:
    """Newton steps on F(z) = 0, each kept where it lowers the violation.

    Args:
        program: of B samples.
        point: z, [B, n + me + m].
        violation: there, [B].

    Returns:
        The point and its violation.
    """
    target = ROUNDINGS * torch.finfo(point.dtype).eps
    pending = (violation > target) & (violation <= NEAR)
    for _ in range(POLISH_STEPS):
        if not pending.any():
            break
        step = program.linearize(point).solve(-program.residual(point)).detach()
        trial = point + step
        lower = program.violation(trial)
        is_lower = pending & (lower < violation)
        point = torch.where(is_lower.unsqueeze(1), trial, point)
        violation = torch.where(is_lower, lower, violation)
        pending = is_lower & (violation > target)
    return point, violation
