"""The symmetric root of a positive semidefinite matrix, differentiable where singular.

R R = Q. The derivative solves R dR + dR R = dQ in the eigenbasis of R, 1/(r_i + r_j)
being zero where both eigenvalues vanish: exact in every direction that keeps Q positive
semidefinite and its rank, whatever eigenvalues coincide.
"""

import torch
from torch import Tensor

# Relative to the largest; below it an eigenvalue of Q counts as zero. Rounding leaves
# about 1e-16 of the largest, whose root would be 1e-8.
RANK_TOLERANCE = 1e-13


def symmetric_root(matrix: Tensor) -> Tensor:
    """R with R R = Q and R symmetric positive semidefinite, [n, n] -> [n, n].

    Twice differentiable. Directions that leave the semidefinite cone, or that raise the
    rank, have no derivative; their part is dropped.
    """
    symmetric = (matrix + matrix.mT) / 2
    values, vectors = torch.linalg.eigh(symmetric.detach())
    largest = values.amax(-1, keepdim=True).clamp_min(0)
    values = torch.where(values > RANK_TOLERANCE * largest, values, 0.0)
    roots = values.sqrt()
    root = (vectors * roots.unsqueeze(-2)) @ vectors.mT
    sums = roots.unsqueeze(-1) + roots.unsqueeze(-2)
    is_zero = sums == 0
    inverse = torch.where(is_zero, 0.0, 1 / torch.where(is_zero, 1.0, sums))
    for _ in range(2):
        # A Newton step that moves nothing, for R R = Q holds, but attaches one order of
        # the derivative; the two steps make it right to the second order.
        excess = root @ root - symmetric
        excess = excess - excess.detach()
        step = vectors @ (inverse * (vectors.mT @ excess @ vectors)) @ vectors.mT
        root = root - step
    # Of second order only: a root of rank r is given by its rows on the range of Q,
    # R_00 = R_01 R_11^-1 R_10 on the kernel, where the steps above leave zero.
    is_kernel = (roots == 0).to(roots)
    split = vectors.mT @ root @ vectors
    pseudo = torch.where(roots == 0, 0.0, 1 / torch.where(roots == 0, 1.0, roots))
    kernel = is_kernel.unsqueeze(-1) * (split * pseudo.unsqueeze(-2)) @ split
    return root + vectors @ (kernel * is_kernel.unsqueeze(-2)) @ vectors.mT
