"""Damped linear least squares: the d that makes |A d + b|^2 + |D d|^2 least.

Methods hold A as plain numbers and read them through its structure: dense here, on a
pattern in `schur`.
"""

from typing import Protocol

import torch
from torch import Tensor


class Structure(Protocol):
    """How B matrices A of k rows and n columns are held as numbers [B, ...]."""

    def product(self, A: Tensor, x: Tensor) -> Tensor:
        """A x, [B, n] -> [B, k]."""
        ...

    def transposed(self, A: Tensor, y: Tensor) -> Tensor:
        """A'y, [B, k] -> [B, n]."""
        ...

    def scaled(self, A: Tensor, rows: Tensor | None, columns: Tensor | None) -> Tensor:
        """A with rows times numbers [B, k], and columns times numbers [B, n]."""
        ...

    def lengths(self, A: Tensor) -> Tensor:
        """The length of each column, [B, n]."""
        ...

    def damped(self, A: Tensor, D: Tensor) -> "Damped":
        """A and D, [B, n], factorized."""
        ...


class Damped(Protocol):
    """A factorization of A'A + D^2."""

    def solve(self, b: Tensor) -> Tensor:
        """The d with least |A d + b|^2 + |D d|^2, [B, k] -> [B, n]."""
        ...


class DenseStructure:
    """A as it is, [B, k, n]."""

    def product(self, A: Tensor, x: Tensor) -> Tensor:
        """A x, [B, n] -> [B, k]."""
        return torch.bmm(A, x.unsqueeze(2)).squeeze(2)

    def transposed(self, A: Tensor, y: Tensor) -> Tensor:
        """A'y, [B, k] -> [B, n]."""
        return torch.bmm(A.mT, y.unsqueeze(2)).squeeze(2)

    def scaled(self, A: Tensor, rows: Tensor | None, columns: Tensor | None) -> Tensor:
        """A with rows times numbers [B, k], and columns times numbers [B, n]."""
        A = A if rows is None else A * rows.unsqueeze(2)
        return A if columns is None else A * columns.unsqueeze(1)

    def lengths(self, A: Tensor) -> Tensor:
        """The length of each column, [B, n]."""
        return A.norm(dim=1)

    def damped(self, A: Tensor, D: Tensor) -> "DenseDamped":
        """A and D, [B, n], factorized."""
        return DenseDamped(A, D)


class DenseDamped:
    """A QR factorization of [A ; D], which squares no condition number."""

    def __init__(self, A: Tensor, D: Tensor) -> None:
        self._count = A.shape[1]
        self._Q, self._R = torch.linalg.qr(torch.cat([A, torch.diag_embed(D)], 1))

    def solve(self, b: Tensor) -> Tensor:
        """The d with least |A d + b|^2 + |D d|^2, [B, k] -> [B, n]."""
        right = torch.bmm(self._Q[:, : self._count].mT, -b.unsqueeze(2))
        return torch.linalg.solve_triangular(self._R, right, upper=True).squeeze(2)


DENSE = DenseStructure()
