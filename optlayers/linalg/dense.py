"""Dense batched operators: one inverse per matrix, then matrix products only.

A matrix that is singular to working precision gets its Moore-Penrose inverse, so that
its solves are minimum-norm least-squares solutions, and the condition inf.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

# 1-norm condition, after scaling rows and columns to unit largest entry, from which a
# float64 matrix counts as singular. Rounding in an exactly singular matrix shows up at
# 1e15 and above; 1e13 leaves two digits for its size.
SINGULAR_CONDITION = 1e13
# Singular values below this fraction of the largest count as zero in the
# pseudo-inverse; above the rounding of a matrix of some thousand rows.
ZERO_SINGULAR_VALUE = 1e-12


@dataclass(frozen=True, eq=False)
class DenseOperator:
    """A batch of square matrices with their inverses; see `Operator` for the laws.

    Attributes:
        matrix: J, [B, n, n].
        inverse: J^-1, or the pseudo-inverse where J is singular, [B, n, n].
        condition: condition number estimate, [B]; inf where singular.
    """

    matrix: Tensor
    inverse: Tensor
    condition: Tensor

    @classmethod
    def from_matrix(cls, matrix: Tensor) -> "DenseOperator":
        """Factorize J, [B, n, n], as a constant: no derivative reaches it."""
        constant = matrix.detach()
        return cls(constant, *pseudo_inverse(constant))

    def matvec(self, x: Tensor) -> Tensor:
        """J x, [B, n] -> [B, n]."""
        return (self.matrix @ x.unsqueeze(2)).squeeze(2)

    def solve(self, r: Tensor) -> Tensor:
        """J^-1 r, [B, n] -> [B, n]."""
        return (self.inverse @ r.unsqueeze(2)).squeeze(2)

    def solve_transposed(self, r: Tensor) -> Tensor:
        """J^-T r, [B, n] -> [B, n]."""
        return (r.unsqueeze(1) @ self.inverse).squeeze(1)


@torch.library.custom_op("optlayers::pseudo_inverse", mutates_args=())
def pseudo_inverse(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Inverses of a batch, pseudo-inverses where there is none.

    Args:
        matrix: [B, n, n]; constant (it has no derivative).

    Returns:
        The inverses [B, n, n] and condition numbers [B]: the 1-norm condition of the
        matrix with rows and columns scaled to unit largest entry; inf where it exceeds
        `SINGULAR_CONDITION`. Rows that are not finite give zeros and NaN.
    """
    batch, n, _ = matrix.shape
    if batch == 0 or n == 0:
        return torch.zeros_like(matrix), matrix.new_ones(batch)
    inverse, info = torch.linalg.inv_ex(matrix)
    condition = _scaled_condition(matrix, inverse)
    # Not `>`: a NaN condition (an exactly singular or a non-finite matrix) is caught.
    is_suspect = ~(condition < SINGULAR_CONDITION) | (info != 0)
    if not bool(is_suspect.any()):
        return inverse, condition
    is_finite = matrix.isfinite().all(2).all(1)
    is_singular = is_suspect & is_finite
    inverse[is_singular] = torch.linalg.pinv(
        matrix[is_singular], rtol=ZERO_SINGULAR_VALUE
    )
    inverse[~is_finite] = 0.0
    condition = condition.masked_fill(is_singular, torch.inf)
    return inverse, condition.masked_fill(~is_finite, torch.nan)


@pseudo_inverse.register_fake
def _(matrix: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(matrix), matrix.new_empty(matrix.shape[0])


@pseudo_inverse.register_vmap
def _(info, in_dims, matrix):  # noqa: ANN001, ANN202 (signature fixed by torch)
    rows = matrix.movedim(in_dims[0], 0)
    inverse, condition = pseudo_inverse(rows.flatten(0, 1))
    lead = rows.shape[:2]
    return (inverse.unflatten(0, lead), condition.unflatten(0, lead)), (0, 0)


def _scaled_condition(matrix: Tensor, inverse: Tensor) -> Tensor:
    """1-norm condition of R J C, [B], R and C scaling to unit largest entries."""
    size = matrix.abs()
    row = size.amax(2, keepdim=True)
    size = size / row
    column = size.amax(1)
    norm = (size.sum(1) / column).amax(1)
    # (R J C)^-1 = C^-1 J^-1 R^-1, whose column sums are one vector-matrix product.
    inverse_sums = (column.unsqueeze(1) @ inverse.abs()).squeeze(1) * row.squeeze(2)
    return norm * inverse_sums.amax(1)
