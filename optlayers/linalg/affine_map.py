"""Affine maps from the leaves of a problem to the numbers of its program.

values = constant + sum_k M_k theta_k, with each M_k stored in the form that is fastest
for it: a gather, a dense matrix, or gathered products that are summed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from optlayers.errors import ShapeError

# Entries up to which a dense product beats gathering and summing at batch 64.
DENSE_ENTRIES = 20_000


@dataclass(frozen=True, eq=False)
class GatherMap:
    """M theta for an M with at most one entry a row.

    Attributes:
        cols: column of the entry of each row (any column where it is 0), int64 [r].
        coefficients: the entries, [r]; None if all are 1.
    """

    cols: Tensor
    coefficients: Tensor | None

    def __call__(self, leaf: Tensor) -> Tensor:
        """M theta, [size] -> [r] or [B, size] -> [B, r]."""
        values = leaf.index_select(-1, self.cols.to(leaf.device))
        if self.coefficients is None:
            return values
        return values * self.coefficients.to(leaf)


@dataclass(frozen=True, eq=False)
class DenseMap:
    """M theta for a small M.

    Attributes:
        matrix: M, [r, size].
    """

    matrix: Tensor

    def __call__(self, leaf: Tensor) -> Tensor:
        """M theta, [size] -> [r] or [B, size] -> [B, r]."""
        return leaf @ self.matrix.to(leaf).mT


@dataclass(frozen=True, eq=False)
class ScatterMap:
    """M theta for a large sparse M: entries are gathered, scaled and summed by row.

    Attributes:
        rows: row of each entry, int64 [nnz].
        cols: column of each entry, int64 [nnz].
        coefficients: the entries, [nnz].
        size: number of rows r.
    """

    rows: Tensor
    cols: Tensor
    coefficients: Tensor
    size: int

    def __call__(self, leaf: Tensor) -> Tensor:
        """M theta, [size] -> [r] or [B, size] -> [B, r]."""
        entries = leaf.index_select(-1, self.cols.to(leaf.device))
        products = entries * self.coefficients.to(leaf)
        zeros = leaf.new_zeros(*leaf.shape[:-1], self.size)
        return zeros.index_add(-1, self.rows.to(leaf.device), products)


SparseMap = GatherMap | DenseMap | ScatterMap


@dataclass(frozen=True, eq=False)
class AffineMap:
    """values = constant + sum of M_k theta_k over the leaves it depends on.

    Attributes:
        constant: [r].
        terms: (k, M_k) for each leaf k with an entry.
        is_linear: whether the constant is zero.
    """

    constant: Tensor
    terms: tuple[tuple[int, SparseMap], ...]
    is_linear: bool

    @classmethod
    def from_sparse(cls, matrix: sp.spmatrix, leaf_sizes: Sequence[int]) -> "AffineMap":
        """Read the map from one matrix.

        Args:
            matrix: [r, sum of leaf_sizes + 1]: the columns of leaf 0, leaf 1, ... in C
                order of each leaf, and last the constant.
            leaf_sizes: number of entries of each leaf.

        Raises:
            ShapeError: the matrix has another number of columns.
        """
        total = sum(leaf_sizes)
        if matrix.shape[1] != total + 1:
            raise ShapeError(
                f"AffineMap: a matrix of {matrix.shape[1]} columns for leaves of sizes "
                f"{list(leaf_sizes)}; give {total} + 1, the constant last."
            )
        columns = sp.csc_matrix(matrix, dtype=np.float64)
        columns.sum_duplicates()
        columns.eliminate_zeros()
        constant = torch.from_numpy(columns[:, [total]].toarray().ravel())
        starts = np.cumsum([0, *leaf_sizes])
        blocks = [columns[:, i:j] for i, j in pairwise(starts)]
        terms = tuple((k, _sparse_map(M)) for k, M in enumerate(blocks) if M.nnz)
        return cls(constant, terms, not bool(constant.any()))

    def __call__(self, leaves: Sequence[Tensor]) -> Tensor:
        """The values at these leaves.

        Args:
            leaves: all leaves of the problem, each flat: [size_k] if shared by the
                batch, else [B, size_k].

        Returns:
            [r] if every leaf the map depends on is shared, else [B, r].
        """
        products = [term(leaves[index]) for index, term in self.terms]
        if not (self.is_linear and products):
            like = leaves[0] if leaves else self.constant
            products.append(self.constant.to(like))
        return reduce(torch.add, products)


def _sparse_map(matrix: sp.csc_matrix) -> SparseMap:
    """The form for one M, [r, size] with nonzero entries only."""
    entries = sp.coo_matrix(matrix)
    rows, size = matrix.get_shape()
    per_row = np.bincount(entries.row, minlength=rows)
    if per_row.max() <= 1:
        cols = np.zeros(rows, dtype=np.int64)
        coefficients = np.zeros(rows)
        cols[entries.row] = entries.col
        coefficients[entries.row] = entries.data
        is_plain = bool((coefficients == 1).all())
        return GatherMap(
            torch.from_numpy(cols),
            None if is_plain else torch.from_numpy(coefficients),
        )
    if rows * size <= DENSE_ENTRIES:
        return DenseMap(torch.from_numpy(entries.toarray()))
    return ScatterMap(
        torch.from_numpy(entries.row.astype(np.int64)),
        torch.from_numpy(entries.col.astype(np.int64)),
        torch.from_numpy(entries.data),
        rows,
    )
