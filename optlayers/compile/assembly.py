"""Joins cvxpy's conic data and the objective read off directly into affine maps."""

from collections.abc import Mapping, Sequence

import cvxpy as cp
import numpy as np
import scipy.sparse as sp
import torch

from optlayers.compile.columns import ColumnLayout
from optlayers.compile.cvxpy_private import ConeForm, Entries
from optlayers.compile.leaves import LeafTable
from optlayers.compile.parametric import Parametrics
from optlayers.compile.quadratic import Contribution, ObjectiveParts
from optlayers.compile.template import MatrixMap
from optlayers.linalg.affine_map import AffineMap

CONSTANT_ID = -1

# From this share of entries on, a matrix is held whole rather than by its pattern.
DENSE_SHARE = 0.5


class Assembly:
    """Final columns of the variables, and the maps to P, q, A, b and offset.

    Attributes:
        n: number of columns, with those of variables that cvxpy never met.
        final: final column of every provisional one of the layout.
    """

    def __init__(
        self,
        form: ConeForm,
        layout: ColumnLayout,
        variables: Mapping[str, cp.Variable],
        leaves: LeafTable,
        parameters: Mapping[int, cp.Parameter],
        parametrics: Parametrics,
    ) -> None:
        self.form = form
        self.leaves = leaves
        self.parametrics = parametrics
        self.final, self.n = _final_columns(form, layout, variables)
        self.first = leaves.first_entries()
        self.entry_of = _entry_of(form, leaves, parameters, self.first)

    @property
    def leaf_sizes(self) -> list[int]:
        """Number of entries of each leaf."""
        return [leaf.size for leaf in self.leaves.leaves]

    def quadratic(self, parts: ObjectiveParts) -> MatrixMap | None:
        """The map to P, or None where no entry can differ from zero."""
        own = [
            self._entries(one, self.final[one.rows], self.final[one.cols])
            for one in parts.P
        ]
        entries = _stacked([self._renamed(self.form.P), *own])
        if not len(entries.values):
            return None
        return self._matrix(entries, (self.n, self.n))

    def linear(self, parts: ObjectiveParts) -> AffineMap:
        """The map to q, [n]."""
        own = [self._entries(one, self.final[one.rows], one.cols) for one in parts.q]
        return self._vector(_stacked([self._renamed(self.form.q), *own]), self.n)

    def offset(self, parts: ObjectiveParts) -> AffineMap:
        """The map to the constant of the objective, [1]."""
        own = [self._entries(one, one.rows, one.cols) for one in parts.d]
        return self._vector(_stacked([self._renamed(self.form.d), *own]), 1)

    def constraints(self) -> MatrixMap:
        """The map to A, [m, n]."""
        return self._matrix(self._renamed(self.form.A), (self.form.rows, self.n))

    def right_side(self) -> AffineMap:
        """The map to b, [m]."""
        return self._vector(self._renamed(self.form.b), self.form.rows)

    def _renamed(self, given: Entries) -> Entries:
        """cvxpy's entries with our numbers for the entries of parameters."""
        return given._replace(parameters=self.entry_of[given.parameters])

    def _entries(
        self, one: Contribution, rows: np.ndarray, cols: np.ndarray
    ) -> Entries:
        """The entries of one contribution, at these rows and columns."""
        values = np.full(len(rows), one.factor)
        if self.parametrics.is_constant(one.value):
            values = values * self.parametrics.array(one.value).ravel()[one.entries]
            kept = values != 0
            columns = np.full(len(rows), self.first[-1])
            return Entries(rows[kept], cols[kept], columns[kept], values[kept])
        columns = self.first[self.leaves.position(one.value)] + one.entries
        return Entries(rows, cols, columns, values)

    def _vector(self, entries: Entries, size: int) -> AffineMap:
        matrix = sp.coo_matrix(
            (entries.values, (entries.rows, entries.parameters)),
            shape=(size, self.first[-1] + 1),
        )
        return AffineMap.from_sparse(matrix, self.leaf_sizes)

    def _matrix(self, entries: Entries, shape: tuple[int, int]) -> MatrixMap:
        places = entries.rows * shape[1] + entries.cols
        size = shape[0] * shape[1]
        kept, order = np.unique(places, return_inverse=True)
        if size and len(kept) >= DENSE_SHARE * size:
            return MatrixMap(
                self._vector(entries._replace(rows=places), size), None, None, shape
            )
        rows, cols = np.divmod(kept, max(shape[1], 1))
        return MatrixMap(
            self._vector(entries._replace(rows=order), len(kept)),
            torch.from_numpy(rows),
            torch.from_numpy(cols),
            shape,
        )


def _final_columns(
    form: ConeForm, layout: ColumnLayout, variables: Mapping[str, cp.Variable]
) -> tuple[np.ndarray, int]:
    final = np.zeros(layout.size, dtype=np.int64)
    n = form.size
    for name, first, size in layout.spans():
        start = None
        if name in variables:
            start = form.first_column.get(variables[name].id)
        if start is None:
            start, n = n, n + size
        final[first : first + size] = np.arange(start, start + size)
    return final, n


def _entry_of(
    form: ConeForm,
    leaves: LeafTable,
    parameters: Mapping[int, cp.Parameter],
    first: np.ndarray,
) -> np.ndarray:
    """For each entry of cvxpy's parameter vector, its number among our leaves."""
    entry_of = np.zeros(form.parameter_size, dtype=np.int64)
    for position, parameter in parameters.items():
        start = form.first_parameter.get(parameter.id)
        if start is None:
            continue
        leaf = leaves.leaves[position]
        numbers = np.arange(leaf.size).reshape(leaf.shape, order="F").ravel()
        entry_of[start + numbers] = first[position] + np.arange(leaf.size)
    entry_of[form.first_parameter.get(CONSTANT_ID, -1)] = first[-1]
    return entry_of


def _stacked(pieces: Sequence[Entries]) -> Entries:
    return Entries(*map(np.concatenate, zip(*pieces, strict=True)))
