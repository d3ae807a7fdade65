"""Give a solver's point its derivative by the implicit function theorem.

If F(z, theta) = 0 then dz/dtheta = -J^-1 dF/dtheta with J = dF/dz. The chord step
z - J^-1 (F(z, theta) - F(z, theta).detach()) has the value z and this derivative; each
further step with the same J makes one more order of derivatives right.
"""

from typing import NamedTuple

from torch import Tensor

from optlayers.errors import OrderError
from optlayers.implicit.guard import limit_derivatives
from optlayers.interfaces import ImplicitProgram
from optlayers.linalg.operators import Operator


class Attached(NamedTuple):
    """A point with its derivative, and what its making left behind.

    Attributes:
        point: the value, differentiable `order` times, [B, n].
        previous: the value with derivatives right to `order` - 1 only, unguarded:
            enough wherever the point enters stationarily (the envelope theorem).
        condition: estimated condition number of J, [B]; inf where J is singular and
            the derivative is the minimum-norm least-squares one.
    """

    point: Tensor
    previous: Tensor
    condition: Tensor


def attach_gradient(value: Tensor, program: ImplicitProgram, order: int = 1) -> Tensor:
    """Return `value`, bitwise, with its derivative in the numbers of `program`.

    Args:
        value: a solution of `program`, detached, [B, n].
        program: differentiable in its tensors; of the same batch.
        order: how often the result may be differentiated, 1 or more.

    Raises:
        OrderError: `order` is no integer from 1 on or above the highest of the program;
            or later, when the result is differentiated more than `order` times.
    """
    return attach(value, program, order).point


def attach(
    value: Tensor,
    program: ImplicitProgram,
    order: int = 1,
    operator: Operator | None = None,
) -> Attached:
    """`attach_gradient`, together with the condition of the linearization.

    Args:
        value: a solution of `program`, detached, [B, n].
        program: differentiable in its tensors; of the same batch.
        order: how often the result may be differentiated, 1 or more.
        operator: the linearization at `value`, if it is at hand.
    """
    _check_order(order, program.highest_order)
    value = value.detach()
    if operator is None:
        operator = program.linearize(value)
    point = previous = value
    for _ in range(order):
        previous = point
        residual = program.residual(previous)
        point = previous - operator.solve(residual - residual.detach())
    return Attached(limit_derivatives(point, order), previous, operator.condition)


def _check_order(order: int, highest: int | None) -> None:
    if isinstance(order, bool) or not isinstance(order, int) or order < 1:
        raise OrderError(f"order={order!r}: give an integer, 1 or more.")
    if highest is not None and order > highest:
        raise OrderError(
            f"order={order}: derivatives of this program are right up to order "
            f"{highest}; give order={highest} or less."
        )
