"""Damped least squares with a sparse matrix: blocks of unknowns are eliminated first.

With A = [E K], C = E'E + D^2 is block-diagonal, and S = K'K + D^2 - K'E C^-1 E'K has as
many rows as there are other unknowns. Source: B. Triggs et al., Bundle adjustment: a
modern synthesis (2000), section 6.1.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from optlayers.linalg.pattern import Pattern
from optlayers.linalg.separable import coloured, separated


class SchurStructure:
    """A as the values of its entries on a pattern, [B, nnz].

    Attributes:
        pattern: where they are, row by row.
        colours: of each column, int64 [n]; those of one colour share no row.
        blocks: columns that are eliminated together, int64 [nb, b]; n where there is
            none.
        kept: the other columns, int64 [q].
    """

    def __init__(self, pattern: Pattern, device: torch.device | None = None) -> None:
        """Look the pattern over once.

        Args:
            pattern: of J, sorted row by row, no position twice.
            device: of the numbers to come.
        """
        self._device = device
        self.pattern = Pattern(
            pattern.rows.to(device), pattern.cols.to(device), pattern.shape
        )
        self.colours = self._index(coloured(pattern))
        found = separated(pattern)
        self.blocks, self.kept = self._index(found.blocks), self._index(found.kept)
        self._lay_out(pattern, found.blocks, found.kept)

    def product(self, A: Tensor, x: Tensor) -> Tensor:
        """A x, [B, n] -> [B, k]."""
        own = A * x[:, self.pattern.cols]
        return A.new_zeros(len(A), self.pattern.shape[0]).index_add(
            1, self.pattern.rows, own
        )

    def transposed(self, A: Tensor, y: Tensor) -> Tensor:
        """A'y, [B, k] -> [B, n]."""
        own = A * y[:, self.pattern.rows]
        return A.new_zeros(len(A), self.pattern.shape[1]).index_add(
            1, self.pattern.cols, own
        )

    def scaled(self, A: Tensor, rows: Tensor | None, columns: Tensor | None) -> Tensor:
        """A with rows times numbers [B, k], and columns times numbers [B, n]."""
        A = A if rows is None else A * rows[:, self.pattern.rows]
        return A if columns is None else A * columns[:, self.pattern.cols]

    def lengths(self, A: Tensor) -> Tensor:
        """The length of each column, [B, n]."""
        squares = A.new_zeros(len(A), self.pattern.shape[1])
        return squares.index_add(1, self.pattern.cols, A.square()).sqrt()

    def damped(self, A: Tensor, D: Tensor) -> "SchurDamped":
        """A and D, [B, n], factorized."""
        return SchurDamped(self, A, D)

    def _lay_out(self, pattern: Pattern, blocks: np.ndarray, kept: np.ndarray) -> None:
        """Where each entry stands in its row's part of a block, or among the kept."""
        rows, cols = pattern.rows.numpy(), pattern.cols.numpy()
        (k, n), (nb, b) = pattern.shape, blocks.shape
        owner, place = np.full(n + 1, nb), np.zeros(n + 1, dtype=np.int64)
        owner[blocks] = np.arange(nb)[:, None]
        place[blocks] = np.arange(b)
        owner[n] = nb
        number = np.full(n, len(kept))
        number[kept] = np.arange(len(kept))
        is_kept = owner[cols] == nb
        # The block of each row, of which it has one at most; nb if it has none.
        block = np.full(k, nb)
        block[rows[~is_kept]] = owner[cols[~is_kept]]
        self.block = self._index(block)
        self.inner = self._index(np.flatnonzero(~is_kept))
        self.inner_at = self._index(rows[~is_kept] * b + place[cols[~is_kept]])
        # Entries among the kept, a row's one after the other, filled up to one width.
        outer = np.flatnonzero(is_kept)
        at, width = _ranks(rows[outer], k)
        self.outer = self._index(outer)
        self.outer_at = self._index(rows[outer] * width + at)
        self.width = width
        columns = np.full((k, width), len(kept))
        columns[rows[outer], at] = number[cols[outer]]
        self.columns = self._index(columns)
        # The kept columns that the rows of each block touch, likewise.
        places = np.unique(block[rows[outer]] * (len(kept) + 1) + number[cols[outer]])
        touching, touched = np.divmod(places, len(kept) + 1)
        at, reach = _ranks(touching, nb + 1)
        self.reach = reach
        touches = np.full((nb + 1, reach), len(kept))
        touches[touching, at] = touched
        self.touches = self._index(touches[:nb])
        slots = np.full((nb + 1, len(kept) + 1), reach)
        slots[touching, touched] = at
        self.slots = self._index(slots[block[:, None], columns])

    def _index(self, places: np.ndarray) -> Tensor:
        return torch.from_numpy(places).to(self._device)


class SchurDamped:
    """Cholesky factors of the blocks and of what is left of the other unknowns."""

    def __init__(self, structure: SchurStructure, A: Tensor, D: Tensor) -> None:
        self._structure, self._A = structure, A
        batch, q = len(A), len(structure.kept)
        nb = len(structure.blocks)
        inner, outer = self._parts()
        damping = torch.cat([D.square(), D.new_ones(batch, 1)], 1)
        C = _summed(inner.unsqueeze(3) * inner.unsqueeze(2), structure.block, nb)
        C = C + torch.diag_embed(damping[:, structure.blocks])
        self._L = torch.linalg.cholesky_ex(C).L
        W = self._coupling(inner, outer)
        self._Y = torch.linalg.solve_triangular(self._L, W, upper=False)
        products = outer.unsqueeze(3) * outer.unsqueeze(2)
        S = _scattered(products, structure.columns, q)
        less = self._Y.mT @ self._Y
        S = S - _scattered(less, structure.touches, q)
        S = S[:, :q, :q] + torch.diag_embed(damping[:, structure.kept])
        self._S = torch.linalg.cholesky_ex(S).L

    def solve(self, b: Tensor) -> Tensor:
        """The d with least |A d + b|^2 + |D d|^2, [B, k] -> [B, n]."""
        structure = self._structure
        n, q = structure.pattern.shape[1], len(structure.kept)
        slope = -structure.transposed(self._A, b)
        slope = torch.cat([slope, slope.new_zeros(len(b), 1)], 1)
        own = slope[:, structure.blocks].unsqueeze(3)
        y = torch.linalg.solve_triangular(self._L, own, upper=False)
        less = (self._Y.mT @ y).flatten(1)
        right = slope.new_zeros(len(b), q + 1)
        right = right.index_add(1, structure.touches.flatten(), -less)[:, :q]
        right = (right + slope[:, structure.kept]).unsqueeze(2)
        kept = torch.cholesky_solve(right, self._S).squeeze(2)
        kept = torch.cat([kept, kept.new_zeros(len(b), 1)], 1)
        y = y - self._Y @ kept[:, structure.touches].unsqueeze(3)
        inner = torch.linalg.solve_triangular(self._L.mT, y, upper=True).flatten(1)
        d = slope.new_zeros(len(b), n + 1)
        d = d.index_copy(1, structure.kept, kept[:, :q])
        return d.index_copy(1, structure.blocks.flatten(), inner)[:, :n]

    def _parts(self) -> tuple[Tensor, Tensor]:
        """Each row's entries in its block, and among the kept, [B, k, b], [B, k, w]."""
        structure, A = self._structure, self._A
        k, b = structure.pattern.shape[0], structure.blocks.shape[1]
        inner = A.new_zeros(len(A), k * b)
        inner = inner.index_copy(1, structure.inner_at, A[:, structure.inner])
        outer = A.new_zeros(len(A), k * structure.width)
        outer = outer.index_copy(1, structure.outer_at, A[:, structure.outer])
        return inner.unflatten(1, (k, b)), outer.unflatten(1, (k, structure.width))

    def _coupling(self, inner: Tensor, outer: Tensor) -> Tensor:
        """E'K of each block, at the kept columns it touches, [B, nb, b, reach]."""
        structure = self._structure
        (nb, b), reach = structure.blocks.shape, structure.reach
        products = outer.unsqueeze(3) * inner.unsqueeze(2)
        places = structure.block.unsqueeze(1) * (reach + 1) + structure.slots
        flat = outer.new_zeros(len(outer), (nb + 1) * (reach + 1), b)
        flat = flat.index_add(1, places.flatten(), products.flatten(1, 2))
        return flat.unflatten(1, (nb + 1, reach + 1))[:, :nb, :reach].mT


@lru_cache(maxsize=64)
def schur_structure(pattern: Pattern, device: torch.device) -> SchurStructure:
    """The structure of a pattern on a device, looked over at its first use."""
    return SchurStructure(pattern, device)


def _ranks(owners: np.ndarray, count: int) -> tuple[np.ndarray, int]:
    """The position of each entry among those of its owner, sorted; and the most."""
    sizes = np.bincount(owners, minlength=count)
    first = np.cumsum(sizes) - sizes
    most = int(sizes.max()) if len(sizes) else 0
    return np.arange(len(owners)) - first[owners], most


def _summed(rows: Tensor, owner: Tensor, count: int) -> Tensor:
    """Sums over the rows of each owner but the last, [B, k, ...] -> [B, count, ...]."""
    flat = rows.new_zeros(len(rows), count + 1, *rows.shape[2:])
    return flat.index_add(1, owner, rows)[:, :count]


def _scattered(squares: Tensor, columns: Tensor, q: int) -> Tensor:
    """The sum of small matrices at their rows and columns, [B, q + 1, q + 1].

    Args:
        squares: [B, m, w, w].
        columns: of each, int64 [m, w]; q where it has none.
        q: the number of columns.
    """
    places = columns.unsqueeze(2) * (q + 1) + columns.unsqueeze(1)
    flat = squares.new_zeros(len(squares), (q + 1) ** 2)
    flat = flat.index_add(1, places.flatten(), squares.flatten(1))
    return flat.unflatten(1, (q + 1, q + 1))
