"""Steps that only lower the violation of the constraints, within the bounds.

Levenberg-Marquardt on c(x) = (h(x), max(r(x), 0)), where the line search finds
no step; where the violation has a stationary point that is not feasible, it says so.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from optlayers.programs.minimize import MinimizeProgram
from optlayers.solvers.iterative import size_of
from optlayers.solvers.minimize.barrier import (
    Scales,
    Values,
    scaled_jacobians,
    transposed,
    values_at,
)

MOST_STEPS = 100
FIRST_DAMPING, LEAST_DAMPING, MOST_DAMPING = 1e-4, 1e-14, 1e12
# The violation is to fall to this share, unless the caller asks for more.
ENOUGH = 0.5
# Where |J'c| is below this share of max(1, |J|) |c| the violation is stationary ...
STATIONARY = 1e-7
# ... and where |c| is above this, the constraints cannot be met nearby.
VIOLATED = 1e-6


class Restored(NamedTuple):
    """Where the restoration ends.

    Attributes:
        x: [B, n]; as it was outside the samples to restore.
        improved: whether the violation fell, bool [B].
        infeasible: whether it is stationary and not zero, bool [B].
    """

    x: Tensor
    improved: Tensor
    infeasible: Tensor


def restored(
    program: MinimizeProgram,
    scales: Scales,
    x: Tensor,
    which: Tensor,
    share: float = ENOUGH,
) -> Restored:
    """Lower the violation of some samples.

    Args:
        program: of B samples.
        scales: of its functions.
        x: [B, n].
        which: the samples to restore, bool [B].
        share: of its violation that a sample may keep.
    """
    c = _excess(values_at(program, x, scales))
    first = best = _square(c)
    damping = torch.full_like(best, FIRST_DAMPING)
    pending = which & (best > 0)
    for _ in range(MOST_STEPS):
        if not pending.any():
            break
        J = _slopes(program, x, scales, c)
        step = _damped_step(J, c, damping)
        trial = inside(program, x + step, 1e-8)
        d = _excess(values_at(program, trial, scales))
        square = _square(d)
        taken = pending & (square < best)
        rows = taken.unsqueeze(1)
        x, c = torch.where(rows, trial, x), torch.where(rows, d, c)
        best = torch.where(taken, square, best)
        damping = torch.where(taken, damping / 5, damping * 4).clamp_min(LEAST_DAMPING)
        done = (best <= share**2 * first) | (damping > MOST_DAMPING)
        pending = pending & ~done & ~_is_stationary(program, x, J, c)
    stuck = _is_stationary(program, x, _slopes(program, x, scales, c), c)
    return Restored(x, which & (best < first), which & stuck & (size_of(c) > VIOLATED))


def inside(program: MinimizeProgram, x: Tensor, share: float) -> Tensor:
    """The nearest point a little within the bounds, [B, n].

    Args:
        program: with the bounds.
        x: [B, n].
        share: the distance to keep, of 1 or |bound| or of the width between two.
    """
    low, high = _limits(program, x)
    width = high - low
    below = torch.minimum(share * low.abs().clamp_min(1.0), share * width)
    above = torch.minimum(share * high.abs().clamp_min(1.0), share * width)
    low = torch.where(low.isfinite(), low + below, low)
    high = torch.where(high.isfinite(), high - above, high)
    return torch.minimum(torch.maximum(x, low), high)


def _limits(program: MinimizeProgram, x: Tensor) -> tuple[Tensor, Tensor]:
    low = torch.full_like(x, -torch.inf) if program.lower is None else program.lower
    high = torch.full_like(x, torch.inf) if program.upper is None else program.upper
    return low.detach().expand_as(x), high.detach().expand_as(x)


def _excess(values: Values) -> Tensor:
    return torch.cat([values.equalities, values.rows.clamp_min(0.0)], 1)


def _slopes(program: MinimizeProgram, x: Tensor, scales: Scales, c: Tensor) -> Tensor:
    """dc/dx, [B, me + m, n]; zero for rows that are met."""
    equalities, rows = scaled_jacobians(program, x, scales)
    is_broken = c[:, equalities.shape[1] :] > 0
    return torch.cat([equalities, rows * is_broken.unsqueeze(2)], 1)


def _damped_step(J: Tensor, c: Tensor, damping: Tensor) -> Tensor:
    """-(J'J + damping I)^-1 J'c, by a QR factorization of [J ; sqrt(damping) I]."""
    batch, k, n = J.shape
    unit = torch.eye(n, dtype=J.dtype, device=J.device).expand(batch, -1, -1)
    stacked = torch.cat([J, damping.sqrt().view(-1, 1, 1) * unit], 1)
    Q, R = torch.linalg.qr(stacked.nan_to_num(0.0, 0.0, 0.0))
    right = -transposed(Q[:, :k], c).unsqueeze(2)
    return torch.linalg.solve_triangular(R, right, upper=True).squeeze(2)


def _is_stationary(program: MinimizeProgram, x: Tensor, J: Tensor, c: Tensor) -> Tensor:
    """Whether no small move within the bounds lowers |c|, bool [B]."""
    slope = transposed(J, c)
    low, high = _limits(program, x)
    moved = torch.minimum(torch.maximum(x - slope, low), high) - x
    size = torch.linalg.vector_norm(J, dim=(1, 2)).clamp_min(1.0) * c.norm(dim=1)
    return moved.norm(dim=1) <= STATIONARY * size


def _square(c: Tensor) -> Tensor:
    return c.square().sum(1).nan_to_num(nan=torch.inf)
