"""Roots whose Jacobian is singular in the limit only, and regular where a search ends.

Newton's corrections shrink linearly there, d_(k+1) / d_k -> 1 - 1/m at a root of
multiplicity m, and at a regular root quadratically.
"""

import torch
from torch import Tensor

from optlayers.interfaces import ImplicitProgram
from optlayers.linalg.operators import Operator

# Corrections to compare; three in all.
REPEATED = 2
# A double root has 1/2, one of higher multiplicity more; a regular one, found to some
# digits, a ratio near zero. Of exp(-x), which has none, it is 1 up to rounding.
LINEAR = (0.4, 1.001)


def at_multiple_root(
    program: ImplicitProgram, point: Tensor, operator: Operator
) -> Tensor:
    """Which points lie next to a root that has no derivative, bool [B].

    Costs one evaluation of the residual, as long as no sample is suspected: a
    correction below the square root of the rounding may be all rounding.

    Args:
        program: of B systems.
        point: approximate roots, [B, n].
        operator: dF/dz there.

    Source: D. W. Decker, H. B. Keller, C. T. Kelley, Convergence rates for Newton's
    method at singular points (1983), theorem 1.1.
    """
    scale = point.abs().amax(1).clamp_min(1)
    least = torch.finfo(point.dtype).eps ** 0.5 * scale
    correction = _correction(program, point, operator)
    size = correction.abs().amax(1)
    suspected = size > least
    for _ in range(REPEATED):
        if not bool(suspected.any()):
            break
        point = torch.where(suspected.unsqueeze(1), point - correction, point)
        correction = _correction(program, point, program.linearize(point))
        previous, size = size, correction.abs().amax(1)
        ratio = size / previous
        suspected &= (size > least) & (ratio >= LINEAR[0]) & (ratio <= LINEAR[1])
    return suspected


def _correction(program: ImplicitProgram, point: Tensor, operator: Operator) -> Tensor:
    """J^-1 F, [B, n]."""
    with torch.no_grad():
        return operator.solve(program.residual(point))
