"""Affine expressions as sums of scaled or multiplied selections of the variables.

e = sum_k (scale_k * x[columns_k] or matrix_k @ x[columns_k]) + shift, the form in which
squares are expanded and objectives read off without auxiliary variables.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from optlayers.compile.coefficients import (
    apply_matrix,
    as_matrix,
    diagonal,
    scale_columns,
    scale_rows,
    select,
    torch_index,
)
from optlayers.compile.columns import ColumnLayout, window
from optlayers.compile.parametric import MINUS_ONE, ONE, Parametrics, constant
from optlayers.compile.sparse import diagonal_form
from optlayers.modeling.expressions import Expression

# More terms than this and the expansion of a square costs more than it saves.
MAX_TERMS = 6


@dataclass(frozen=True, eq=False)
class Term:
    """One selection of variables and its coefficient.

    Attributes:
        columns: which entries of the variable vector; [*shape], or [k] under a matrix,
            after a leading stage axis if the form is staged.
        scale: coefficient by entry, broadcastable to the form's shape.
        matrix: coefficient matrix [rows, k] instead of a scale.
    """

    columns: np.ndarray
    scale: Expression = ONE
    matrix: Expression | None = None


@dataclass(frozen=True, eq=False)
class AffineForm:
    """An affine expression read as terms and a shift.

    Attributes:
        terms: what depends on variables.
        shift: what does not, broadcastable to `shape`; None is 0.
        shape: shape at one stage.
        stages: the stages of the leading axis of every term's columns, or None.
    """

    terms: tuple[Term, ...]
    shift: Expression | None
    shape: tuple[int, ...]
    stages: range | None

    @property
    def is_elementwise(self) -> bool:
        """Whether no term has a matrix."""
        return all(term.matrix is None for term in self.terms)

    @property
    def stage_count(self) -> int:
        """How many copies the form stands for: one per stage."""
        return 1 if self.stages is None else len(self.stages)

    def at(self, stages: range | Sequence[int]) -> "AffineForm":
        """The form on some of its stages, the stage axis kept."""
        assert self.stages is not None
        if stages == self.stages:
            return self
        rows = np.asarray(stages) - self.stages.start
        terms = tuple(replace(t, columns=t.columns[rows]) for t in self.terms)
        return replace(self, terms=terms, stages=range(len(rows)))


class AffineForms:
    """Finds the affine form of expressions, each once."""

    def __init__(self, layout: ColumnLayout, parametrics: Parametrics) -> None:
        self.layout = layout
        self.parametrics = parametrics
        self._known: dict[Expression, AffineForm | None] = {}

    def of(self, expression: Expression) -> AffineForm | None:
        """The form of an expression, or None where it has none that is known here."""
        if expression in self._known:
            return self._known[expression]
        rule = _RULES.get(expression.name)
        form = None if rule is None else rule(self, expression)
        if form is not None and len(form.terms) > MAX_TERMS:
            form = None
        self._known[expression] = form
        return form

    def operand(self, expression: Expression) -> tuple[AffineForm, Expression] | None:
        """The affine and the parameter factor of a product of two."""
        first, second = expression.arguments
        if second.depends_on_variables:
            first, second = second, first
        if second.depends_on_variables or not first.depends_on_variables:
            return None
        form = self.of(first)
        return None if form is None else (form, second)

    def scaled(self, form: AffineForm, factor: Expression) -> AffineForm | None:
        """factor * form, if the factor does not enlarge its shape."""
        if np.broadcast_shapes(factor.shape, form.shape) != form.shape:
            return None
        terms = tuple(self._scaled_term(term, factor) for term in form.terms)
        shift = form.shift
        if shift is not None:
            shift = self.parametrics.multiply(factor, shift)
        return replace(form, terms=terms, shift=shift)

    def _scaled_term(self, term: Term, factor: Expression) -> Term:
        if term.matrix is None:
            return replace(term, scale=self.parametrics.multiply(term.scale, factor))
        shape = term.matrix.shape
        return replace(
            term,
            matrix=self.parametrics.derive(
                scale_rows, factor, term.matrix, shape=shape
            ),
        )

    def blocks(self, form: AffineForm) -> list["Block"]:
        """The terms of a vector form, every scale written as a matrix."""
        is_sparse = any(
            term.matrix is not None and self.parametrics.sparse(term.matrix) is not None
            for term in form.terms
        )
        return [self._block(term, form, is_sparse) for term in form.terms]

    def _block(self, term: Term, form: AffineForm, is_sparse: bool) -> "Block":
        if term.matrix is not None:
            return Block(term.columns, term.matrix)
        size = form.shape[0] if form.shape else 1
        columns = term.columns if form.shape else term.columns[..., None]
        if is_sparse:
            sparse = diagonal_form(self.parametrics, term.scale, size)
            return Block(columns, sparse.matrix)
        matrix = self.parametrics.derive(
            partial(diagonal, size=size), term.scale, shape=(size, size)
        )
        return Block(columns, matrix)


class Block(NamedTuple):
    """A matrix and the columns it is applied to."""

    columns: np.ndarray
    matrix: Expression


# ---- one rule per operation ----------------------------------------------------------


def _field(forms: AffineForms, e: Expression) -> AffineForm:
    columns = forms.layout.columns(e.options["field"])
    return AffineForm((Term(columns),), None, e.shape, e.stages)


def _negate(forms: AffineForms, e: Expression) -> AffineForm | None:
    form = forms.of(e.arguments[0])
    return None if form is None else forms.scaled(form, MINUS_ONE)


def _multiply(forms: AffineForms, e: Expression) -> AffineForm | None:
    found = forms.operand(e)
    if found is None or found[0].shape != e.shape:
        return None
    return forms.scaled(*found)


def _divide(forms: AffineForms, e: Expression) -> AffineForm | None:
    top, bottom = e.arguments
    form = None if bottom.depends_on_variables else forms.of(top)
    if form is None or form.shape != e.shape:
        return None
    return forms.scaled(form, forms.parametrics.reciprocal(bottom))


def _add(forms: AffineForms, e: Expression) -> AffineForm | None:
    terms: list[Term] = []
    shift: Expression | None = None
    for one in e.arguments:
        if not one.depends_on_variables:
            shift = forms.parametrics.add(shift, one)
            continue
        form = _fitted(forms.of(one), e)
        if form is None:
            return None
        terms.extend(form.terms)
        if form.shift is not None:
            shift = forms.parametrics.add(shift, form.shift)
    return AffineForm(tuple(_merged(forms, terms)), shift, e.shape, e.stages)


def _fitted(form: AffineForm | None, e: Expression) -> AffineForm | None:
    """The form on the stages and in the shape of the sum `e` that it is part of."""
    if form is None or (form.shape != e.shape and not form.is_elementwise):
        return None
    if form.stages is not None and form.stages != e.stages:
        form = form.at(window(e))
    if form.shape == e.shape and (form.stages is None) == (e.stages is None):
        return form
    terms = tuple(
        replace(t, columns=_broadcast(t.columns, form, e)) for t in form.terms
    )
    return replace(form, terms=terms, shape=e.shape, stages=e.stages)


def _broadcast(columns: np.ndarray, form: AffineForm, e: Expression) -> np.ndarray:
    own = columns.shape if form.stages is None else columns.shape[1:]
    lead = () if e.stages is None else (len(e.stages),)
    if form.is_elementwise:
        padded = (1,) * (len(e.shape) - len(own)) + own
        target = lead + e.shape
    else:
        padded, target = own, lead + own
    if form.stages is not None:
        padded = (len(form.stages), *padded)
    return np.broadcast_to(columns.reshape(padded), target)


def _merged(forms: AffineForms, terms: list[Term]) -> list[Term]:
    """Terms of the same columns added up: A x - x is (A - I) x."""
    merged: list[Term] = []
    for term in terms:
        for k, other in enumerate(merged):
            if not np.array_equal(term.columns, other.columns):
                continue
            total = _sum_of_terms(forms, other, term)
            if total is not None:
                merged[k] = total
                break
        else:
            merged.append(term)
    return merged


def _sum_of_terms(forms: AffineForms, first: Term, second: Term) -> Term | None:
    parametrics = forms.parametrics
    if first.matrix is None and second.matrix is None:
        return replace(first, scale=parametrics.add(first.scale, second.scale))
    size = first.columns.shape[-1]
    fitting = AffineForm((first, second), None, (size,), None)
    one, other = forms.blocks(fitting)
    if one.matrix.shape != other.matrix.shape:
        return None
    return Term(one.columns, matrix=parametrics.add(one.matrix, other.matrix))


def _matmul(forms: AffineForms, e: Expression) -> AffineForm | None:
    found = forms.operand(e)
    if found is None or len(found[0].shape) != 1 or len(e.shape) > 1:
        return None
    form, factor = found
    is_transposed = e.arguments[0].depends_on_variables and factor.ndim == 2
    rows = e.shape[0] if e.shape else 1
    if factor.ndim == 1 or is_transposed:
        factor = forms.parametrics.derive(
            partial(as_matrix, is_transposed=is_transposed),
            factor,
            shape=(rows, form.shape[0]),
            sign=factor.sign,
        )
    return _multiplied(forms, factor, form, e)


def _vdot(forms: AffineForms, e: Expression) -> AffineForm | None:
    return _matmul(forms, e) if all(a.ndim == 1 for a in e.arguments) else None


def _multiplied(
    forms: AffineForms, matrix: Expression, form: AffineForm, e: Expression
) -> AffineForm:
    parametrics = forms.parametrics
    rows, size = matrix.shape
    terms = []
    for term in form.terms:
        inner = term.matrix
        if inner is not None:
            product = parametrics.derive(
                torch.matmul, matrix, inner, shape=(rows, inner.shape[1])
            )
        elif term.scale is not ONE:
            product = parametrics.derive(
                scale_columns, matrix, term.scale, shape=(rows, size)
            )
        else:
            product = matrix
        terms.append(Term(term.columns, matrix=product))
    shift = form.shift
    if shift is not None:
        shift = parametrics.derive(apply_matrix, matrix, shift, shape=(rows,))
    if shift is not None and not e.shape:
        shift = parametrics.derive(torch.squeeze, shift, shape=())
    return AffineForm(tuple(terms), shift, e.shape, e.stages)


def _sum(forms: AffineForms, e: Expression) -> AffineForm | None:
    (argument,) = e.arguments
    if argument.ndim != 1 or e.shape != ():
        return None
    form = forms.of(argument)
    if form is None:
        return None
    ones = constant(torch.ones(1, argument.shape[0]))
    return _multiplied(forms, ones, form, e)


def _index(forms: AffineForms, e: Expression) -> AffineForm | None:
    form = forms.of(e.arguments[0])
    if form is None or not form.is_elementwise:
        return None
    index = e.options["index"]
    size = int(np.prod(form.shape, dtype=int))
    # Positions within one stage, so that no rule of numpy moves the stage axis.
    places = np.arange(size).reshape(form.shape)[index]
    lead = () if form.stages is None else (len(form.stages),)
    terms = tuple(
        Term(
            term.columns.reshape(*lead, size)[..., places],
            _selected(forms, form, index, e.shape, term.scale),
        )
        for term in form.terms
    )
    shift = form.shift
    if shift is not None:
        shift = _selected(forms, form, index, e.shape, shift)
    return AffineForm(terms, shift, e.shape, e.stages)


def _selected(
    forms: AffineForms,
    form: AffineForm,
    index: tuple,
    shape: tuple[int, ...],
    value: Expression,
) -> Expression:
    if value.shape == ():
        return value
    return forms.parametrics.derive(
        partial(select, shape=form.shape, index=torch_index(index)),
        value,
        shape=shape,
        sign=value.sign,
    )


def _transpose(forms: AffineForms, e: Expression) -> AffineForm | None:
    axes = e.options.get("axes")
    order = range(e.ndim)[::-1] if axes is None else [one % e.ndim for one in axes]
    lead = 0 if e.stages is None else 1
    whole = (*range(lead), *(lead + one for one in order))
    return _rearranged(forms, e, lambda columns: columns.transpose(whole))


def _reshape(forms: AffineForms, e: Expression) -> AffineForm | None:
    lead = () if e.stages is None else (len(e.stages),)
    if e.options.get("order", "C") == "C":
        return _rearranged(forms, e, lambda columns: columns.reshape(lead + e.shape))

    def by_columns(columns: np.ndarray) -> np.ndarray:
        flat = _reversed(columns, len(lead)).reshape(lead + e.shape[::-1])
        return _reversed(flat, len(lead))

    return _rearranged(forms, e, by_columns)


def _reversed(columns: np.ndarray, lead: int) -> np.ndarray:
    """The axes behind the leading ones in the opposite order."""
    axes = (*range(lead), *range(lead, columns.ndim)[::-1])
    return columns.transpose(axes)


def _rearranged(
    forms: AffineForms, e: Expression, move: Callable[[np.ndarray], np.ndarray]
) -> AffineForm | None:
    form = forms.of(e.arguments[0])
    if form is None or form.shift is not None or not form.is_elementwise:
        return None
    if any(term.scale.shape for term in form.terms):
        return None
    terms = tuple(replace(t, columns=move(t.columns)) for t in form.terms)
    return AffineForm(terms, None, e.shape, e.stages)


def _next(forms: AffineForms, e: Expression) -> AffineForm | None:
    form = forms.of(e.arguments[0])
    shift = e.options["shift"]
    if form is None:
        return None
    moved = form.at([stage + shift for stage in window(e)])
    return replace(moved, stages=e.stages)


def _at(forms: AffineForms, e: Expression) -> AffineForm | None:
    form = forms.of(e.arguments[0])
    if form is None:
        return None
    row = e.options["stage"] - window(e.arguments[0]).start
    terms = tuple(replace(t, columns=t.columns[row]) for t in form.terms)
    return AffineForm(terms, form.shift, e.shape, None)


def _stages(forms: AffineForms, e: Expression) -> AffineForm | None:
    form = forms.of(e.arguments[0])
    if form is None or not form.is_elementwise:
        return None
    index = e.options["index"]
    rows = list(index) if isinstance(index, tuple) else index
    terms = tuple(replace(t, columns=t.columns[rows]) for t in form.terms)
    return AffineForm(terms, form.shift, e.shape, None)


_RULES: Mapping[str, Callable[[AffineForms, Expression], AffineForm | None]] = {
    "field": _field,
    "negate": _negate,
    "multiply": _multiply,
    "divide": _divide,
    "add": _add,
    "matmul": _matmul,
    "vdot": _vdot,
    "sum": _sum,
    "index": _index,
    "transpose": _transpose,
    "reshape": _reshape,
    "next": _next,
    "at": _at,
    "stages": _stages,
}
