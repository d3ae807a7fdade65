"""Dense batched operators: one inverse per matrix, then matrix products only.

A matrix that is singular to working precision gets its Moore-Penrose inverse, so that
its solves are minimum-norm least-squares solutions, and the condition inf.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Condition number from which a float64 matrix counts as singular. Rounding in an
# exactly singular one shows up at 1e15 and above; 1e13 leaves two digits for its size.
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


def pseudo_inverse(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Inverses of a batch, pseudo-inverses where there is none.

    An opaque operator, so that the choice between the two may depend on the numbers
    under `torch.compile` and `torch.func` too.

    Args:
        matrix: [B, n, n]; constant (it has no derivative).

    Returns:
        The inverses [B, n, n] and condition numbers [B] in the Frobenius norm, inf
        where singular: where the condition exceeds `SINGULAR_CONDITION` also after rows
        and columns are scaled. Matrices that are not finite give zeros and NaN.
    """
    return torch.ops.optlayers.pseudo_inverse.default(matrix)


# Not `custom_op`: its Python layers for autograd, which a constant does not need, cost
# 45 us a call, a tenth of attaching a gradient to one small program.
torch.library.define(
    "optlayers::pseudo_inverse",
    "(Tensor matrix) -> (Tensor, Tensor)",
    tags=(torch.Tag.pt2_compliant_tag,),
)


def _invert(matrix: Tensor) -> tuple[Tensor, Tensor]:
    batch, n, _ = matrix.shape
    if batch == 0 or n == 0:
        return matrix.new_zeros(matrix.shape).mT, matrix.new_ones(batch)
    inverse, _ = torch.linalg.inv_ex(matrix)
    norm = torch.linalg.vector_norm
    condition = norm(matrix, dim=(1, 2)) * norm(inverse, dim=(1, 2))
    # Not `>=`: the condition of what has no inverse may be NaN.
    is_suspect = ~(condition < SINGULAR_CONDITION)
    if is_suspect.any():
        which = is_suspect.nonzero().squeeze(1)
        revised = _examine(matrix[which], inverse[which])
        inverse[which], condition[which] = revised
    return inverse, condition


torch.library.impl("optlayers::pseudo_inverse", "CompositeExplicitAutograd", _invert)


@torch.library.register_fake("optlayers::pseudo_inverse")
def _(matrix: Tensor) -> tuple[Tensor, Tensor]:
    # `inv_ex` writes its result column by column.
    return matrix.new_empty(matrix.shape).mT, matrix.new_empty(matrix.shape[0])


def _invert_mapped(
    info: Any, in_dims: tuple[int, ...], matrix: Tensor
) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
    """The rule for `vmap`: [V, B, n, n] is a batch of V * B."""
    stacked = matrix.movedim(in_dims[0], 0)
    inverse, condition = pseudo_inverse(stacked.flatten(0, 1))
    lead = stacked.shape[:2]
    return (inverse.unflatten(0, lead), condition.unflatten(0, lead)), (0, 0)


torch.library.register_vmap("optlayers::pseudo_inverse", _invert_mapped)


def _examine(matrix: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
    """Tell badly scaled from singular matrices, and pseudo-invert the latter."""
    condition = _scaled_condition(matrix, inverse)
    is_finite = matrix.isfinite().all(2).all(1)
    is_singular = is_finite & ~(condition < SINGULAR_CONDITION)
    inverse[is_singular] = torch.linalg.pinv(
        matrix[is_singular], rtol=ZERO_SINGULAR_VALUE
    )
    inverse[~is_finite] = 0.0
    condition = condition.masked_fill(is_singular, torch.inf)
    return inverse, condition.masked_fill(~is_finite, torch.nan)


def _scaled_condition(matrix: Tensor, inverse: Tensor) -> Tensor:
    """1-norm condition of R J C, [k], R and C scaling to unit largest entries."""
    size = matrix.abs()
    row = size.amax(2, keepdim=True)
    size = size / row
    column = size.amax(1)
    norm = (size.sum(1) / column).amax(1)
    # (R J C)^-1 = C^-1 J^-1 R^-1, whose column sums are one vector-matrix product.
    inverse_sums = (column.unsqueeze(1) @ inverse.abs()).squeeze(1) * row.squeeze(2)
    return norm * inverse_sums.amax(1)


def times(matrix: Tensor, vector: Tensor) -> Tensor:
    """M x, [B, m, n] and [B, n] -> [B, m]."""
    return torch.bmm(matrix, vector.unsqueeze(2)).squeeze(2)
