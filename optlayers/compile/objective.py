"""Reads the quadratic and linear part of an objective off the declaration.

A weighted square of an affine expression is expanded on the whole variables,
w |S x + y|^2 = x'(S'wS)x + 2 (S'wy)'x + y'wy, its coefficients computed in torch, so
that no auxiliary variables arise. What is not of this kind is left to cvxpy.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

from optlayers.compile.affine_form import (
    AffineForm,
    AffineForms,
    Term,
    apply_matrix,
    as_matrix,
    scale_columns,
    scale_rows,
)
from optlayers.compile.lifting import is_semidefinite
from optlayers.compile.parametric import Parametrics, constant, same
from optlayers.modeling.expressions import Expression, Sign

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
    is_square: bool = False


@dataclass(frozen=True, eq=False)
class ObjectiveParts:
    """minimize x'Px/2 + q'x + d + sum(rest), P, q and d as sums of contributions."""

    P: list[Contribution] = field(default_factory=list)
    q: list[Contribution] = field(default_factory=list)
    d: list[Contribution] = field(default_factory=list)
    rest: list[Expression] = field(default_factory=list)


def split_objective(
    objective: Expression, is_maximized: bool, forms: AffineForms
) -> ObjectiveParts:
    """Split an objective, negated if it is maximized, into what is minimized."""
    reader = _Reader(forms)
    weight = forms.parametrics.minus_one if is_maximized else None
    reader.read(objective, weight, None)
    return reader.parts


class _Reader:
    """Walks down linear operations with the weight that each result has."""

    def __init__(self, forms: AffineForms) -> None:
        self.forms = forms
        self.parametrics: Parametrics = forms.parametrics
        self.parts = ObjectiveParts()

    def read(
        self, e: Expression, weight: Expression | None, stages: range | None
    ) -> None:
        """Add sum(weight * e), over `stages` if e is staged.

        The weight is broadcastable to the shape of e; None is 1.
        """
        if not e.depends_on_variables:
            self._add_constant(e, weight)
            return
        form = self.forms.of(e)
        if form is not None:
            self._add_linear(form if stages is None else form.at(stages), weight)
            return
        rule = _RULES.get(e.name)
        if rule is None or not rule(self, e, weight, stages):
            self._leave(e, weight, stages)

    def descend(
        self,
        e: Expression,
        argument: Expression,
        weight: Expression | None,
        stages: range | None,
    ) -> bool:
        """Read an argument of e whose every stage counts as those of e do."""
        if stages is not None and not argument.is_staged:
            weight = self.weighted(weight, len(stages))
            stages = None
        self.read(argument, weight, stages)
        return True

    def weighted(self, weight: Expression | None, factor: float) -> Expression | None:
        """weight * factor."""
        if factor == 1:
            return weight
        return self.parametrics.multiply(weight, constant(factor))

    def add_squares(self, form: AffineForm, weight: Expression | None) -> bool:
        """Add sum(weight * form**2); False if it is not convex or too large."""
        if weight is not None and not weight.sign.is_nonneg:
            return False
        if form.is_elementwise:
            self._add_separable(form, weight)
            return True
        form = self.forms.as_matrices(form)
        if not _is_worth_expanding(form):
            return False
        derive = self.parametrics.derive
        weights = () if weight is None else (weight,)
        for k, first in enumerate(form.terms):
            for second in form.terms[k:]:
                shape = (first.matrix.shape[1], second.matrix.shape[1])
                product = derive(
                    gram, first.matrix, second.matrix, *weights, shape=shape
                )
                self._add_block(first, second, product, 2.0)
            if form.shift is not None:
                size = first.matrix.shape[1:]
                cross = derive(project, first.matrix, form.shift, *weights, shape=size)
                self._add_vector(first.columns, cross, 2.0)
        self._add_shift_squares(form, weight)
        return True

    def add_quad_form(
        self, form: AffineForm, Q: Expression, weight: Expression | None
    ) -> bool:
        """Add weight * form' Q form, Q semidefinite; False if it is not convex."""
        if weight is not None and not weight.sign.is_nonneg:
            return False
        derive = self.parametrics.derive
        if weight is not None:
            Q = self.parametrics.multiply(weight, Q)
        if len(form.terms) > 1 or form.shift is not None:
            Q = derive(symmetrized, Q, shape=Q.shape)
        for k, first in enumerate(form.terms):
            left = self._left_product(first, Q)
            for second in form.terms[k:]:
                self._add_block(first, second, self._right_product(left, second), 2.0)
            if form.shift is not None:
                cross = derive(apply_matrix, left, form.shift, shape=left.shape[:1])
                self._add_vector(first.columns, cross, 2.0)
        if form.shift is not None:
            value = derive(quadratic_value, form.shift, Q, shape=())
            self._add_number(value, form.stage_count)
        return True

    # ---- pieces of P, q and d --------------------------------------------------------

    def _left_product(self, term: Term, Q: Expression) -> Expression:
        """S'Q, [k, n]."""
        if term.matrix is not None:
            shape = (term.matrix.shape[1], Q.shape[1])
            return self.parametrics.derive(
                transposed_times, term.matrix, Q, shape=shape
            )
        if term.scale is not None:
            return self.parametrics.derive(scale_rows, term.scale, Q, shape=Q.shape)
        return Q

    def _right_product(self, left: Expression, term: Term) -> Expression:
        """S'Q S, [k, l]."""
        if term.matrix is not None:
            shape = (left.shape[0], term.matrix.shape[1])
            return self.parametrics.derive(torch.matmul, left, term.matrix, shape=shape)
        if term.scale is not None:
            return self.parametrics.derive(
                scale_columns, left, term.scale, shape=left.shape
            )
        return left

    def _add_separable(self, form: AffineForm, weight: Expression | None) -> None:
        multiply = self.parametrics.multiply
        for k, first in enumerate(form.terms):
            scaled = multiply(weight, first.scale)
            for second in form.terms[k:]:
                product = multiply(scaled, second.scale)
                self._add_diagonal(first.columns, second.columns, product, form.shape)
                if second is not first:
                    self._add_diagonal(
                        second.columns, first.columns, product, form.shape
                    )
            if form.shift is not None:
                cross = multiply(scaled, form.shift)
                self._add_elements(first.columns, cross, form.shape, 2.0)
        self._add_shift_squares(form, weight)

    def _add_shift_squares(self, form: AffineForm, weight: Expression | None) -> None:
        if form.shift is None:
            return
        weights = () if weight is None else (weight,)
        value = self.parametrics.derive(
            partial(square_total, shape=form.shape), form.shift, *weights, shape=()
        )
        self._add_number(value, form.stage_count)

    def _add_diagonal(
        self,
        rows: np.ndarray,
        cols: np.ndarray,
        value: Expression | None,
        shape: tuple[int, ...],
    ) -> None:
        value = self.parametrics.one if value is None else value
        number, value = self.parametrics.peel(value)
        entries = np.broadcast_to(_entries(value, shape), rows.shape).ravel()
        self.parts.P.append(
            Contribution(rows.ravel(), cols.ravel(), value, entries, 2 * number, True)
        )

    def _add_block(
        self, first: Term, second: Term, value: Expression, factor: float
    ) -> None:
        """factor * x[first]' value x[second], made symmetric."""
        rows = first.columns[..., :, None]
        cols = second.columns[..., None, :]
        rows, cols = np.broadcast_arrays(rows, cols)
        number, value = self.parametrics.peel(value)
        entries = np.broadcast_to(_entries(value, value.shape), rows.shape)
        half = number * (factor / 2 if first is second else factor)
        for one, other in ((rows, cols), (cols, rows)):
            self.parts.P.append(
                Contribution(
                    one.ravel(), other.ravel(), value, entries.ravel(), half, True
                )
            )

    def _add_elements(
        self,
        columns: np.ndarray,
        value: Expression | None,
        shape: tuple[int, ...],
        factor: float = 1.0,
    ) -> None:
        value = self.parametrics.one if value is None else value
        number, value = self.parametrics.peel(value)
        entries = np.broadcast_to(_entries(value, shape), columns.shape)
        self.parts.q.append(_vector(columns, value, entries, number * factor))

    def _add_vector(
        self, columns: np.ndarray, value: Expression, factor: float
    ) -> None:
        self._add_elements(columns, value, value.shape, factor)

    def _add_number(self, value: Expression, factor: float) -> None:
        zero = np.zeros(1, dtype=np.int64)
        number, value = self.parametrics.peel(value)
        self.parts.d.append(Contribution(zero, zero, value, zero, number * factor))

    def _add_constant(self, e: Expression, weight: Expression | None) -> None:
        weights = () if weight is None else (weight,)
        value = self.parametrics.derive(
            partial(weighted_total, shape=e.shape), e, *weights, shape=()
        )
        self._add_number(value, 1)

    def _add_linear(self, form: AffineForm, weight: Expression | None) -> None:
        weights = () if weight is None else (weight,)
        for term in form.terms:
            if term.matrix is None:
                product = self.parametrics.multiply(weight, term.scale)
                self._add_elements(term.columns, product, form.shape)
                continue
            size = term.matrix.shape[1:]
            value = self.parametrics.derive(
                column_totals, term.matrix, *weights, shape=size
            )
            self._add_vector(term.columns, value, 1.0)
        if form.shift is not None:
            value = self.parametrics.derive(
                partial(weighted_total, shape=form.shape),
                form.shift,
                *weights,
                shape=(),
            )
            self._add_number(value, form.stage_count)

    def _leave(
        self, e: Expression, weight: Expression | None, stages: range | None
    ) -> None:
        """Leave sum(weight * e) to cvxpy."""
        if weight is not None:
            e = node("multiply", (weight, e), e.shape, e.stages, weight.sign * e.sign)
        if stages is not None:
            if stages == e.stages:
                e = node("total", (e,), e.shape, None, e.sign)
            else:
                first = e.stages.start
                index = tuple(stage - first for stage in stages)
                shape = (len(index), *e.shape)
                e = node("stages", (e,), shape, None, e.sign, index=index)
        if e.shape:
            e = node("sum", (e,), (), None, e.sign, axis=None, keepdims=False)
        self.parts.rest.append(e)


def node(
    name: str,
    arguments: tuple[Expression, ...],
    shape: tuple[int, ...],
    stages: range | None,
    sign: Sign,
    **options: object,
) -> Expression:
    """A node of known shape and sign, placed where its last argument was written."""
    return Expression(
        name, arguments, options, shape, stages, sign, arguments[-1].origin
    )


def _vector(
    columns: np.ndarray, value: Expression, entries: np.ndarray, factor: float
) -> Contribution:
    rows = columns.ravel()
    return Contribution(rows, np.zeros_like(rows), value, entries.ravel(), factor)


def _entries(value: Expression, shape: tuple[int, ...]) -> np.ndarray:
    """Which entry of the value stands at each position of `shape`."""
    size = int(np.prod(value.shape, dtype=int))
    return np.broadcast_to(np.arange(size).reshape(value.shape), shape)


def _is_worth_expanding(form: AffineForm) -> bool:
    rows = form.shape[0] if form.shape else 1
    return all(term.matrix.shape[1] <= max(SMALL, 2 * rows) for term in form.terms)


# ---- one rule per operation; False leaves it to cvxpy --------------------------------


def _add(
    reader: _Reader, e: Expression, weight: Expression | None, stages: range | None
) -> bool:
    is_scalar_weight = weight is None or not weight.shape
    if not is_scalar_weight and any(one.shape != e.shape for one in e.arguments):
        return False
    for one in e.arguments:
        copies = _size(e.shape) // max(_size(one.shape), 1)
        reader.descend(e, one, reader.weighted(weight, copies), stages)
    return True


def _negate(
    reader: _Reader, e: Expression, weight: Expression | None, stages: range | None
) -> bool:
    return reader.descend(e, e.arguments[0], reader.weighted(weight, -1.0), stages)


def _multiply(
    reader: _Reader, e: Expression, weight: Expression | None, stages: range | None
) -> bool:
    first, second = e.arguments
    if same(first, second):
        return _square(reader, e, weight, stages)
    if second.depends_on_variables:
        first, second = second, first
    if second.depends_on_variables:
        return False
    return _scale(reader, e, first, second, weight, stages)


def _divide(
    reader: _Reader, e: Expression, weight: Expression | None, stages: range | None
) -> bool:
    top, bottom = e.arguments
    if bottom.depends_on_variables:
        return False
    factor = reader.parametrics.reciprocal(bottom)
    return _scale(reader, e, top, factor, weight, stages)


def _scale(
    reader: _Reader,
    e: Expression,
    argument: Expression,
    factor: Expression,
    weight: Expression | None,
    stages: range | None,
) -> bool:
    parametrics = reader.parametrics
    product = parametrics.multiply(weight, factor)
    if argument.shape != e.shape:
        if argument.shape != ():
            return False
        product = parametrics.derive(
            partial(weighted_total, shape=e.shape), product, shape=(), sign=product.sign
        )
    return reader.descend(e, argument, product, stages)


def _matmul(
    reader: _Reader, e: Expression, weight: Expression | None, stages: range | None
) -> bool:
    first, second = e.arguments
    if e.shape == () and same(first, second):
        return _square(reader, e, weight, stages)
    argument, factor = (
        (first, second) if first.depends_on_variables else (second, first)
    )
    if factor.depends_on_variables or argument.ndim != 1 or e.ndim > 1:
        return False
    weights = () if weight is None else (weight,)
    parametrics = reader.parametrics
    if factor.ndim == 1:
        return reader.descend(e, argument, parametrics.multiply(weight, factor), stages)
    if argument is first:
        factor = parametrics.derive(
            partial(as_matrix, is_transposed=True),
            factor,
            shape=factor.shape[::-1],
            sign=factor.sign,
        )
    sign = factor.sign if weight is None else weight.sign * factor.sign
    totals = parametrics.derive(
        column_totals, factor, *weights, shape=argument.shape, sign=sign
    )
    return reader.descend(e, argument, totals, stages)


def _sum(
    reader: _Reader, e: Expression, weight: Expression | None, stages: range | None
) -> bool:
    if weight is not None and weight.shape:
        return False
    return reader.descend(e, e.arguments[0], weight, stages)


def _mean(
    reader: _Reader, e: Expression, weight: Expression | None, stages: range | None
) -> bool:
    if weight is not None and weight.shape:
        return False
    (argument,) = e.arguments
    share = max(_size(e.shape), 1) / max(_size(argument.shape), 1)
    return reader.descend(e, argument, reader.weighted(weight, share), stages)


def _total(
    reader: _Reader, e: Expression, weight: Expression | None, stages: range | None
) -> bool:
    (argument,) = e.arguments
    reader.read(argument, weight, argument.stages)
    return True


def _at(
    reader: _Reader, e: Expression, weight: Expression | None, stages: range | None
) -> bool:
    stage = e.options["stage"]
    reader.read(e.arguments[0], weight, range(stage, stage + 1))
    return True


def _next(
    reader: _Reader, e: Expression, weight: Expression | None, stages: range | None
) -> bool:
    shift = e.options["shift"]
    moved = range(stages.start + shift, stages.stop + shift)
    reader.read(e.arguments[0], weight, moved)
    return True


def _square(
    reader: _Reader, e: Expression, weight: Expression | None, stages: range | None
) -> bool:
    """sum(weight * argument**2), the weight a scalar or one for each entry."""
    argument = e.arguments[0]
    inner = _vector_of_norm(argument)
    form = reader.forms.of(argument if inner is None else inner)
    if form is None:
        return False
    if stages is not None and form.stages is not None:
        form = form.at(stages)
    elif stages is not None:
        weight = reader.weighted(weight, len(stages))
    return reader.add_squares(form, weight)


def _power(
    reader: _Reader, e: Expression, weight: Expression | None, stages: range | None
) -> bool:
    exponent = e.options["p"]
    if isinstance(exponent, Expression) or exponent != 2:
        return False
    return _square(reader, e, weight, stages)


def _sum_squares(
    reader: _Reader, e: Expression, weight: Expression | None, stages: range | None
) -> bool:
    return e.shape == () and _square(reader, e, weight, stages)


def _quad_over_lin(
    reader: _Reader, e: Expression, weight: Expression | None, stages: range | None
) -> bool:
    bottom = e.arguments[1]
    if bottom.depends_on_variables or e.shape != () or not bottom.sign.is_nonneg:
        return False
    factor = reader.parametrics.multiply(weight, reader.parametrics.reciprocal(bottom))
    return _square(reader, e, factor, stages)


def _quad_form(
    reader: _Reader, e: Expression, weight: Expression | None, stages: range | None
) -> bool:
    argument, Q = e.arguments
    if Q.depends_on_variables or not is_semidefinite(reader.parametrics, e):
        return False
    form = reader.forms.of(argument)
    if form is None:
        return False
    if stages is not None and form.stages is not None:
        form = form.at(stages)
    elif stages is not None:
        weight = reader.weighted(weight, len(stages))
    return reader.add_quad_form(form, Q, weight)


def _vector_of_norm(e: Expression) -> Expression | None:
    """v where e is the Euclidean norm of the vector v, else None."""
    if e.name not in ("norm", "pnorm") or e.shape != () or e.arguments[0].ndim != 1:
        return None
    order = e.options.get("p", 2)
    return e.arguments[0] if order in (2, "fro", None) else None


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=int))


_Rule = Callable[[_Reader, Expression, Expression | None, range | None], bool]
_RULES: Mapping[str, _Rule] = {
    "add": _add,
    "negate": _negate,
    "multiply": _multiply,
    "divide": _divide,
    "matmul": _matmul,
    "sum": _sum,
    "mean": _mean,
    "total": _total,
    "at": _at,
    "power": _power,
    "square": _square,
    "sum_squares": _sum_squares,
    "next": _next,
    "quad_over_lin": _quad_over_lin,
    "quad_form": _quad_form,
}


# ---- torch functions of the coefficients -------------------------------------------


def gram(first: Tensor, second: Tensor, weight: Tensor | None = None) -> Tensor:
    """first' diag(weight) second."""
    if weight is not None:
        second = scale_rows(weight, second)
    return first.mT @ second


def project(matrix: Tensor, shift: Tensor, weight: Tensor | None = None) -> Tensor:
    """matrix' (weight * shift)."""
    shift = shift if weight is None else weight * shift
    return matrix.mT @ shift.reshape(-1).expand(matrix.shape[0])


def transposed_times(matrix: Tensor, other: Tensor) -> Tensor:
    """matrix' other."""
    return matrix.mT @ other


def symmetrized(matrix: Tensor) -> Tensor:
    """(matrix + matrix')/2, the part of a matrix that a quadratic form sees."""
    return (matrix + matrix.mT) / 2


def quadratic_value(vector: Tensor, matrix: Tensor) -> Tensor:
    """vector' matrix vector."""
    vector = vector.expand(matrix.shape[-1])
    return vector @ matrix @ vector


def column_totals(matrix: Tensor, weight: Tensor | None = None) -> Tensor:
    """weight' matrix, by default the sum of the rows."""
    if weight is not None:
        matrix = scale_rows(weight, matrix)
    return matrix.sum(-2)


def weighted_total(
    value: Tensor, weight: Tensor | None = None, *, shape: tuple[int, ...]
) -> Tensor:
    """sum(weight * value) after broadcasting to `shape`."""
    value = value if weight is None else weight * value
    return value.expand(shape).sum()


def square_total(
    value: Tensor, weight: Tensor | None = None, *, shape: tuple[int, ...]
) -> Tensor:
    """sum(weight * value**2) after broadcasting to `shape`."""
    return weighted_total(value.square(), weight, shape=shape)
