"""Robust losses: an elementwise expression as phi(r) of residuals r that it is made of.

r is what is squared, or stands in a huber; phi must grow with the square of r, as far
as signs and the rules below can tell.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from optlayers.compile.nodes import with_arguments
from optlayers.compile.parametric import same
from optlayers.modeling.expressions import Expression
from optlayers.modeling.fields import BoundField, Role
from optlayers.modeling.signs import Sign


@dataclass(frozen=True, eq=False)
class Term:
    """A part of an objective: the sum over the entries of residuals of their loss.

    Attributes:
        residual: r, of any shape.
        loss: phi(r), of the same shape, in which r occurs as `residual`; None for the
            square of r.
    """

    residual: Expression
    loss: Expression | None = None


def robust_term(e: Expression) -> Term | None:
    """The sum over all entries of e as a loss of residuals, if it is one.

    Args:
        e: depends on variables.
    """
    found = _read(e)
    return None if found is None or not found.grows else Term(found.residual, e)


def with_placeholder(term: Term, name: str) -> tuple[Expression, Expression]:
    """phi as an expression of a variable of its own in place of the residuals.

    Args:
        term: with or without a loss.
        name: of the variable.

    Returns:
        The variable and phi.
    """
    shape = term.residual.shape
    field = BoundField(name, Role.VARIABLE, shape)
    variable = Expression(
        "field", (), {"field": field}, shape, None, Sign.UNKNOWN, term.residual.origin
    )
    if term.loss is None:
        square = Expression(
            "square", (variable,), {}, shape, None, Sign.NONNEG, variable.origin
        )
        return variable, square
    return variable, _replaced(term.loss, term.residual, variable)


def _replaced(e: Expression, old: Expression, new: Expression) -> Expression:
    if not e.depends_on_variables:
        return e
    if same(e, old):
        return new
    return with_arguments(e, tuple(_replaced(one, old, new) for one in e.arguments))


@dataclass(frozen=True)
class _Reading:
    """What an elementwise expression is a function of, and whether it grows with it.

    Attributes:
        residual: r.
        grows: whether it increases with the square of r; it decreases otherwise.
    """

    residual: Expression
    grows: bool = True


def _read(e: Expression) -> _Reading | None:
    rule = _RULES.get(e.name)
    found = None if rule is None else rule(e)
    # An entry of e must belong to one entry of r.
    if found is None or found.residual.shape != e.shape:
        return None
    return found


def _innermost(e: Expression) -> _Reading | None:
    (residual,) = e.arguments
    return _Reading(residual)


def _power(e: Expression) -> _Reading | None:
    exponent = e.options["p"]
    if isinstance(exponent, Expression):
        return None
    if exponent == 2:
        return _innermost(e)
    found = _read(e.arguments[0])
    if found is None:
        return None
    return _Reading(found.residual, found.grows == (exponent > 0))


def _increasing(e: Expression) -> _Reading | None:
    return _read(e.arguments[0])


def _of_torch(e: Expression) -> _Reading | None:
    is_known = e.options["function"] in (torch.atan, torch.arctan, torch.tanh)
    return _read(e.arguments[0]) if is_known and len(e.arguments) == 1 else None


def _decreasing(e: Expression) -> _Reading | None:
    found = _read(e.arguments[0])
    return None if found is None else _Reading(found.residual, not found.grows)


def _add(e: Expression) -> _Reading | None:
    found = [_read(one) for one in e.arguments if one.depends_on_variables]
    return _joint(*found)


def _joint(first: _Reading | None, *others: _Reading | None) -> _Reading | None:
    """The reading of all, where they are of one residual and grow alike."""
    if first is None:
        return None
    for one in others:
        if one is None or one.grows != first.grows:
            return None
        if not same(one.residual, first.residual):
            return None
    return first


def _multiply(e: Expression) -> _Reading | None:
    first, second = e.arguments
    if same(first, second):
        return _Reading(first)
    if first.depends_on_variables:
        first, second = second, first
    if first.depends_on_variables:
        return None
    return _times(second, first)


def _times(e: Expression, factor: Expression) -> _Reading | None:
    """e times a factor without variables, of known sign."""
    found = _read(e)
    if found is None or not (factor.sign.is_nonneg or factor.sign.is_nonpos):
        return None
    return _Reading(found.residual, found.grows == factor.sign.is_nonneg)


def _divide(e: Expression) -> _Reading | None:
    top, bottom = e.arguments
    if not bottom.depends_on_variables:
        return _times(top, bottom)
    if not top.depends_on_variables:
        found = _times(bottom, top)
        return None if found is None else _Reading(found.residual, not found.grows)
    # s / (1 + s), which both grow: so does their ratio in what is written this way.
    found = _joint(_read(top), _read(bottom))
    return found if found is not None and found.grows else None


_RULES: Mapping[str, Callable[[Expression], _Reading | None]] = {
    **dict.fromkeys(("square", "huber"), _innermost),
    **dict.fromkeys(("sqrt", "exp", "log", "log1p", "logistic"), _increasing),
    **dict.fromkeys(("negate", "inv_pos"), _decreasing),
    "torch": _of_torch,
    "power": _power,
    "add": _add,
    "multiply": _multiply,
    "divide": _divide,
}
