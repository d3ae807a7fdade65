"""Which columns of a sparse matrix can be eliminated, and which differentiated as one.

Columns are apart if no row holds both. Sets of columns that are apart from one another,
such as the points of a map seen by a few cameras, leave block-diagonal normal matrices.
"""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.sparse import csgraph

from optlayers.linalg.pattern import Pattern

# Blocks beyond this are no longer cheap to factorize one by one.
LARGEST_BLOCK = 16
# So many limits on the entries of a column are tried.
TRIALS = 12


class Separation(NamedTuple):
    """Columns as blocks that are apart from one another, and the rest.

    Attributes:
        blocks: columns of each block, int [nb, b]; n stands for none.
        kept: the other columns, int [q].
    """

    blocks: np.ndarray
    kept: np.ndarray


def separated(pattern: Pattern) -> Separation:
    """The split that leaves the fewest columns to be kept.

    Columns of few entries are taken for eliminated ones, as points are seen by few
    cameras, and each camera sees many points.
    """
    n = pattern.shape[1]
    matrix = _ones(pattern)
    counts = np.diff(matrix.indptr)
    limits = np.unique(counts)
    picks = np.unique(np.linspace(0, len(limits) - 1, TRIALS).astype(int))
    best = Separation(np.empty((0, 1), dtype=np.int64), np.arange(n))
    for limit in limits[picks] if len(limits) else ():
        chosen = np.flatnonzero(counts <= limit)
        found = _components(matrix[:, chosen], chosen, n)
        if found is not None and n - len(chosen) < len(best.kept):
            kept = np.setdiff1d(np.arange(n), chosen, assume_unique=True)
            best = Separation(found, kept)
    return best


def coloured(pattern: Pattern) -> np.ndarray:
    """A colour for each column, int [n], the same only for columns that are apart."""
    matrix = _ones(pattern)
    near = sp.csc_array(matrix.T @ matrix)
    colours = np.full(pattern.shape[1], -1)
    # Those with the most neighbours first, which have the least choice.
    for column in np.argsort(-np.diff(near.indptr), kind="stable"):
        others = near.indices[near.indptr[column] : near.indptr[column + 1]]
        taken = np.unique(colours[others])
        taken = taken[taken >= 0]
        gaps = np.flatnonzero(taken != np.arange(len(taken)))
        colours[column] = gaps[0] if len(gaps) else len(taken)
    return colours


def _components(matrix: sp.csc_array, columns: np.ndarray, n: int) -> np.ndarray | None:
    """Columns by connected component, int [nb, b]; None if some are too large."""
    count, labels = csgraph.connected_components(matrix.T @ matrix, directed=False)
    sizes = np.bincount(labels, minlength=count)
    if count < 2 or sizes.max() > LARGEST_BLOCK:
        return None
    order = np.argsort(labels, kind="stable")
    first = np.cumsum(sizes) - sizes
    blocks = np.full((count, sizes.max()), n)
    blocks[labels[order], np.arange(len(order)) - first[labels[order]]] = columns[order]
    return blocks


def _ones(pattern: Pattern) -> sp.csc_array:
    matrix = pattern.compressed(np.ones(pattern.size))
    matrix.data[:] = 1.0
    return matrix
