"""Sparse matrices of parameters as values on a pattern, kept so through all algebra.

A product, sum or transpose of them is computed entry by entry; where an operation has
no such form it is computed in torch, on the dense matrix.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
import torch

from optlayers.compile import coefficients as dense
from optlayers.compile.sparse_coefficients import (
    chosen,
    entries_of,
    halved,
    joined,
    of_rows,
    pair_count,
    repeated,
    sparse_apply,
    sparse_product,
    sparse_quadratic,
)
from optlayers.linalg.pattern import Pattern
from optlayers.modeling.expressions import Expression, constant_of, on_pattern
from optlayers.modeling.origin import NOWHERE

if TYPE_CHECKING:
    from optlayers.compile.parametric import Parametrics

# A product whose entries are sums of more terms than this per entry of its factors
# costs more than the auxiliary variables that avoid it.
MOST_PAIRS = 100

_ONE = constant_of(torch.ones((), dtype=torch.float64), NOWHERE)


@dataclass(frozen=True, eq=False)
class SparseForm:
    """A matrix of parameters, or of numbers, with known zeros.

    Attributes:
        values: its entries, [nnz].
        pattern: where they are; repeated positions add up.
    """

    values: Expression
    pattern: Pattern

    @property
    def matrix(self) -> Expression:
        """The matrix as one expression."""
        return on_pattern(self.values, self.pattern)

    @property
    def transposed(self) -> "SparseForm":
        """The transpose."""
        return SparseForm(self.values, self.pattern.transposed)


def read_sparse(parametrics: "Parametrics", e: Expression) -> SparseForm | None:
    """An expression of parameters as values on a pattern; None if it is not sparse."""
    rule = _READERS.get(e.name)
    if rule is None or e.ndim != 2 or e.depends_on_variables:
        return None
    return rule(parametrics, e)


def derive_sparse(
    parametrics: "Parametrics",
    function: Callable[..., Any],
    arguments: tuple[Expression, ...],
) -> Expression | None:
    """function(*arguments) without filling in a sparse argument; None if it must be."""
    words: Mapping[str, Any] = {}
    if isinstance(function, partial):
        function, words = function.func, function.keywords
    rule = _RULES.get(function)
    if rule is None or all(parametrics.sparse(one) is None for one in arguments):
        return None
    return rule(parametrics, *arguments, **words)


def diagonal_form(parametrics: "Parametrics", scale: Expression, size: int):
    """diag(scale) of order `size` as a sparse matrix; a scalar stands for all."""
    each = torch.arange(size)
    values = parametrics.derive(partial(repeated, size=size), scale, shape=(size,))
    return SparseForm(values, Pattern(each, each, (size, size)))


def is_worth_multiplying(first: Pattern, second: Pattern) -> bool:
    """Whether first @ second is best computed entry by entry."""
    most = MOST_PAIRS * (first.size + second.size)
    return pair_count(first, second) <= most


# ---- which expressions are sparse ----------------------------------------------------


def _pattern(parametrics: "Parametrics", e: Expression) -> SparseForm:
    return SparseForm(e.arguments[0], e.options["pattern"])


def _transpose(parametrics: "Parametrics", e: Expression) -> SparseForm | None:
    form = parametrics.sparse(e.arguments[0])
    if form is None or e.options.get("axes") not in (None, (1, 0)):
        return None
    return form.transposed


def _negate(parametrics: "Parametrics", e: Expression) -> SparseForm | None:
    form = parametrics.sparse(e.arguments[0])
    return None if form is None else _mapped(parametrics, torch.neg, form)


def _multiply(parametrics: "Parametrics", e: Expression) -> SparseForm | None:
    found = _scaled(parametrics, *e.arguments)
    return found if found is not None and found.pattern.shape == e.shape else None


def _divide(parametrics: "Parametrics", e: Expression) -> SparseForm | None:
    top, bottom = e.arguments
    form = parametrics.sparse(top)
    if form is None or form.pattern.shape != e.shape:
        return None
    below = _entries(parametrics, bottom, form.pattern)
    return _mapped(parametrics, torch.true_divide, form, below)


def _add(parametrics: "Parametrics", e: Expression) -> SparseForm | None:
    forms = [parametrics.sparse(one) for one in e.arguments]
    known = [one for one in forms if one is not None and one.pattern.shape == e.shape]
    return _joined(parametrics, known) if len(known) == len(forms) else None


def _matmul(parametrics: "Parametrics", e: Expression) -> SparseForm | None:
    first, second = map(parametrics.sparse, e.arguments)
    if first is None or second is None:
        return None
    return _product(parametrics, first, second)


def _index(parametrics: "Parametrics", e: Expression) -> SparseForm | None:
    form = parametrics.sparse(e.arguments[0])
    if form is None or not form.pattern.is_simple:
        return None
    index = e.options["index"]
    if any(entry is None or entry is Ellipsis for entry in index):
        return None
    numbered = form.pattern.compressed(np.arange(1, form.pattern.size + 1))
    found = sp.coo_array(numbered.tocsr()[index])
    rows, cols = (torch.from_numpy(one.astype(np.int64)) for one in found.coords)
    numbers = torch.from_numpy(found.data.astype(np.int64) - 1)
    values = parametrics.derive(
        partial(chosen, numbers=numbers),
        form.values,
        shape=tuple(numbers.shape),
        sign=form.values.sign,
    )
    return SparseForm(values, Pattern(rows, cols, (e.shape[0], e.shape[1])))


_READERS: Mapping[str, Callable[["Parametrics", Expression], SparseForm | None]] = {
    "pattern": _pattern,
    "transpose": _transpose,
    "negate": _negate,
    "multiply": _multiply,
    "divide": _divide,
    "add": _add,
    "matmul": _matmul,
    "index": _index,
}


# ---- algebra of sparse matrices ------------------------------------------------------


def _mapped(
    parametrics: "Parametrics",
    function: Callable[..., Any],
    form: SparseForm,
    *others: Expression,
) -> SparseForm:
    """The matrix with values function(values, *others)."""
    values = parametrics.derive(function, form.values, *others, shape=form.values.shape)
    return SparseForm(values, form.pattern)


def _entries(
    parametrics: "Parametrics", other: Expression, pattern: Pattern
) -> Expression:
    """What stands at the entries of a pattern in something that broadcasts to it."""
    if not other.shape:
        return other
    form = parametrics.sparse(other)
    if form is not None and form.pattern.shape == pattern.shape:
        if form.pattern is pattern:
            return form.values
        if form.pattern.is_simple:
            take = partial(chosen, numbers=form.pattern.find(pattern.places))
            return parametrics.derive(take, form.values, shape=(pattern.size,))
    take = partial(entries_of, pattern=pattern)
    return parametrics.derive(take, other, shape=(pattern.size,), sign=other.sign)


def _scaled(
    parametrics: "Parametrics", first: Expression, second: Expression
) -> SparseForm | None:
    """first * second, entry by entry."""
    form, other = parametrics.sparse(first), second
    if form is None:
        form, other = parametrics.sparse(second), first
    if form is None:
        return None
    shape = form.pattern.shape
    if np.broadcast_shapes(shape, other.shape) != shape:
        return None
    values = parametrics.multiply(
        form.values, _entries(parametrics, other, form.pattern)
    )
    return SparseForm(values, form.pattern)


def _joined(parametrics: "Parametrics", forms: list[SparseForm]) -> SparseForm:
    """The sum."""
    patterns = [one.pattern for one in forms]
    pattern = Pattern(
        torch.cat([one.rows for one in patterns]),
        torch.cat([one.cols for one in patterns]),
        patterns[0].shape,
    )
    values = parametrics.derive(
        joined, *(one.values for one in forms), shape=(pattern.size,)
    )
    return SparseForm(values, pattern)


def _product(
    parametrics: "Parametrics", first: SparseForm, second: SparseForm
) -> SparseForm | None:
    if not is_worth_multiplying(first.pattern, second.pattern):
        return None
    pairs, pattern = parametrics.pairs(first.pattern, second.pattern)
    multiplied = partial(sparse_product, pairs=pairs)
    values = parametrics.derive(
        multiplied, first.values, second.values, shape=(pattern.size,)
    )
    return SparseForm(values, pattern)


# ---- the coefficient functions on sparse matrices; None fills them in ----------------


def _multiply_rule(parametrics: "Parametrics", first: Expression, second: Expression):
    return _matrix(_scaled(parametrics, first, second))


def _add_rule(parametrics: "Parametrics", first: Expression, second: Expression):
    forms = [parametrics.sparse(first), parametrics.sparse(second)]
    known = [one for one in forms if one is not None]
    if len(known) < 2 or known[0].pattern.shape != known[1].pattern.shape:
        return None
    return _joined(parametrics, known).matrix


def _matmul_rule(parametrics: "Parametrics", first: Expression, second: Expression):
    left, right = parametrics.sparse(first), parametrics.sparse(second)
    if left is not None and right is not None:
        return _matrix(_product(parametrics, left, right))
    if left is not None and second.ndim == 1:
        return _applied(parametrics, left, second)
    if right is not None and first.ndim == 1:
        return _applied(parametrics, right.transposed, first)
    return None


def _scale_rows_rule(parametrics: "Parametrics", factor: Expression, M: Expression):
    form = parametrics.sparse(M)
    if form is None:
        return None
    take = partial(of_rows, pattern=form.pattern)
    factors = parametrics.derive(
        take, factor, shape=(form.pattern.size,), sign=factor.sign
    )
    values = parametrics.multiply(form.values, factors)
    return SparseForm(values, form.pattern).matrix


def _scale_columns_rule(parametrics: "Parametrics", M: Expression, factor: Expression):
    form = parametrics.sparse(M)
    if form is None:
        return None
    found = _scale_rows_rule(parametrics, factor, form.transposed.matrix)
    turned = None if found is None else parametrics.sparse(found)
    return None if turned is None else turned.transposed.matrix


def _apply_rule(parametrics: "Parametrics", M: Expression, vector: Expression):
    form = parametrics.sparse(M)
    return None if form is None else _applied(parametrics, form, vector)


def _project_rule(
    parametrics: "Parametrics",
    M: Expression,
    shift: Expression,
    weight: Expression | None = None,
):
    form = parametrics.sparse(M)
    if form is None:
        return None
    if weight is not None:
        shift = parametrics.multiply(weight, shift)
    return _applied(parametrics, form.transposed, shift)


def _totals_rule(
    parametrics: "Parametrics", M: Expression, weight: Expression | None = None
):
    form = parametrics.sparse(M)
    if form is None:
        return None
    return _applied(parametrics, form.transposed, _ONE if weight is None else weight)


def _transposed_times_rule(
    parametrics: "Parametrics", M: Expression, other: Expression
):
    form = parametrics.sparse(M)
    if form is None:
        return None
    return _matmul_rule(parametrics, form.transposed.matrix, other)


def _gram_rule(
    parametrics: "Parametrics",
    first: Expression,
    second: Expression,
    weight: Expression | None = None,
):
    left, right = parametrics.sparse(first), parametrics.sparse(second)
    if left is None or right is None:
        return None
    if weight is not None:
        scaled = _scale_rows_rule(parametrics, weight, second)
        right = None if scaled is None else parametrics.sparse(scaled)
        if right is None:
            return None
    return _matrix(_product(parametrics, left.transposed, right))


def _as_matrix_rule(parametrics: "Parametrics", M: Expression, is_transposed: bool):
    form = parametrics.sparse(M)
    if form is None:
        return None
    return form.transposed.matrix if is_transposed else M


def _symmetrized_rule(parametrics: "Parametrics", M: Expression):
    form = parametrics.sparse(M)
    if form is None:
        return None
    one, other = form.pattern, form.pattern.transposed
    pattern = Pattern(
        torch.cat([one.rows, other.rows]), torch.cat([one.cols, other.cols]), one.shape
    )
    values = parametrics.derive(halved, form.values, shape=(pattern.size,))
    return SparseForm(values, pattern).matrix


def _quadratic_value_rule(
    parametrics: "Parametrics", vector: Expression, M: Expression
):
    form = parametrics.sparse(M)
    if form is None:
        return None
    value = partial(sparse_quadratic, pattern=form.pattern)
    return parametrics.derive(value, vector, form.values, shape=())


def _applied(parametrics: "Parametrics", form: SparseForm, vector: Expression):
    apply = partial(sparse_apply, pattern=form.pattern)
    return parametrics.derive(
        apply, form.values, vector, shape=(form.pattern.shape[0],)
    )


def _matrix(form: SparseForm | None) -> Expression | None:
    return None if form is None else form.matrix


_RULES: Mapping[Any, Callable[..., Expression | None]] = {
    torch.mul: _multiply_rule,
    torch.add: _add_rule,
    torch.matmul: _matmul_rule,
    dense.scale_rows: _scale_rows_rule,
    dense.scale_columns: _scale_columns_rule,
    dense.apply_matrix: _apply_rule,
    dense.project: _project_rule,
    dense.column_totals: _totals_rule,
    dense.transposed_times: _transposed_times_rule,
    dense.gram: _gram_rule,
    dense.as_matrix: _as_matrix_rule,
    dense.symmetrized: _symmetrized_rule,
    dense.quadratic_value: _quadratic_value_rule,
}
