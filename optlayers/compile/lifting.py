"""Rewrites expressions so that cvxpy's rules on parameters hold by construction.

Parameters are gathered, a (B x) becoming (a B) x, so that none multiplies another
inside cvxpy; where that cannot be done, an argument that holds parameters is replaced
by an auxiliary variable that equals it.
"""

from functools import partial

import numpy as np
import torch

from optlayers.compile.coefficients import (
    as_matrix,
    expanded,
    scale_columns,
    scale_rows,
)
from optlayers.compile.lifting_rules import RULES
from optlayers.compile.nodes import (
    Place,
    Where,
    parameter_first,
    product,
    with_arguments,
)
from optlayers.compile.parametric import Parametrics
from optlayers.modeling.expressions import Expression

# Linear in all of their arguments together: a scalar factor moves through them.
LINEAR = frozenset(
    "add negate sum mean index reshape transpose next at stages total stack "
    "concatenate hstack vstack diag trace cumsum diff vec upper_tri vec_to_upper_tri "
    "triu tril broadcast_to partial_trace partial_transpose".split()
)


# Linear in each of their arguments.
_BILINEAR = frozenset("multiply matmul vdot outer kron convolve einsum".split())


class Lifter:
    """Rewrites the expressions of one declaration, each once."""

    def __init__(
        self, parametrics: Parametrics, shared: frozenset[Expression] = frozenset()
    ) -> None:
        """Begin with nothing rewritten.

        Args:
            parametrics: what is known of the parameters.
            shared: expressions that become auxiliary variables where they are affine.
        """
        self.parametrics = parametrics
        self.shared = shared
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
            rule = RULES.get(e.name)
            known = rebuilt if rule is None else rule(self, rebuilt)
            if e in self.shared and self.is_affine(known):
                known = self.auxiliary(known)
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


def _scaled_place(factor: Expression, one: Expression, whole: Where) -> Place:
    shape = np.broadcast_shapes(factor.shape, one.shape)
    return Place(shape, one.stages, whole.origin)


def _is_linear_in_variables(e: Expression) -> bool:
    if e.name in _BILINEAR:
        return sum(one.depends_on_variables for one in e.arguments) <= 1
    if e.name == "divide":
        return not e.arguments[1].depends_on_variables
    return e.name in LINEAR
