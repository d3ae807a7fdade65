"""One batch of minimizations through the solver and measurement.

Whatever a solver says of a sample, it is solved if the KKT residual measured at its
point is within the tolerance, and else not.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from optlayers.interfaces import Solver
from optlayers.programs.minimize import MinimizeProgram
from optlayers.programs.squares import slope_terms
from optlayers.solution import Status


class Found(NamedTuple):
    """What is known of B samples after a solve; nothing of it carries a gradient.

    Attributes:
        point: the KKT point z, [B, n + me + m]; finite, also for failed samples.
        status: a `Status` each, int8 [B].
        steps: steps taken by the solver, int64 [B].
        residual: `program.violation` measured at the point, [B].
        seconds: time spent in the solver, float64 [B].
    """

    point: Tensor
    status: Tensor
    steps: Tensor
    residual: Tensor
    seconds: Tensor


def certified(
    program: MinimizeProgram, solver: Solver, start: Tensor, tolerance: float
) -> Found:
    """What a solver finds, as far as it can be believed: its residual is measured.

    Args:
        program: of B problems.
        solver: of kind "minimize".
        start: [B, n].
        tolerance: the KKT residual that counts as zero.
    """
    batch = start.shape[0]
    if batch == 0:
        size = program.size + program.equality_count + program.row_count
        none = torch.zeros(0, dtype=torch.int64, device=start.device)
        return Found(
            start.new_zeros(0, size), none.to(torch.int8), none, start.new_zeros(0),
            none.to(torch.float64),
        )  # fmt: skip
    found = solver.solve(program, start)
    x, duals = found.value.detach(), found.duals
    y = duals["equalities"].detach()
    lam = duals["inequalities"].detach().clamp_min(0)
    point = program.point_at(x, y, lam)
    residual = program.violation(point)
    if program.residuals is not None and bool((residual > tolerance).any()):
        terms = slope_terms(program, x)
        residual = torch.minimum(residual, program.violation(point, terms))
    claimed = found.status == Status.SOLVED
    status = torch.where(claimed, int(Status.STALLED), found.status)
    status = torch.where(residual <= tolerance, int(Status.SOLVED), status)
    return Found(
        point.nan_to_num(0.0, 0.0, 0.0),
        status.to(torch.int8),
        found.stats.get("steps", torch.zeros_like(status)).to(torch.int64),
        residual,
        found.stats.get("seconds", torch.zeros_like(residual)).to(torch.float64),
    )
