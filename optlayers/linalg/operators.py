"""The contract of a batched linear operator J, [B, n, n].

Laws: solve(matvec(x)) = x and solve_transposed is the transpose of solve, both up to
rounding; where J is singular both give the minimum-norm least-squares solution.
"""

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Operator(Protocol):
    """A batch of square linear maps with a factorization that is reused."""

    @property
    def condition(self) -> Tensor:
        """Estimated condition number per sample, [B]; inf where singular."""
        ...

    def matvec(self, x: Tensor) -> Tensor:
        """J x, [B, n] -> [B, n]."""
        ...

    def solve(self, r: Tensor) -> Tensor:
        """J^-1 r, [B, n] -> [B, n]; differentiable in r."""
        ...

    def solve_transposed(self, r: Tensor) -> Tensor:
        """J^-T r, [B, n] -> [B, n]; differentiable in r."""
        ...
