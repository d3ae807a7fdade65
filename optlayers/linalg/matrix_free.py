"""Linear operators known by their products alone, solved by a Krylov method.

Nothing of size n x n is formed. A solve is linear in its right-hand side, so its
derivative is another solve, of any order.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from optlayers.linalg.krylov import Krylov, Product

# From a product J, its transpose, and a right-hand side to a solution.
KrylovSolver = Callable[[Product, Product, Tensor], Krylov]


@dataclass(frozen=True, eq=False)
class MatrixFreeOperator:
    """A batch of square maps; see `Operator` for the laws.

    Attributes:
        product: x -> J x, [B, n] -> [B, n].
        transposed: y -> J'y, [B, n] -> [B, n].
        solver: solves J x = r given both.
        batch_size: B.
    """

    product: Product
    transposed: Product
    solver: KrylovSolver
    condition: Tensor

    def matvec(self, x: Tensor) -> Tensor:
        """J x, [B, n] -> [B, n]."""
        return self.product(x)

    def solve(self, r: Tensor) -> Tensor:
        """J^-1 r, [B, n] -> [B, n]."""
        return _Solve.apply(r, self.product, self.transposed, self.solver)

    def solve_transposed(self, r: Tensor) -> Tensor:
        """J^-T r, [B, n] -> [B, n]."""
        return _Solve.apply(r, self.transposed, self.product, self.solver)


class _Solve(torch.autograd.Function):
    """J^-1 r with the derivative of a linear map."""

    @staticmethod
    def forward(
        ctx: Any, r: Tensor, product: Product, transposed: Product, solver: KrylovSolver
    ) -> Tensor:
        ctx.products = (transposed, product, solver)
        return solver(product, transposed, r).value

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        return _Solve.apply(gradients[0], *ctx.products), None, None, None
