"""Expressions of parameters alone: recognising, building and evaluating them.

Whatever holds no variable is computed in torch and enters the compiled problem as one
leaf; what holds no parameter either is folded to a number.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optlayers.compile.sparse import SparseForm, derive_sparse, read_sparse
from optlayers.compile.sparse_coefficients import Pairs, meeting_pairs
from optlayers.linalg.definite import is_semidefinite
from optlayers.linalg.pattern import Pattern
from optlayers.modeling.evaluate import Evaluator
from optlayers.modeling.expressions import Expression, constant_of
from optlayers.modeling.foreign import Slot
from optlayers.modeling.origin import NOWHERE, Origin
from optlayers.modeling.signs import Sign

# Eigenvalues this far below zero, relative to the largest, are rounding.
PSD_TOLERANCE = 1e-10


class Parametrics:
    """Facts about the expressions of one declaration, each found once.

    Expressions are compared by identity; those that are asked about are kept alive.
    """

    def __init__(self) -> None:
        self._parametric: dict[Expression, bool] = {}
        self._values: dict[Expression, Tensor] = {}
        self._canonical: dict[Expression, Expression] = {}
        self._first: dict[Hashable, Expression] = {}
        self._sparse: dict[Expression, SparseForm | None] = {}
        self._pairs: dict[tuple[Pattern, Pattern], tuple[Pairs, Pattern]] = {}

    def is_parametric(self, expression: Expression) -> bool:
        """Whether a parameter, learned tensor or module occurs in it."""
        known = self._parametric.get(expression)
        if known is None:
            known = _is_source(expression) or any(
                self.is_parametric(one) for one in expression.arguments
            )
            self._parametric[expression] = known
        return known

    def is_constant(self, expression: Expression) -> bool:
        """Whether it is a number: neither variables nor parameters occur."""
        return not expression.depends_on_variables and not self.is_parametric(
            expression
        )

    def value(self, expression: Expression) -> Tensor:
        """The value of a constant expression, float64 [*shape]."""
        known = self._values.get(expression)
        if known is None:
            if expression.name == "constant":
                found = expression.options["value"]
            else:
                (found,) = Evaluator([expression])({}, {})
            known = found.detach().to("cpu", torch.float64)
            self._values[expression] = known
        return known

    def array(self, expression: Expression) -> np.ndarray:
        """The value of a constant expression, float64 [*shape], as numpy."""
        return self.value(expression).numpy()

    def sparse(self, expression: Expression) -> SparseForm | None:
        """An expression without variables as values on a pattern, if it is sparse."""
        if expression not in self._sparse:
            self._sparse[expression] = read_sparse(self, expression)
        return self._sparse[expression]

    def pairs(self, first: Pattern, second: Pattern) -> tuple[Pairs, Pattern]:
        """The entries that meet in the product of two patterns, found once."""
        key = (first, second)
        if key not in self._pairs:
            self._pairs[key] = meeting_pairs(first, second)
        return self._pairs[key]

    def derive(
        self,
        function: Callable[..., Tensor],
        *arguments: Expression,
        shape: tuple[int, ...],
        sign: Sign = Sign.UNKNOWN,
        origin: Origin = NOWHERE,
    ) -> Expression:
        """The expression function(*arguments), folded if all of them are constants.

        Sparse arguments give a sparse result where the function has a rule for it.
        """
        sparse = derive_sparse(self, function, arguments)
        if sparse is not None:
            return self.canonical(sparse)
        if all(self.is_constant(one) for one in arguments):
            return constant(function(*map(self.value, arguments)), origin)
        given = tuple(map(self.canonical, arguments))
        return self.canonical(torch_node(function, given, shape, sign, origin))

    def canonical(self, expression: Expression) -> Expression:
        """The first expression met that is the same by construction."""
        found = self._canonical.get(expression)
        if found is None:
            arguments = tuple(map(self.canonical, expression.arguments))
            key = (
                expression.name,
                _options_key(expression),
                tuple(map(id, arguments)),
            )
            found = self._first.setdefault(key, expression)
            self._canonical[expression] = found
        return found

    def multiply(self, first: Expression, second: Expression) -> Expression:
        """first * second, numbers and signs brought together in front."""
        left, first = self.peel(first)
        right, second = self.peel(second)
        if second is ONE:
            product = first
        elif first is ONE:
            product = second
        else:
            shape = np.broadcast_shapes(first.shape, second.shape)
            sign = Sign.NONNEG if first is second else first.sign * second.sign
            product = self.derive(torch.mul, first, second, shape=shape, sign=sign)
        if left * right == 1:
            return product
        number = constant(left * right)
        sign = number.sign * product.sign
        return self.derive(torch.mul, number, product, shape=product.shape, sign=sign)

    def peel(self, value: Expression) -> tuple[float, Expression]:
        """A number and an expression of which `value` is the product."""
        factor = 1.0
        while True:
            if value.name == "negate":
                factor, value = -factor, value.arguments[0]
            elif not value.shape and self.is_constant(value):
                return factor * self.value(value).item(), ONE
            elif _is_multiplication(value):
                number, other = value.arguments
                if number.shape or not self.is_constant(number):
                    number, other = other, number
                is_number = not number.shape and self.is_constant(number)
                if not is_number or other.shape != value.shape:
                    return factor, value
                factor, value = factor * self.value(number).item(), other
            else:
                return factor, value

    def add(self, first: Expression | None, second: Expression) -> Expression:
        """first + second, None standing for 0."""
        if first is None:
            return second
        shape = np.broadcast_shapes(first.shape, second.shape)
        sign = first.sign + second.sign
        return self.derive(torch.add, first, second, shape=shape, sign=sign)

    def reciprocal(self, value: Expression) -> Expression:
        """1 / value."""
        return self.derive(torch.reciprocal, value, shape=value.shape, sign=value.sign)

    def is_psd(self, expression: Expression) -> bool:
        """Whether a parameter expression is known to be positive semidefinite."""
        form = self.sparse(expression)
        if form is not None and self.is_constant(expression):
            return is_semidefinite(form.pattern, self.array(form.values))
        if self.is_constant(expression):
            return is_psd_matrix(self.array(expression))
        rule = _PSD_RULES.get(expression.name)
        return rule is not None and rule(self, expression)

    def semidefinite(self, quad_form: Expression) -> Expression | None:
        """The matrix of a quad_form, if it is known or vouched to be semidefinite."""
        Q = quad_form.arguments[1]
        if Q.depends_on_variables:
            return None
        if self.is_psd(Q):
            return Q
        if not quad_form.options.get("assume_PSD"):
            return None
        options = {"attribute": "psd"}
        return Expression("assert", (Q,), options, Q.shape, None, Q.sign, Q.origin)

    def is_symmetric(self, expression: Expression) -> bool:
        """Whether a parameter expression is known to equal its transpose."""
        if expression.name == "field":
            field = expression.options["field"]
            return field.symmetric or field.psd
        if expression.name == "pattern":
            return self.is_symmetric(expression.arguments[0])
        return expression.ndim == 2 and self.is_psd(expression)


def constant(value: Tensor | float, origin: Origin = NOWHERE) -> Expression:
    """A number, vector or matrix as an expression, in float64."""
    return constant_of(torch.as_tensor(value, dtype=torch.float64), origin)


def is_psd_matrix(matrix: np.ndarray) -> bool:
    """Whether a constant matrix is symmetric and positive semidefinite."""
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        return False
    if not np.isfinite(matrix).all() or not np.allclose(matrix, matrix.T):
        return False
    values = np.linalg.eigvalsh(matrix)
    return bool(values[0] >= -PSD_TOLERANCE * max(1.0, abs(values[-1])))


def same(first: Expression, second: Expression) -> bool:
    """Whether two expressions are the same by construction."""
    if first is second:
        return True
    return (
        first.name == second.name
        and first.shape == second.shape
        and first.stages == second.stages
        and len(first.arguments) == len(second.arguments)
        and _same_options(first.options, second.options)
        and all(map(same, first.arguments, second.arguments))
    )


def _same_options(first: Any, second: Any) -> bool:
    """Whether two values of options are equal, arrays within them included."""
    if first is second:
        return True
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return torch.equal(first, second)
    if isinstance(first, Expression) and isinstance(second, Expression):
        return same(first, second)
    if type(first) is not type(second):
        return False
    if isinstance(first, Mapping):
        same_names = first.keys() == second.keys()
        return same_names and all(_same_options(first[k], second[k]) for k in first)
    if isinstance(first, tuple | list):
        pairs = zip(first, second, strict=False)
        return len(first) == len(second) and all(_same_options(*two) for two in pairs)
    if isinstance(first, np.ndarray):
        return np.array_equal(first, second)
    return bool(np.all(first == second))


def _options_key(expression: Expression) -> Hashable:
    """Equal for equal options; the expression's identity where they do not compare."""
    if expression.name == "field":
        return expression.options["field"].name
    if expression.name == "constant":
        value = expression.options["value"]
        return value.item() if value.ndim == 0 else id(expression)
    key = tuple(
        (name, _comparable(option)) for name, option in expression.options.items()
    )
    try:
        hash(key)
    except TypeError:
        return id(expression)
    return key


def _comparable(option: Any) -> Any:
    if isinstance(option, partial):
        return (option.func, option.args, tuple(sorted(option.keywords.items())))
    if isinstance(option, dict):
        return tuple(option.items())
    if isinstance(option, list | tuple):
        return tuple(map(_comparable, option))
    # Python 3.11 cannot hash slices.
    if isinstance(option, slice):
        return ("slice", option.start, option.stop, option.step)
    return option


def _is_multiplication(expression: Expression) -> bool:
    return expression.name == "multiply" or (
        expression.name == "torch" and expression.options["function"] is torch.mul
    )


def _is_source(expression: Expression) -> bool:
    if expression.name == "field":
        return not expression.options["field"].is_variable
    return expression.name in ("learned", "module")


def torch_node(
    function: Callable[..., Tensor],
    arguments: Sequence[Expression],
    shape: tuple[int, ...],
    sign: Sign,
    origin: Origin,
) -> Expression:
    """A node that applies a torch function to parameter expressions."""
    options = {
        "function": function,
        "arguments": tuple(map(Slot, range(len(arguments)))),
        "keywords": {},
        "output": None,
    }
    return Expression("torch", tuple(arguments), options, shape, None, sign, origin)


def _field_is_psd(_: Parametrics, e: Expression) -> bool:
    return e.options["field"].psd


def _assert_is_psd(parametrics: Parametrics, e: Expression) -> bool:
    if e.options["attribute"] == "psd":
        return True
    return parametrics.is_psd(e.arguments[0])


def _matmul_is_psd(parametrics: Parametrics, e: Expression) -> bool:
    """S'S, S S' and S'(...)S, however they are bracketed."""
    factors = _factors(e)
    while len(factors) > 1:
        if not _is_transposed(factors[0], factors[-1]):
            return False
        factors = factors[1:-1]
    return not factors or parametrics.is_psd(factors[0])


def _factors(e: Expression) -> list[Expression]:
    if e.name == "matmul" and all(one.ndim == 2 for one in e.arguments):
        return [factor for one in e.arguments for factor in _factors(one)]
    return [e]


def _is_transposed(first: Expression, second: Expression) -> bool:
    if first.name == "transpose":
        return same(first.arguments[0], second)
    return second.name == "transpose" and same(second.arguments[0], first)


def _sum_is_psd(parametrics: Parametrics, e: Expression) -> bool:
    return all(one.shape == e.shape and parametrics.is_psd(one) for one in e.arguments)


def _product_is_psd(parametrics: Parametrics, e: Expression) -> bool:
    scalars = [one for one in e.arguments if one.shape == ()]
    others = [one for one in e.arguments if one.shape != ()]
    return (
        len(others) == 1
        and all(one.sign.is_nonneg for one in scalars)
        and parametrics.is_psd(others[0])
    )


def _quotient_is_psd(parametrics: Parametrics, e: Expression) -> bool:
    top, bottom = e.arguments
    return bottom.shape == () and bottom.sign.is_nonneg and parametrics.is_psd(top)


def _diag_is_psd(_: Parametrics, e: Expression) -> bool:
    (argument,) = e.arguments
    return argument.ndim == 1 and argument.sign.is_nonneg


def _argument_is_psd(parametrics: Parametrics, e: Expression) -> bool:
    return parametrics.is_psd(e.arguments[0])


_PSD_RULES: Mapping[str, Callable[[Parametrics, Expression], bool]] = {
    "field": _field_is_psd,
    "pattern": _argument_is_psd,
    "assert": _assert_is_psd,
    "matmul": _matmul_is_psd,
    "add": _sum_is_psd,
    "multiply": _product_is_psd,
    "divide": _quotient_is_psd,
    "diag": _diag_is_psd,
    "transpose": _argument_is_psd,
}

ONE = constant(1.0)
MINUS_ONE = constant(-1.0)
