"""Minima whose KKT matrix is singular, and regular only where the search ended.

A residual of r leaves the point O(r) from the solution, and the matrix O(r) from its
own: singular values of that size say nothing before the point is brought to rounding.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from optlayers.implicit.multiple_roots import at_multiple_root
from optlayers.linalg.dense import DenseOperator
from optlayers.programs.minimize import MinimizeProgram
from optlayers.solvers.minimize.finish import polish

# |J^-1| |F| from which the small singular values of J may be made by F alone: it is
# near 1 in a valley, and some thousandths at a regular point of condition 1e5.
DOUBTFUL = 1e-5


class Settled(NamedTuple):
    """Where the derivative is taken, near enough to the solution to judge it.

    Attributes:
        point: z, [B, n + me + m]; as given where there was no doubt.
        operator: dF/dz there.
        is_flat: whether Newton's corrections shrink linearly, as they do where the
            curvature vanishes in the limit, bool [B].
    """

    point: Tensor
    operator: DenseOperator
    is_flat: Tensor


def settled(
    program: MinimizeProgram, point: Tensor, operator: DenseOperator
) -> Settled:
    """Bring the points to rounding at which the matrix cannot be believed yet.

    Costs one evaluation of the residual as long as no sample is in doubt.

    Args:
        program: of B samples.
        point: z within the tolerance, [B, n + me + m].
        operator: dF/dz there.
    """
    if not point.numel():
        return Settled(point, operator, point.new_zeros(len(point), dtype=torch.bool))
    is_flat = at_multiple_root(program, point, operator)
    with torch.no_grad():
        residual = program.residual(point).abs().amax(1)
    reach = operator.inverse.abs().amax((1, 2)) * residual
    doubtful = reach > DOUBTFUL
    if not bool(doubtful.any()):
        return Settled(point, operator, is_flat)
    polished, _ = polish(program, point, program.violation(point))
    point = torch.where(doubtful.unsqueeze(1), polished, point)
    return Settled(point, program.linearize(point), is_flat)
