"""Reads the quadratic and linear part of an objective off the declaration.

What it finds needs no auxiliary variables and no care for cvxpy's rules on parameters;
what is of another kind is left to cvxpy.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from optlayers.compile.affine_form import AffineForms
from optlayers.compile.coefficients import as_matrix, column_totals, weighted_total
from optlayers.compile.columns import window
from optlayers.compile.parametric import MINUS_ONE, ONE, Parametrics, constant, same
from optlayers.compile.quadratic import ObjectiveParts, QuadraticSum
from optlayers.modeling.expressions import Expression, Sign


def split_objective(
    objective: Expression, is_maximized: bool, forms: AffineForms
) -> ObjectiveParts:
    """Split an objective, negated if it is maximized, into what is minimized."""
    reader = _Reader(forms)
    weight = MINUS_ONE if is_maximized else ONE
    reader.read(objective, weight, None)
    return reader.sums.parts(reader.rest)


class _Reader:
    """Walks down linear operations with the weight that each result has."""

    def __init__(self, forms: AffineForms) -> None:
        self.forms = forms
        self.parametrics: Parametrics = forms.parametrics
        self.sums = QuadraticSum(forms)
        self.rest: list[Expression] = []

    def read(self, e: Expression, weight: Expression, stages: range | None) -> None:
        """Add sum(weight * e), over `stages` if e is staged.

        The weight is broadcastable to the shape of e.
        """
        if not e.depends_on_variables:
            self.sums.add_constant(e, weight)
            return
        form = self.forms.of(e)
        if form is not None:
            self.sums.add_linear(form if stages is None else form.at(stages), weight)
            return
        rule = _RULES.get(e.name)
        if rule is None or not rule(self, e, weight, stages):
            self._leave(e, weight, stages)

    def descend(
        self,
        e: Expression,
        argument: Expression,
        weight: Expression,
        stages: range | None,
    ) -> bool:
        """Read an argument of e whose every stage counts as those of e do."""
        if stages is not None and not argument.is_staged:
            weight = self.weighted(weight, len(stages))
            stages = None
        self.read(argument, weight, stages)
        return True

    def weighted(self, weight: Expression, factor: float) -> Expression:
        """weight * factor."""
        return self.parametrics.multiply(weight, constant(factor))

    def _leave(self, e: Expression, weight: Expression, stages: range | None) -> None:
        """Leave sum(weight * e) to cvxpy."""
        if weight is not ONE:
            e = node("multiply", (weight, e), e.shape, e.stages, weight.sign * e.sign)
        if stages is not None:
            if stages == e.stages:
                e = node("total", (e,), e.shape, None, e.sign)
            else:
                first = window(e).start
                index = tuple(stage - first for stage in stages)
                shape = (len(index), *e.shape)
                e = node("stages", (e,), shape, None, e.sign, index=index)
        if e.shape:
            e = node("sum", (e,), (), None, e.sign, axis=None, keepdims=False)
        self.rest.append(e)


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


# ---- one rule per operation; False leaves it to cvxpy --------------------------------


def _add(
    reader: _Reader, e: Expression, weight: Expression, stages: range | None
) -> bool:
    if weight.shape and any(one.shape != e.shape for one in e.arguments):
        return False
    for one in e.arguments:
        copies = _size(e.shape) // max(_size(one.shape), 1)
        reader.descend(e, one, reader.weighted(weight, copies), stages)
    return True


def _negate(
    reader: _Reader, e: Expression, weight: Expression, stages: range | None
) -> bool:
    return reader.descend(e, e.arguments[0], reader.weighted(weight, -1.0), stages)


def _multiply(
    reader: _Reader, e: Expression, weight: Expression, stages: range | None
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
    reader: _Reader, e: Expression, weight: Expression, stages: range | None
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
    weight: Expression,
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
    reader: _Reader, e: Expression, weight: Expression, stages: range | None
) -> bool:
    first, second = e.arguments
    if e.shape == () and same(first, second):
        return _square(reader, e, weight, stages)
    argument, factor = (
        (first, second) if first.depends_on_variables else (second, first)
    )
    if factor.depends_on_variables or argument.ndim != 1 or e.ndim > 1:
        return False
    weights = () if weight is ONE else (weight,)
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
    sign = weight.sign * factor.sign
    totals = parametrics.derive(
        column_totals, factor, *weights, shape=argument.shape, sign=sign
    )
    return reader.descend(e, argument, totals, stages)


def _sum(
    reader: _Reader, e: Expression, weight: Expression, stages: range | None
) -> bool:
    if weight.shape:
        return False
    return reader.descend(e, e.arguments[0], weight, stages)


def _mean(
    reader: _Reader, e: Expression, weight: Expression, stages: range | None
) -> bool:
    if weight.shape:
        return False
    (argument,) = e.arguments
    share = max(_size(e.shape), 1) / max(_size(argument.shape), 1)
    return reader.descend(e, argument, reader.weighted(weight, share), stages)


def _total(
    reader: _Reader, e: Expression, weight: Expression, stages: range | None
) -> bool:
    (argument,) = e.arguments
    reader.read(argument, weight, argument.stages)
    return True


def _at(
    reader: _Reader, e: Expression, weight: Expression, stages: range | None
) -> bool:
    stage = e.options["stage"]
    reader.read(e.arguments[0], weight, range(stage, stage + 1))
    return True


def _next(
    reader: _Reader, e: Expression, weight: Expression, stages: range | None
) -> bool:
    shift = e.options["shift"]
    assert stages is not None
    moved = range(stages.start + shift, stages.stop + shift)
    reader.read(e.arguments[0], weight, moved)
    return True


def _square(
    reader: _Reader, e: Expression, weight: Expression, stages: range | None
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
    return reader.sums.add_squares(form, weight)


def _power(
    reader: _Reader, e: Expression, weight: Expression, stages: range | None
) -> bool:
    exponent = e.options["p"]
    if isinstance(exponent, Expression) or exponent != 2:
        return False
    return _square(reader, e, weight, stages)


def _sum_squares(
    reader: _Reader, e: Expression, weight: Expression, stages: range | None
) -> bool:
    return e.shape == () and _square(reader, e, weight, stages)


def _quad_over_lin(
    reader: _Reader, e: Expression, weight: Expression, stages: range | None
) -> bool:
    bottom = e.arguments[1]
    if bottom.depends_on_variables or e.shape != () or not bottom.sign.is_nonneg:
        return False
    factor = reader.parametrics.multiply(weight, reader.parametrics.reciprocal(bottom))
    return _square(reader, e, factor, stages)


def _quad_form(
    reader: _Reader, e: Expression, weight: Expression, stages: range | None
) -> bool:
    Q = reader.parametrics.semidefinite(e)
    form = None if Q is None else reader.forms.of(e.arguments[0])
    if Q is None or form is None:
        return False
    if stages is not None and form.stages is not None:
        form = form.at(stages)
    elif stages is not None:
        weight = reader.weighted(weight, len(stages))
    return reader.sums.add_quad_form(form, Q, weight)


def _vector_of_norm(e: Expression) -> Expression | None:
    """v where e is the Euclidean norm of the vector v, else None."""
    if e.name not in ("norm", "pnorm") or e.shape != () or e.arguments[0].ndim != 1:
        return None
    order = e.options.get("p", 2)
    return e.arguments[0] if order in (2, "fro", None) else None


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=int))


_Rule = Callable[[_Reader, Expression, Expression, range | None], bool]
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
