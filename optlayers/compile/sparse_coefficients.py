"""Torch functions that compute with the entries of sparse matrices, and nothing else.

Each works on one sample; the leaves map them over the batch. The matrices stand on a
`Pattern` that is known when the problem is compiled.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from optlayers.linalg.pattern import Pattern


class Pairs(NamedTuple):
    """Which entries of two sparse matrices meet in their product.

    Attributes:
        left, right: number of the entry of either factor, int64 [pairs].
        slot: number of the entry of the product that they add to, int64 [pairs].
        size: number of entries of the product.
    """

    left: Tensor
    right: Tensor
    slot: Tensor
    size: int


def pair_count(first: Pattern, second: Pattern) -> int:
    """The number of pairs that meet in first @ second."""
    inner = first.shape[1]
    left, right = (
        np.bincount(one.numpy(), minlength=inner) for one in (first.cols, second.rows)
    )
    return int(left @ right)


def meeting_pairs(first: Pattern, second: Pattern) -> tuple[Pairs, Pattern]:
    """The pairs that meet in first @ second, and the pattern of the product."""
    cols, rows = first.cols.numpy(), second.rows.numpy()
    order = np.argsort(rows, kind="stable")
    counts = np.bincount(rows, minlength=first.shape[1])
    starts = np.concatenate([[0], np.cumsum(counts)])[:-1]
    repeats = counts[cols]
    left = np.repeat(np.arange(len(cols)), repeats)
    within = np.arange(len(left)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    right = order[np.repeat(starts[cols], repeats) + within]
    width = second.shape[1]
    places = first.rows.numpy()[left] * width + second.cols.numpy()[right]
    kept, slot = np.unique(places, return_inverse=True)
    rows, cols = map(torch.from_numpy, np.divmod(kept, max(width, 1)))
    pattern = Pattern(rows, cols, (first.shape[0], width))
    one, other, into = map(torch.from_numpy, (left, right, slot))
    pairs = Pairs(one, other, into, len(kept))
    return pairs, pattern


def sparse_product(first: Tensor, second: Tensor, *, pairs: Pairs) -> Tensor:
    """Entries of the product from those of the factors, [nnz] and [nnz] -> [size]."""
    terms = _at(first, pairs.left) * _at(second, pairs.right)
    return _summed(terms, pairs.slot, pairs.size)


def sparse_apply(values: Tensor, vector: Tensor, *, pattern: Pattern) -> Tensor:
    """matrix @ vector, with a vector of one entry standing for all, -> [m]."""
    m, n = pattern.shape
    terms = values * _at(vector.reshape(-1).expand(n), pattern.cols)
    return _summed(terms, pattern.rows, m)


def sparse_quadratic(vector: Tensor, values: Tensor, *, pattern: Pattern) -> Tensor:
    """vector' matrix vector, -> []."""
    vector = vector.reshape(-1).expand(pattern.shape[0])
    return (_at(vector, pattern.rows) * values * _at(vector, pattern.cols)).sum()


def entries_of(matrix: Tensor, *, pattern: Pattern) -> Tensor:
    """The entries of what broadcasts to [m, n], -> [nnz]."""
    return pattern.gather(matrix.expand(pattern.shape))


def of_rows(factor: Tensor, *, pattern: Pattern) -> Tensor:
    """For every entry the factor of its row, from [m], [1] or [] -> [nnz]."""
    return _at(factor.reshape(-1).expand(pattern.shape[0]), pattern.rows)


def chosen(values: Tensor, *, numbers: Tensor) -> Tensor:
    """Some entries by number, zero for -1, -> [k]."""
    found = _at(values, numbers.clamp_min(0))
    return torch.where(numbers.to(values.device) < 0, 0.0, found)


def joined(*values: Tensor) -> Tensor:
    """All entries one after another."""
    return torch.cat(values)


def halved(values: Tensor) -> Tensor:
    """The entries of (M + M')/2, those of the transpose after those of M."""
    return torch.cat([values, values]) / 2


def repeated(scale: Tensor, size: int) -> Tensor:
    """A scalar or vector as a vector of `size` entries."""
    return scale.reshape(-1).expand(size)


def _at(values: Tensor, numbers: Tensor) -> Tensor:
    return values.index_select(0, numbers.to(values.device))


def _summed(terms: Tensor, slots: Tensor, size: int) -> Tensor:
    return terms.new_zeros(size).index_add(0, slots.to(terms.device), terms)
