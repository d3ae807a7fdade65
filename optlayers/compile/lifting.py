"""Rewrites expressions so that cvxpy's rules on parameters hold by construction.

Parameters are gathered, a (B x) becoming (a B) x, so that none multiplies another
inside cvxpy; where that cannot be done, an argument that holds parameters is replaced
by an auxiliary variable that equals it.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from optlayers.compile.coefficients import (
    as_matrix,
    expanded,
    scale_columns,
    scale_rows,
)
from optlayers.compile.parametric import Parametrics, constant, same
from optlayers.compile.semidefinite import symmetric_root
from optlayers.modeling.expressions import Expression, Sign
from optlayers.modeling.origin import Origin

# Linear in all of their arguments together: a scalar factor moves through them.
LINEAR = frozenset(
    "add negate sum mean index reshape transpose next at stages total stack "
    "concatenate hstack vstack diag trace cumsum diff vec upper_tri".split()
)


# Linear in each of their two arguments.
_BILINEAR = frozenset(("multiply", "matmul", "vdot", "outer", "kron"))


class Place(NamedTuple):
    """What a product must look like: its shape, its stages, where it was written."""

    shape: tuple[int, ...]
    stages: range | None
    origin: Origin


Where = Expression | Place


class Lifter:
    """Rewrites the expressions of one declaration, each once."""

    def __init__(self, parametrics: Parametrics) -> None:
        self.parametrics = parametrics
        self._prepared: dict[Expression, Expression] = {}
        self._isolated: dict[Expression, Expression] = {}
        self._affine: dict[Expression, bool] = {}
        self._auxiliaries: dict[Expression, Expression] = {}

    def prepare(self, e: Expression) -> Expression:
        """The same expression with its parameters gathered."""
        if not e.depends_on_variables or e.name in ("field", "auxiliary"):
            return e
        known = self._prepared.get(e)
        if known is None:
            arguments = tuple(map(self.prepare, e.arguments))
            rebuilt = with_arguments(e, arguments)
            rule = _RULES.get(e.name)
            known = rebuilt if rule is None else rule(self, rebuilt)
            self._prepared[e] = known
        return known

    def isolate(self, e: Expression) -> Expression:
        """The same expression with no parameter inside a nonlinear atom."""
        if not self.has_parameters(e):
            return e
        known = self._isolated.get(e)
        if known is None:
            isolate = self.isolate if _is_linear_in_variables(e) else self.freed
            known = with_arguments(e, tuple(map(isolate, e.arguments)))
            self._isolated[e] = known
        return known

    def freed(self, e: Expression) -> Expression:
        """The same expression, auxiliary variables in the place of parameters."""
        if not self.parametrics.is_parametric(e):
            return e
        if not e.depends_on_variables or _is_linear_in_variables(e):
            return self.auxiliary(e)
        return with_arguments(e, tuple(map(self.freed, e.arguments)))

    def auxiliary(self, e: Expression) -> Expression:
        """A variable that constraints hold equal to an affine expression.

        To a convex one it is held above, to a concave one below: where such an argument
        is allowed at all, what it is an argument of is monotone that way.
        """
        known = self._auxiliaries.get(e)
        if known is None:
            known = Expression(
                "auxiliary", (e,), {}, e.shape, e.stages, e.sign, e.origin
            )
            # An argument of parameters alone would make it a constant.
            object.__setattr__(known, "depends_on_variables", True)
            self._auxiliaries[e] = known
        return known

    def has_parameters(self, e: Expression) -> bool:
        """Whether parameters occur beside variables."""
        return (
            e.depends_on_variables
            and e.name != "auxiliary"
            and self.parametrics.is_parametric(e)
        )

    def is_affine(self, e: Expression) -> bool:
        """Whether it is affine in the variables, as far as names tell."""
        if not e.depends_on_variables or e.name in ("field", "auxiliary"):
            return True
        known = self._affine.get(e)
        if known is None:
            known = _is_linear_in_variables(e) and all(map(self.is_affine, e.arguments))
            self._affine[e] = known
        return known

    # ---- products --------------------------------------------------------------------

    def scale(self, factor: Expression, e: Expression, whole: Where) -> Expression:
        """factor * e in the shape of `whole`, its parameters gathered."""
        if not self.parametrics.is_parametric(factor) or not self._is_mixed(e):
            return product("multiply", factor, e, whole)
        if not e.depends_on_variables:
            return self._scaled_parameters(factor, e, whole)
        fits = e.shape == whole.shape
        if (fits and e.name in ("add", "negate")) or (
            e.name in LINEAR and not factor.shape
        ):
            arguments = tuple(
                self.scale(factor, one, _scaled_place(factor, one, whole))
                for one in e.arguments
            )
            return with_arguments(e, arguments, sign=factor.sign * e.sign)
        if fits and e.name == "multiply":
            mine, other = parameter_first(e)
            if mine is not None:
                gathered = self.parametrics.multiply(factor, mine)
                return self.scale(gathered, other, whole)
        if fits and e.name == "matmul":
            regrouped = self._scaled_matmul(factor, e, whole)
            if regrouped is not None:
                return regrouped
        if fits and e.name == "dotsort" and factor.sign.is_nonneg:
            weights = self.parametrics.multiply(factor, e.arguments[1])
            scaled = (self.freed(e.arguments[0]), weights)
            return with_arguments(e, scaled, sign=factor.sign * e.sign)
        return product("multiply", factor, self.freed(e), whole)

    def multiply_left(
        self, matrix: Expression, e: Expression, whole: Where
    ) -> Expression:
        """matrix @ e, parameters of e gathered into the matrix."""
        if not self.parametrics.is_parametric(matrix) or not self._is_mixed(e):
            return product("matmul", matrix, e, whole)
        if not e.depends_on_variables:
            return self._derived_matmul(matrix, e, whole)
        if e.name in ("add", "negate") and all(a.shape == e.shape for a in e.arguments):
            arguments = tuple(
                self.multiply_left(
                    matrix, one, Place(whole.shape, one.stages, whole.origin)
                )
                for one in e.arguments
            )
            sign = matrix.sign * e.sign
            return Expression(
                e.name, arguments, {}, whole.shape, whole.stages, sign, whole.origin
            )
        if e.name == "matmul" and not e.arguments[0].depends_on_variables:
            inner, rest = e.arguments
            if inner.ndim == 2:
                gathered = self._matrix_product(matrix, inner)
                return self.multiply_left(gathered, rest, whole)
        if e.name == "multiply" and e.ndim == 1:
            mine, other = parameter_first(e)
            if mine is not None and other.shape == e.shape:
                gathered = self.parametrics.derive(
                    scale_columns, matrix, mine, shape=matrix.shape
                )
                return self.multiply_left(gathered, other, whole)
        return product("matmul", matrix, self.freed(e), whole)

    def multiply_right(
        self, e: Expression, matrix: Expression, whole: Where
    ) -> Expression:
        """e @ matrix, parameters of e gathered into the matrix where e is a vector."""
        if not self.parametrics.is_parametric(matrix) or not self._is_mixed(e):
            return product("matmul", e, matrix, whole)
        if e.ndim == 1:
            transposed = matrix
            if matrix.ndim == 2:
                transposed = self.parametrics.derive(
                    partial(as_matrix, is_transposed=True),
                    matrix,
                    shape=matrix.shape[::-1],
                    sign=matrix.sign,
                )
            return self.multiply_left(transposed, e, whole)
        return product("matmul", self.freed(e), matrix, whole)

    def _is_mixed(self, e: Expression) -> bool:
        return e.name != "auxiliary" and self.parametrics.is_parametric(e)

    def _scaled_parameters(
        self, factor: Expression, e: Expression, whole: Where
    ) -> Expression:
        gathered = self.parametrics.multiply(factor, e)
        if gathered.shape == whole.shape:
            return gathered
        return self.parametrics.derive(
            partial(expanded, shape=whole.shape),
            gathered,
            shape=whole.shape,
            sign=gathered.sign,
        )

    def _scaled_matmul(
        self, factor: Expression, e: Expression, whole: Where
    ) -> Expression | None:
        left, right = e.arguments
        is_left = not left.depends_on_variables
        matrix, other = (left, right) if is_left else (right, left)
        if matrix.depends_on_variables:
            return None
        if not factor.shape:
            gathered = self.parametrics.multiply(factor, matrix)
        elif is_left and matrix.ndim == 2 and e.ndim == 1:
            gathered = self.parametrics.derive(
                scale_rows, factor, matrix, shape=matrix.shape
            )
        elif not is_left and matrix.ndim == 2 and e.ndim == 1:
            gathered = self.parametrics.derive(
                scale_columns, matrix, factor, shape=matrix.shape
            )
        else:
            return None
        if is_left:
            return self.multiply_left(gathered, other, whole)
        return self.multiply_right(other, gathered, whole)

    def _derived_matmul(
        self, matrix: Expression, e: Expression, whole: Where
    ) -> Expression:
        return self.parametrics.derive(
            torch.matmul, matrix, e, shape=whole.shape, sign=matrix.sign * e.sign
        )

    def _matrix_product(self, first: Expression, second: Expression) -> Expression:
        shape = (*first.shape[:-1], second.shape[1])
        return self.parametrics.derive(
            torch.matmul, first, second, shape=shape, sign=first.sign * second.sign
        )


def with_arguments(
    e: Expression, arguments: tuple[Expression, ...], sign: Sign | None = None
) -> Expression:
    """The same operation on other arguments."""
    unchanged = all(a is b for a, b in zip(arguments, e.arguments, strict=True))
    if unchanged and sign is None:
        return e
    return Expression(
        e.name, arguments, e.options, e.shape, e.stages, sign or e.sign, e.origin
    )


def product(
    name: str, first: Expression, second: Expression, whole: Where
) -> Expression:
    """A product node in the place of `whole`."""
    sign = first.sign * second.sign
    return Expression(
        name, (first, second), {}, whole.shape, whole.stages, sign, whole.origin
    )


def parameter_first(e: Expression) -> tuple[Expression | None, Expression]:
    """The factors of a product, the one without variables first; None if none is."""
    first, second = e.arguments
    if not first.depends_on_variables:
        return first, second
    if not second.depends_on_variables:
        return second, first
    return None, e


def _scaled_place(factor: Expression, one: Expression, whole: Where) -> Place:
    shape = np.broadcast_shapes(factor.shape, one.shape)
    return Place(shape, one.stages, whole.origin)


def _is_linear_in_variables(e: Expression) -> bool:
    if e.name in _BILINEAR:
        return sum(one.depends_on_variables for one in e.arguments) <= 1
    if e.name == "divide":
        return not e.arguments[1].depends_on_variables
    return e.name in LINEAR


# ---- one rule per operation --------------------------------------------------------


def _multiply(lifter: Lifter, e: Expression) -> Expression:
    if same(*e.arguments):
        return _power_node(e, e.arguments[0])
    mine, other = parameter_first(e)
    return e if mine is None else lifter.scale(mine, other, e)


def _divide(lifter: Lifter, e: Expression) -> Expression:
    top, bottom = e.arguments
    if bottom.depends_on_variables or not lifter.parametrics.is_parametric(bottom):
        return e
    return lifter.scale(lifter.parametrics.reciprocal(bottom), top, e)


def _matmul(lifter: Lifter, e: Expression) -> Expression:
    left, right = e.arguments
    if e.shape == () and same(left, right):
        return Expression(
            "sum_squares", (left,), {}, (), e.stages, Sign.NONNEG, e.origin
        )
    if not left.depends_on_variables:
        return lifter.multiply_left(left, right, e)
    if not right.depends_on_variables:
        return lifter.multiply_right(left, right, e)
    return e


def _bilinear(lifter: Lifter, e: Expression) -> Expression:
    if sum(map(lifter.parametrics.is_parametric, e.arguments)) < 2:
        return e
    arguments = (
        lifter.freed(one) if one.depends_on_variables else one for one in e.arguments
    )
    return with_arguments(e, tuple(arguments))


def _kron(lifter: Lifter, e: Expression) -> Expression:
    """A product of all pairs of entries, for cvxpy's kron takes no parameters."""
    factor, other = parameter_first(e)
    if factor is None or not lifter.parametrics.is_parametric(factor):
        return e
    pieces = [torch.ones(one.shape) for one in (factor, other)]
    ones, other_ones = map(constant, pieces)
    is_left = factor is e.arguments[0]
    pair = (factor, other_ones) if is_left else (other_ones, factor)
    spread = lifter.parametrics.derive(
        torch.kron, *pair, shape=e.shape, sign=factor.sign
    )
    other = lifter.freed(other)
    repeated = (ones, other) if is_left else (other, ones)
    return lifter.scale(spread, with_arguments(e, repeated, sign=other.sign), e)


def _dotsort(lifter: Lifter, e: Expression) -> Expression:
    """cvxpy takes parameters in the weights or in the vector, not in both."""
    vector, weights = e.arguments
    if not lifter.parametrics.is_parametric(weights):
        return e
    return with_arguments(e, (lifter.freed(vector), weights))


def _quad_form(lifter: Lifter, e: Expression) -> Expression:
    """x'Q x with a parametric Q is |R x|^2 with R R = Q."""
    argument, Q = e.arguments[0], lifter.parametrics.semidefinite(e)
    if Q is None:
        return e
    root = lifter.parametrics.derive(symmetric_root, Q, shape=Q.shape, origin=Q.origin)
    image = Expression(
        "matmul", (root, argument), {}, argument.shape, e.stages, Sign.UNKNOWN, e.origin
    )
    image = lifter.multiply_left(root, argument, image)
    return Expression("sum_squares", (image,), {}, (), e.stages, Sign.NONNEG, e.origin)


def _power_node(e: Expression, base: Expression) -> Expression:
    return Expression(
        "power", (base,), {"p": 2}, e.shape, e.stages, Sign.NONNEG, e.origin
    )


_RULES: Mapping[str, Callable[[Lifter, Expression], Expression]] = {
    "multiply": _multiply,
    "divide": _divide,
    "matmul": _matmul,
    "vdot": _bilinear,
    "outer": _bilinear,
    "kron": _kron,
    "dotsort": _dotsort,
    "quad_form": _quad_form,
}
