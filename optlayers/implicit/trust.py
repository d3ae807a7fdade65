"""Whether the derivative of a minimum can be trusted, by three conditions at its point.

Independent active constraints, second-order sufficiency, and strict complementarity
together make the solution a differentiable function of the data.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from optlayers.implicit.transforms import is_transformed
from optlayers.linalg.dense import DenseOperator
from optlayers.programs.minimize import MinimizeProgram

# A null vector has unit length; parts below this are rounding of a pseudo-inverse.
PART_OF_NULL_SPACE = 1e-6
# Curvatures 1/d of which d is below this share of the largest are rounding.
FLAT = 1e-9


class Trust(NamedTuple):
    """What the KKT matrix says of its solution.

    Attributes:
        is_determined: whether the derivative of x is the only one, bool [B].
        are_multipliers_unique: whether the gradients of active constraints are
            independent (LICQ), so that no other multipliers exist, bool [B].
        is_minimum: whether the Hessian of the Lagrangian is positive definite along
            the active constraints, bool [B]: a strict local minimum, if no multiplier
            of an active constraint is zero.
        condition: of the KKT matrix, [B]; that of its pseudo-inverse where it is
            singular in unknowns alone that nobody declared, inf where in others.
    """

    is_determined: Tensor
    are_multipliers_unique: Tensor
    is_minimum: Tensor
    condition: Tensor


def trust(
    program: MinimizeProgram, operator: DenseOperator, declared: int | None = None
) -> Trust:
    """Read the conditions off the KKT matrix and its inverse, which are at hand.

    The block of x of the inverse is Z (Z'HZ)^-1 Z', where Z spans the directions along
    the active constraints and H is the Hessian of the Lagrangian.

    Args:
        program: of B samples.
        operator: dF/dz at the solutions.
        declared: how many of the unknowns count, the first; None for all.

    Source: J. Nocedal, S. J. Wright, Numerical Optimization (2006), theorem 12.6 and
    section 16.1.
    """
    n = program.size
    declared = n if declared is None else declared
    if not declared:
        every = torch.ones_like(operator.condition, dtype=torch.bool)
        return Trust(every, every, every, operator.condition)
    is_free, is_unique = _null_space(operator, n, declared)
    block = operator.inverse[:, :declared, :declared]
    block = (block + block.mT) / 2
    # Zeros of the directions across stand in it, which rounding makes negative.
    lift = _rounding_of(operator, n).unsqueeze(1).expand(-1, declared)
    lifted = block + torch.diag_embed(lift)
    _, failed = torch.linalg.cholesky_ex(lifted)
    # A curvature of 1/d that rounding makes of functions of size 1 is none.
    is_curved = block.abs().amax((1, 2)) * 10 * torch.finfo(block.dtype).eps < 1
    norm = torch.linalg.vector_norm
    sizes = norm(operator.matrix, dim=(1, 2)) * norm(operator.inverse, dim=(1, 2))
    condition = torch.where(~is_free & is_unique, sizes, torch.inf)
    condition = torch.where(operator.condition.isinf(), condition, operator.condition)
    is_minimum = (failed == 0) & is_curved & ~is_free
    return Trust(~is_free, is_unique, is_minimum, condition)


def complementarity(program: MinimizeProgram, point: Tensor, ok: Tensor) -> Tensor:
    """How far the active constraints are from changing, [B]; NaN where not solved.

    The smallest of max(lam, s) over all rows, multipliers relative to the largest and
    slacks to the largest unknown where these are above 1; inf without rows.

    Args:
        program: of B samples.
        point: the solutions, [B, n + me + m].
        ok: which samples are solved, bool [B].
    """
    x, _, lam, s = program.split(point)
    if not program.row_count:
        return torch.where(ok, torch.inf, point.new_full((len(point),), torch.nan))
    slack = s / x.abs().amax(1, keepdim=True).clamp_min(1)
    price = lam / lam.amax(1, keepdim=True).clamp_min(1)
    return torch.where(ok, torch.maximum(slack, price).amin(1), torch.nan)


def _rounding_of(operator: DenseOperator, n: int) -> Tensor:
    """What entries of the block of x in the inverse may be wrong by, [B]."""
    eps = 10 * torch.finfo(operator.inverse.dtype).eps
    rows = operator.inverse[:, :n].abs()
    own, largest = rows[:, :, :n].amax((1, 2)), rows.amax((1, 2))
    condition = operator.condition.nan_to_num(0.0, 0.0)
    return torch.maximum(own * (eps * condition).clamp_min(FLAT), 10 * eps * largest)


def _null_space(
    operator: DenseOperator, n: int, declared: int
) -> tuple[Tensor, Tensor]:
    """Whether the null space of dF/dz has a part in x, and none in the multipliers."""
    is_singular = operator.condition.isinf()
    none = torch.zeros_like(is_singular)
    if not is_transformed() and not bool(is_singular.any()):
        return none, ~none
    matrix = operator.matrix
    one = torch.eye(matrix.shape[1], dtype=matrix.dtype, device=matrix.device)
    null = one - operator.inverse @ matrix
    is_there = null.abs().amax(2) > PART_OF_NULL_SPACE
    # dlam/dv - 1 is -1 in rows that are not active: what moves there is a slack.
    is_price = matrix.diagonal(dim1=1, dim2=2)[:, n:] != -1
    in_x = is_there[:, :declared].any(1)
    in_rest = (is_there[:, n:] & is_price).any(1)
    return in_x & is_singular, ~(in_rest & is_singular)
