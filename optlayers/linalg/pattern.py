"""Sparse matrices as values on a fixed pattern, batched by their values alone.

Products gather and `index_add`, so the gradient of the values stays on the pattern and
no dense matrix is formed.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from optlayers.errors import ShapeError


@dataclass(frozen=True, eq=False)
class Pattern:
    """Positions of the entries of a matrix, in the order of its values.

    Attributes:
        rows: row of each entry, int64 [nnz].
        cols: column of each entry, int64 [nnz].
        shape: (m, n).
        places: number of each entry in the dense matrix read row by row, int64 [nnz].
    """

    rows: Tensor
    cols: Tensor
    shape: tuple[int, int]
    # At once, not on demand: a cached property locks, which torch.compile cannot trace.
    places: Tensor = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "places", self.rows * self.shape[1] + self.cols)

    @classmethod
    def row_major(
        cls, rows: np.ndarray, cols: np.ndarray, shape: tuple[int, int]
    ) -> "Pattern":
        """The positions sorted row by row, each once."""
        columns = max(shape[1], 1)
        places = np.unique(rows.astype(np.int64) * columns + cols)
        rows, cols = np.divmod(places, columns)
        return cls(torch.from_numpy(rows), torch.from_numpy(cols), shape)

    @property
    def size(self) -> int:
        """The number of entries, nnz."""
        return self.rows.shape[0]

    @cached_property
    def is_simple(self) -> bool:
        """Whether no position comes twice."""
        return len(self.places.unique()) == self.size

    @cached_property
    def transposed(self) -> "Pattern":
        """The pattern of the transpose, its entries in the same order."""
        m, n = self.shape
        return Pattern(self.cols, self.rows, (n, m))

    @cached_property
    def mirror(self) -> Tensor | None:
        """For each entry the number of the one across the diagonal, int64 [nnz].

        None if some entry has none, or the matrix is not square.
        """
        if self.shape[0] != self.shape[1]:
            return None
        found = self.find(self.transposed.places)
        return None if bool((found < 0).any()) else found

    def find(self, places: Tensor) -> Tensor:
        """The number of the entry at each place, -1 where there is none; int64 [k]."""
        order = self.places.argsort()
        known = self.places[order]
        if not len(known):
            return torch.full_like(places, -1)
        at = torch.searchsorted(known, places).clamp_max(len(known) - 1)
        return torch.where(known[at] == places, order[at], -1)

    def scatter(self, values: Tensor) -> Tensor:
        """The dense matrix, [*batch, nnz] -> [*batch, m, n]."""
        m, n = self.shape
        flat = values.new_zeros(*values.shape[:-1], m * n)
        places = self.places.to(values.device)
        return flat.index_add(-1, places, values).unflatten(-1, (m, n))

    def gather(self, matrix: Tensor) -> Tensor:
        """The entries of a dense matrix, [*batch, m, n] -> [*batch, nnz]."""
        return matrix.flatten(-2).index_select(-1, self.places.to(matrix.device))

    def compressed(self, values: np.ndarray) -> sp.csc_array:
        """A scipy matrix with these values, [nnz]; repeated positions add up."""
        positions = (self.rows.numpy(), self.cols.numpy())
        return sp.csc_array(sp.coo_array((values, positions), shape=self.shape))


@dataclass(frozen=True, eq=False)
class PatternMatrix:
    """A matrix, or B of them, with shared positions; repeated positions add up.

    Attributes:
        values: entries, [nnz] or [B, nnz].
        rows: row of each entry, int64 [nnz].
        cols: column of each entry, int64 [nnz].
        shape: (m, n).

    Raises:
        ShapeError: values, rows and cols do not have one entry each per position.
    """

    values: Tensor
    rows: Tensor
    cols: Tensor
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        given, rows, cols = self.values.shape, self.rows.shape, self.cols.shape
        if self.values.ndim not in (1, 2) or not given[-1:] == rows == cols:
            raise ShapeError(
                f"PatternMatrix: values {list(given)}, rows {list(rows)}, cols "
                f"{list(cols)} do not fit; give values [nnz] or [B, nnz], rows [nnz] "
                "and cols [nnz]."
            )

    @property
    def is_batched(self) -> bool:
        """Whether each sample has values of its own."""
        return self.values.ndim == 2

    def to_dense(self) -> Tensor:
        """The matrix with its zeros, [m, n] or [B, m, n]."""
        m, n = self.shape
        places = self.rows * n + self.cols
        flat = self.values.new_zeros(*self.values.shape[:-1], m * n)
        return flat.index_add(-1, places, self.values).unflatten(-1, (m, n))

    def matvec(self, x: Tensor) -> Tensor:
        """M x, [B, n] -> [B, m]."""
        products = self.values * x.index_select(1, self.cols)
        zeros = x.new_zeros(x.shape[0], self.shape[0])
        return zeros.index_add(1, self.rows, products)

    def transposed_matvec(self, y: Tensor) -> Tensor:
        """M' y, [B, m] -> [B, n]."""
        products = self.values * y.index_select(1, self.rows)
        zeros = y.new_zeros(y.shape[0], self.shape[1])
        return zeros.index_add(1, self.cols, products)

    def with_values(self, values: Tensor) -> "PatternMatrix":
        """The same pattern with other values, [nnz] or [B, nnz]."""
        return replace(self, values=values)

    def detach(self) -> "PatternMatrix":
        """The same matrix, cut from every derivative."""
        return self.with_values(self.values.detach())
