"""Solves with I - h gamma J, one matrix a step and sample, again and again."""

from collections.abc import Callable

import torch
from torch import Tensor

# Up to this many states an inverse and products with it cost less than triangular
# solves: at n = 50, B = 16, and eight solves 0.50 ms against 0.51, at n = 200, B = 8,
# 7.5 ms against 3.2.
INVERTED_SIZE = 50

# Up to this many states elimination written out becomes part of what a compiler makes
# one loop.
ELIMINATED_SIZE = 4

Solve = Callable[[Tensor], Tensor]


def shifted(jacobian: Tensor, shift: Tensor) -> Tensor:
    """I - s J, [B, n, n].

    Args:
        jacobian: J, [B, n, n].
        shift: s, [B].
    """
    size = jacobian.shape[1]
    unit = torch.eye(size, dtype=jacobian.dtype, device=jacobian.device)
    return torch.addcmul(unit, shift.view(-1, 1, 1), jacobian, value=-1)


def factorized(matrix: Tensor) -> Solve:
    """The map r -> M^-1 r, [B, n] -> [B, n], of M [B, n, n].

    Differentiable where M is. A singular matrix gives what is not finite, or useless.
    """
    size = matrix.shape[1]
    if torch.compiler.is_compiling() and size <= ELIMINATED_SIZE:
        inverse = eliminated(matrix)
        return lambda right: (inverse * right.unsqueeze(1)).sum(2)
    if size <= INVERTED_SIZE:
        inverse, _ = torch.linalg.inv_ex(matrix)
        return lambda right: torch.bmm(inverse, right.unsqueeze(2)).squeeze(2)
    factors, pivots, _ = torch.linalg.lu_factor_ex(matrix)

    def solve(right: Tensor) -> Tensor:
        found = torch.linalg.lu_solve(factors, pivots, right.unsqueeze(2))
        return found.squeeze(2)

    return solve


def eliminated(matrix: Tensor) -> Tensor:
    """M^-1, [B, n, n], by elimination with the largest pivots of each column."""
    size = matrix.shape[1]
    unit = torch.eye(size, dtype=matrix.dtype, device=matrix.device)
    rows = list(torch.cat((matrix, unit.expand_as(matrix)), 2).unbind(1))
    for k in range(size):
        for i in range(k + 1, size):
            upper, lower = rows[k], rows[i]
            is_larger = lower[:, k : k + 1].abs() > upper[:, k : k + 1].abs()
            rows[k] = torch.where(is_larger, lower, upper)
            rows[i] = torch.where(is_larger, upper, lower)
        pivot = rows[k] / rows[k][:, k : k + 1]
        rows = [
            pivot if i == k else row - row[:, k : k + 1] * pivot
            for i, row in enumerate(rows)
        ]
    return torch.stack([row[:, size:] for row in rows], 1)
