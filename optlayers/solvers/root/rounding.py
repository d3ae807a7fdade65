"""Residuals that are as small as the rounding of the unknowns lets them be.

|F_i(z)| <= 4 eps sum_j |dF_i/dz_j| |z_j|: changing every z_j by so many of its own
roundings changes F_i by as much, so that no z of this precision is better for sure.
"""

import torch
from torch import Tensor

from optlayers.programs.root import RootProgram

ROUNDINGS = 4
# Dense Jacobians are made up to so many unknowns,
DENSE_SIZE = 1024
# and while those of a batch have no more entries than this, 256 MiB in float64.
DENSE_ENTRIES = 2**25


def can_be_dense(program: RootProgram) -> bool:
    """Whether the Jacobians of the batch can be held."""
    entries = program.batch_size * program.size**2
    return program.size <= DENSE_SIZE and entries <= DENSE_ENTRIES


def is_rounding(program: RootProgram, point: Tensor) -> Tensor:
    """Whether every entry of the residual may be rounding alone, bool [B].

    False of residuals that are not finite, and of all samples where their Jacobians
    are too large or cannot be had.

    Args:
        program: of B systems.
        point: z, [B, n].
    """
    none = torch.zeros(len(point), dtype=torch.bool, device=point.device)
    if not can_be_dense(program):
        return none
    try:
        residual, jacobian = program.residual_and_jacobian(point)
    except RuntimeError:  # a function that autograd cannot enter
        return none
    moved = torch.bmm(jacobian.abs(), point.detach().abs().unsqueeze(2)).squeeze(2)
    limit = ROUNDINGS * torch.finfo(point.dtype).eps * moved
    return ((residual.abs() <= limit) & limit.isfinite()).all(1)
