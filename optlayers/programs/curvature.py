"""Where a KKT point can be left downwards: the second-order condition.

At a minimum Z'WZ is positive semidefinite, W the Hessian of the Lagrangian and Z a
basis of the directions along which all equalities and all rows with positive
multipliers stay as they are. Source: J. Nocedal, S. Wright, Numerical Optimization
(2006), theorem 12.5 and section 12.5 on projected Hessians.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from optlayers.programs.minimize import MinimizeProgram


class ReducedCurvature(NamedTuple):
    """The lowest curvature of the Lagrangian along the constraints.

    Attributes:
        lowest: the least eigenvalue of Z'WZ relative to the largest entry of W, [B];
            inf where no direction is left.
        direction: Zv of it, of length 1, [B, n]; zero where no direction is left.
    """

    lowest: Tensor
    direction: Tensor


def reduced_curvature(program: MinimizeProgram, point: Tensor) -> ReducedCurvature:
    """The lowest curvature at a KKT point, from one dense factorization a sample.

    Args:
        program: of B samples.
        point: z = (x, y, v), [B, n + me + m].
    """
    x, y, lam, s = program.split(point.detach())
    W, Jh, Jr = program.evaluate(x, y, lam).derivatives()
    if W.shape[1] == 0:
        return ReducedCurvature(torch.full_like(x.sum(1), torch.inf), x)
    is_held = (lam > s).unsqueeze(2)
    normals = torch.cat([Jh, Jr * is_held], 1).nan_to_num(0.0, 0.0, 0.0)
    W = W.nan_to_num(0.0, 0.0, 0.0)
    size = W.abs().amax((1, 2)).clamp_min(torch.finfo(W.dtype).tiny)
    basis, is_free = _null_space(normals)
    reduced = basis.mT @ (W / size.view(-1, 1, 1)) @ basis
    # Columns that span the normals get a curvature above every other.
    both = is_free.unsqueeze(1) & is_free.unsqueeze(2)
    # Not torch.where of two numbers, which takes torch's default dtype.
    high = torch.diag_embed(2.0 * W.shape[1] * (~is_free).to(W))
    values, vectors = torch.linalg.eigh(reduced * both + high)
    has_one = is_free.any(1)
    lowest = torch.where(has_one, values[:, 0], torch.inf)
    direction = (basis @ vectors[:, :, :1]).squeeze(2)
    return ReducedCurvature(lowest, direction * has_one.unsqueeze(1))


def _null_space(normals: Tensor) -> tuple[Tensor, Tensor]:
    """An orthonormal basis, [B, n, n], and its columns that no normal sees, [B, n]."""
    n = normals.shape[2]
    # Rows of length 1, so that the rank does not depend on their units.
    length = normals.norm(dim=2, keepdim=True)
    normals = normals / torch.where(length > 0, length, 1.0)
    values, basis = torch.linalg.eigh(normals.mT @ normals)
    rounding = n * torch.finfo(normals.dtype).eps ** 0.5
    return basis, values <= rounding
