"""The quadratic, linear and constant part of an objective, as sums of contributions.

A weighted square of an affine expression is expanded on the whole variables,
w |S x + y|^2 = x'(S'wS)x + 2 (S'wy)'x + y'wy, its coefficients computed in torch.
"""

from dataclasses import dataclass, field
from functools import partial
from itertools import combinations_with_replacement

import numpy as np
import torch

from optlayers.compile.affine_form import AffineForm, AffineForms, Block
from optlayers.compile.coefficients import (
    apply_matrix,
    column_totals,
    gram,
    linear_combination,
    project,
    quadratic_value,
    sandwich,
    square_total,
    symmetrized,
    transposed_times,
    weighted_total,
)
from optlayers.compile.parametric import ONE, Parametrics
from optlayers.compile.sparse import is_worth_multiplying
from optlayers.modeling.expressions import Expression

# A square of fewer rows than columns has an expansion larger than itself; below this
# many columns it is expanded all the same.
SMALL = 64


@dataclass(frozen=True, eq=False)
class Contribution:
    """factor * value.flatten()[entries], added at `rows` (and `cols` of a matrix)."""

    rows: np.ndarray
    cols: np.ndarray
    value: Expression
    entries: np.ndarray
    factor: float


@dataclass(frozen=True, eq=False)
class ObjectiveParts:
    """minimize x'Px/2 + q'x + d + sum(rest), P, q and d as sums of contributions."""

    P: list[Contribution] = field(default_factory=list)
    q: list[Contribution] = field(default_factory=list)
    d: list[Contribution] = field(default_factory=list)
    rest: list[Expression] = field(default_factory=list)


class QuadraticSum:
    """Collects squares, quadratic forms, linear terms and constants.

    Attributes:
        P, q: what has been collected.
        constants: summands of d, each with its factor.
    """

    def __init__(self, forms: AffineForms) -> None:
        self.forms = forms
        self.parametrics: Parametrics = forms.parametrics
        self.P: list[Contribution] = []
        self.q: list[Contribution] = []
        self.constants: list[tuple[float, Expression]] = []

    def parts(self, rest: list[Expression]) -> ObjectiveParts:
        """All that was collected, and what is left to cvxpy."""
        return ObjectiveParts(self.P, self.q, self._sum_of_constants(), rest)

    def add_squares(self, form: AffineForm, weight: Expression) -> bool:
        """Add sum(weight * form**2); False if it is not convex or too large."""
        if not weight.sign.is_nonneg:
            return False
        if form.is_elementwise:
            self._add_separable(form, weight)
            return True
        blocks = self.forms.blocks(form)
        if not self._is_worth_expanding(blocks):
            return False
        derive = self.parametrics.derive
        weights = () if weight is ONE else (weight,)
        for first, second in combinations_with_replacement(blocks, 2):
            S, R = first.matrix, second.matrix
            shape = (S.shape[1], R.shape[1])
            self._add_pair(first, second, derive(gram, S, R, *weights, shape=shape))
        if form.shift is not None:
            for one in blocks:
                size = one.matrix.shape[1:]
                cross = derive(project, one.matrix, form.shift, *weights, shape=size)
                self._add_vector(one.columns, cross, size, 2.0)
        self._add_shift_squares(form, weight)
        return True

    def add_quad_form(
        self, form: AffineForm, Q: Expression, weight: Expression
    ) -> bool:
        """Add weight * form' Q form, Q semidefinite; False if it is not convex."""
        if not weight.sign.is_nonneg:
            return False
        derive = self.parametrics.derive
        if weight is not ONE:
            Q = self.parametrics.multiply(weight, Q)
        first = form.terms[0]
        if len(form.terms) == 1 and first.matrix is None and first.scale is ONE:
            # Q as it is, so that it need not be computed.
            blocks = [Block(first.columns, ONE)]
            self._add_pair(blocks[0], blocks[0], Q)
        else:
            blocks = self.forms.blocks(form)
            for first, second in combinations_with_replacement(blocks, 2):
                S, R = first.matrix, second.matrix
                product = derive(sandwich, S, Q, R, shape=(S.shape[1], R.shape[1]))
                self._add_pair(first, second, product)
        if form.shift is not None:
            half = derive(symmetrized, Q, shape=Q.shape)
            image = derive(apply_matrix, half, form.shift, shape=Q.shape[:1])
            for one in blocks:
                cross, size = image, one.matrix.shape[1:] or Q.shape[:1]
                if one.matrix is not ONE:
                    cross = derive(transposed_times, one.matrix, image, shape=size)
                self._add_vector(one.columns, cross, size, 2.0)
            value = derive(quadratic_value, form.shift, Q, shape=())
            self._add_number(value, form.stage_count)
        return True

    def add_linear(self, form: AffineForm, weight: Expression) -> None:
        """Add sum(weight * form)."""
        weights = () if weight is ONE else (weight,)
        for term in form.terms:
            if term.matrix is None:
                product = self.parametrics.multiply(weight, term.scale)
                self._add_vector(term.columns, product, form.shape)
                continue
            size = term.matrix.shape[1:]
            value = self.parametrics.derive(
                column_totals, term.matrix, *weights, shape=size
            )
            self._add_vector(term.columns, value, size)
        if form.shift is not None:
            value = self.parametrics.derive(
                partial(weighted_total, shape=form.shape),
                form.shift,
                *weights,
                shape=(),
            )
            self._add_number(value, form.stage_count)

    def add_constant(self, e: Expression, weight: Expression) -> None:
        """Add sum(weight * e) of an expression without variables."""
        if not e.shape:
            self._add_number(self.parametrics.multiply(weight, e), 1)
            return
        weights = () if weight is ONE else (weight,)
        value = self.parametrics.derive(
            partial(weighted_total, shape=e.shape), e, *weights, shape=()
        )
        self._add_number(value, 1)

    # ---- pieces of P, q and d --------------------------------------------------------

    def _add_separable(self, form: AffineForm, weight: Expression) -> None:
        multiply = self.parametrics.multiply
        for first, second in combinations_with_replacement(form.terms, 2):
            product = multiply(multiply(weight, first.scale), second.scale)
            self._add_diagonal(first.columns, second.columns, product, form.shape)
            if second is not first:
                self._add_diagonal(second.columns, first.columns, product, form.shape)
        if form.shift is not None:
            for one in form.terms:
                cross = multiply(multiply(weight, one.scale), form.shift)
                self._add_vector(one.columns, cross, form.shape, 2.0)
        self._add_shift_squares(form, weight)

    def _add_shift_squares(self, form: AffineForm, weight: Expression) -> None:
        if form.shift is None:
            return
        weights = () if weight is ONE else (weight,)
        value = self.parametrics.derive(
            partial(square_total, shape=form.shape), form.shift, *weights, shape=()
        )
        self._add_number(value, form.stage_count)

    def _add_diagonal(
        self,
        rows: np.ndarray,
        cols: np.ndarray,
        value: Expression,
        shape: tuple[int, ...],
    ) -> None:
        """2 * value, one entry for each pair of columns."""
        factor, value, entries = self._bare(value, shape)
        entries = np.broadcast_to(entries, rows.shape).ravel()
        self._keep(
            self.P,
            Contribution(rows.ravel(), cols.ravel(), value, entries, 2 * factor),
        )

    def _add_pair(self, first: Block, second: Block, value: Expression) -> None:
        """2 * x[first]' value x[second], once or with its transpose, symmetrically."""
        sparse = self.parametrics.sparse(value)
        if sparse is None:
            rows, cols = np.broadcast_arrays(
                first.columns[..., :, None], second.columns[..., None, :]
            )
        else:
            value, pattern = sparse.values, sparse.pattern
            rows = first.columns[..., pattern.rows.numpy()]
            cols = second.columns[..., pattern.cols.numpy()]
        factor, value, entries = self._bare(value, value.shape)
        entries = np.broadcast_to(entries, rows.shape).ravel()
        if first is not second:
            factor = 2 * factor
        for one, other in ((rows, cols), (cols, rows)):
            self.P.append(
                Contribution(one.ravel(), other.ravel(), value, entries, factor)
            )

    def _add_vector(
        self,
        columns: np.ndarray,
        value: Expression,
        shape: tuple[int, ...],
        factor: float = 1.0,
    ) -> None:
        """factor * value, one entry for each column."""
        number, value, entries = self._bare(value, shape)
        entries = np.broadcast_to(entries, columns.shape).ravel()
        rows = columns.ravel()
        self._keep(
            self.q,
            Contribution(rows, np.zeros_like(rows), value, entries, number * factor),
        )

    def _keep(self, where: list[Contribution], one: Contribution) -> None:
        """Take a contribution, of a sparse matrix without its zeros."""
        sparse = self.parametrics.sparse(one.value)
        if sparse is None or not sparse.pattern.is_simple:
            where.append(one)
            return
        numbers = sparse.pattern.find(torch.from_numpy(one.entries)).numpy()
        kept = numbers >= 0
        rows, cols = one.rows[kept], one.cols[kept]
        where.append(Contribution(rows, cols, sparse.values, numbers[kept], one.factor))

    def _is_worth_expanding(self, blocks: list[Block]) -> bool:
        sparse = [self.parametrics.sparse(one.matrix) for one in blocks]
        known = [one for one in sparse if one is not None]
        if len(known) == len(sparse):
            return all(
                is_worth_multiplying(one.transposed.pattern, other.pattern)
                for one, other in combinations_with_replacement(known, 2)
            )
        return all(
            columns <= max(SMALL, 2 * rows)
            for rows, columns in (one.matrix.shape for one in blocks)
        )

    def _add_number(self, value: Expression, factor: float) -> None:
        number, value = self.parametrics.peel(value)
        self.constants.append((number * factor, value))

    def _bare(
        self, value: Expression, shape: tuple[int, ...]
    ) -> tuple[float, Expression, np.ndarray]:
        """A factor, an expression and which of its entries stand at `shape`.

        Signs, numbers, indices and transposes are taken off, so that what is left is
        more often a parameter itself, which need not be computed.
        """
        factor, value = self.parametrics.peel(value)
        entries = np.broadcast_to(_numbered(value.shape), shape)
        while value.name in ("index", "transpose") and value.arguments[0].ndim <= 2:
            (inner,) = value.arguments
            places = _numbered(inner.shape)
            if value.name == "index":
                places = places[value.options["index"]]
            elif value.options.get("axes") is None:
                places = places.T
            else:
                break
            entries = places.ravel()[entries]
            number, value = self.parametrics.peel(inner)
            factor *= number
            if value is ONE:
                entries = np.zeros_like(entries)
        return factor, value, entries

    def _sum_of_constants(self) -> list[Contribution]:
        """d as at most two contributions: a number, and one leaf of all the rest."""
        zero = np.zeros(1, dtype=np.int64)
        number = sum(factor for factor, value in self.constants if value is ONE)
        found = [Contribution(zero, zero, ONE, zero, number)] if number else []
        rest = [pair for pair in self.constants if pair[1] is not ONE]
        if len(rest) == 1:
            factor, value = rest[0]
            found.append(Contribution(zero, zero, value, zero, factor))
        elif rest:
            value = torch_sum(self.parametrics, rest)
            found.append(Contribution(zero, zero, value, zero, 1.0))
        return found


def torch_sum(
    parametrics: Parametrics, summands: list[tuple[float, Expression]]
) -> Expression:
    """One scalar expression that adds up scalars times numbers."""
    factors = tuple(factor for factor, _ in summands)
    values = (value for _, value in summands)
    return parametrics.derive(
        partial(linear_combination, factors=factors), *values, shape=()
    )


def _numbered(shape: tuple[int, ...]) -> np.ndarray:
    """The numbers of the entries of a tensor, in its shape."""
    return np.arange(int(np.prod(shape, dtype=int))).reshape(shape)
