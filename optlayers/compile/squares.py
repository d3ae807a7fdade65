"""Sums of squares: objective -> residuals r with objective = r'r, if it is one.

Squares may be summed, averaged and scaled by what is known to be nonnegative; a sum of
squares and of anything else is not one.
"""

from collections.abc import Callable, Mapping

from optlayers.compile.objective import node
from optlayers.compile.parametric import constant, same
from optlayers.modeling.expressions import Expression
from optlayers.modeling.signs import Sign


def residuals_of(objective: Expression) -> tuple[Expression, ...] | None:
    """Expressions whose entries' squares sum to the objective, or None.

    Args:
        objective: scalar, of no stages.
    """
    return _squares(objective)


def _squares(e: Expression) -> tuple[Expression, ...] | None:
    """Expressions whose squares sum to the sum over all entries of e."""
    rule = _RULES.get(e.name)
    return None if rule is None or not e.depends_on_variables else rule(e)


def _add(e: Expression) -> tuple[Expression, ...] | None:
    found: list[Expression] = []
    # A sum of many terms, such as a total over stages, is one deep chain.
    pending = [e]
    while pending:
        one = pending.pop()
        if one.name == "add" and all(a.shape == one.shape for a in one.arguments):
            pending.extend(reversed(one.arguments))
            continue
        part = None if one.name == "add" else _squares(one)
        if part is None:
            return None
        found.extend(part)
    return tuple(found)


def _multiply(e: Expression) -> tuple[Expression, ...] | None:
    first, second = e.arguments
    if same(first, second):
        return (first,)
    if first.depends_on_variables:
        first, second = second, first
    return _scaled(e, second, first)


def _divide(e: Expression) -> tuple[Expression, ...] | None:
    top, bottom = e.arguments
    one = node("divide", (constant(1.0), bottom), bottom.shape, None, bottom.sign)
    return _scaled(e, top, one)


def _scaled(
    e: Expression, argument: Expression, weight: Expression
) -> tuple[Expression, ...] | None:
    """The squares of argument, times the root of a weight that is one number."""
    is_right = weight.sign.is_nonneg and not weight.depends_on_variables
    if weight.shape != () or argument.shape != e.shape or not is_right:
        return None
    found = _squares(argument)
    return None if found is None else tuple(_times_root(one, weight) for one in found)


def _times_root(e: Expression, weight: Expression) -> Expression:
    if weight.name == "constant":
        root = constant(float(weight.options["value"]) ** 0.5)
    else:
        root = node("sqrt", (weight,), (), None, Sign.NONNEG)
    return node("multiply", (root, e), e.shape, None, e.sign)


def _mean(e: Expression) -> tuple[Expression, ...] | None:
    (argument,) = e.arguments
    found = _squares(argument)
    if found is None or e.shape != ():
        return None
    count = 1
    for size in argument.shape:
        count *= size
    return tuple(_times_root(one, constant(1.0 / count)) for one in found)


def _sum(e: Expression) -> tuple[Expression, ...] | None:
    return _squares(e.arguments[0])


def _power(e: Expression) -> tuple[Expression, ...] | None:
    exponent = e.options["p"]
    is_square = not isinstance(exponent, Expression) and exponent == 2
    return (e.arguments[0],) if is_square else None


def _square(e: Expression) -> tuple[Expression, ...] | None:
    return (e.arguments[0],)


def _product(e: Expression) -> tuple[Expression, ...] | None:
    """v @ v of a vector v."""
    first, second = e.arguments
    return (first,) if e.shape == () and same(first, second) else None


_RULES: Mapping[str, Callable[[Expression], tuple[Expression, ...] | None]] = {
    "add": _add,
    "multiply": _multiply,
    "divide": _divide,
    "mean": _mean,
    "sum": _sum,
    "power": _power,
    "square": _square,
    "sum_squares": _square,
    "matmul": _product,
    "vdot": _product,
}
