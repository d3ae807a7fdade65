"""Sums of squares and robust losses: objective -> residuals r and losses phi(r).

Both may be summed, averaged and scaled by what is known to be nonnegative; a sum of
these and of anything else is not one.
"""

from collections.abc import Callable, Mapping

from optlayers.compile.losses import Term, robust_term
from optlayers.compile.objective import node
from optlayers.compile.parametric import constant, same
from optlayers.modeling.expressions import Expression
from optlayers.modeling.signs import Sign

Terms = tuple[Term, ...]


def residuals_of(objective: Expression) -> Terms | None:
    """Residuals whose squares, or losses, sum to the objective, or None.

    Args:
        objective: scalar, of no stages.
    """
    return _terms(objective)


def _terms(e: Expression) -> Terms | None:
    """Terms that sum to the sum over all entries of e."""
    if not e.depends_on_variables:
        return None
    rule = _RULES.get(e.name)
    found = None if rule is None else rule(e)
    if found is not None:
        return found
    robust = robust_term(e)
    return None if robust is None else (robust,)


def _add(e: Expression) -> Terms | None:
    found: list[Term] = []
    # A sum of many terms, such as a total over stages, is one deep chain.
    pending = [e]
    while pending:
        one = pending.pop()
        if one.name == "add" and all(a.shape == one.shape for a in one.arguments):
            pending.extend(reversed(one.arguments))
            continue
        part = None if one.name == "add" else _terms(one)
        if part is None:
            return None
        found.extend(part)
    return tuple(found)


def _multiply(e: Expression) -> Terms | None:
    first, second = e.arguments
    if same(first, second):
        return (Term(first),)
    if first.depends_on_variables:
        first, second = second, first
    return _scaled(e, second, first)


def _divide(e: Expression) -> Terms | None:
    top, bottom = e.arguments
    one = node("divide", (constant(1.0), bottom), bottom.shape, None, bottom.sign)
    return _scaled(e, top, one)


def _scaled(e: Expression, argument: Expression, weight: Expression) -> Terms | None:
    """The terms of argument, times a weight that is one number."""
    is_right = weight.sign.is_nonneg and not weight.depends_on_variables
    if weight.shape != () or argument.shape != e.shape or not is_right:
        return None
    found = _terms(argument)
    return None if found is None else tuple(_weighted(one, weight) for one in found)


def _weighted(term: Term, weight: Expression) -> Term:
    if term.loss is None:
        return Term(_times_root(term.residual, weight))
    loss = term.loss
    sign = weight.sign * loss.sign
    return Term(term.residual, node("multiply", (weight, loss), loss.shape, None, sign))


def _times_root(e: Expression, weight: Expression) -> Expression:
    if weight.name == "constant":
        root = constant(float(weight.options["value"]) ** 0.5)
    else:
        root = node("sqrt", (weight,), (), None, Sign.NONNEG)
    return node("multiply", (root, e), e.shape, None, e.sign)


def _mean(e: Expression) -> Terms | None:
    (argument,) = e.arguments
    found = _terms(argument)
    if found is None or e.shape != ():
        return None
    count = 1
    for size in argument.shape:
        count *= size
    return tuple(_weighted(one, constant(1.0 / count)) for one in found)


def _sum(e: Expression) -> Terms | None:
    return _terms(e.arguments[0])


def _power(e: Expression) -> Terms | None:
    exponent = e.options["p"]
    is_square = not isinstance(exponent, Expression) and exponent == 2
    return (Term(e.arguments[0]),) if is_square else None


def _square(e: Expression) -> Terms | None:
    return (Term(e.arguments[0]),)


def _product(e: Expression) -> Terms | None:
    """v @ v of a vector v."""
    first, second = e.arguments
    return (Term(first),) if e.shape == () and same(first, second) else None


_RULES: Mapping[str, Callable[[Expression], Terms | None]] = {
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
