"""Words of the language beside atoms and fields: bounds, stages, assertions, smooth."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from torch import nn

from optlayers.errors import DeclarationError
from optlayers.modeling.constraints import Between
from optlayers.modeling.expressions import (
    Expression,
    as_expression,
    asserted,
    call_opaque,
    relate,
)


def between(lower: Any, expression: Any, upper: Any) -> Between:
    """Bound an expression from both sides.

    As a keyword constraint `box=ol.between(0, x, 1)` its multipliers are `box.lower`
    and `box.upper`.

    Args:
        lower: least value, anything that broadcasts against the expression.
        expression: what is bounded, [*shape].
        upper: largest value, likewise.

    Raises:
        ShapeError: the shapes do not broadcast.
    """
    return Between(relate("<=", lower, expression), relate("<=", expression, upper))


def total(expression: Any) -> Expression:
    """Sum a staged expression over all the stages it lives on.

    `ol.total(q @ x**2 + r @ u**2)` sums over the stages that x and u share; the cost of
    the last state is added by hand.

    Args:
        expression: a staged expression, [*shape] at each stage.

    Raises:
        DeclarationError: the expression is not staged.
    """
    return as_expression(expression).over_stages()


def nonneg(expression: Any) -> Expression:
    """Promise that every entry of a parameter expression is at least zero.

    The compiler may build on it; every call checks it before the solve.

    Args:
        expression: built from parameters only, [*shape].

    Raises:
        DeclarationError: the expression depends on variables.
    """
    return asserted("nonneg", expression)


def nonpos(expression: Any) -> Expression:
    """Promise that every entry of a parameter expression is at most zero.

    Args:
        expression: built from parameters only, [*shape].

    Raises:
        DeclarationError: the expression depends on variables.
    """
    return asserted("nonpos", expression)


def psd_matrix(expression: Any) -> Expression:
    """Promise that a parameter expression is a symmetric positive semidefinite matrix.

    Args:
        expression: built from parameters only, [n, n].

    Raises:
        DeclarationError: the expression depends on variables.
        ShapeError: it is no square matrix.
    """
    return asserted("psd", expression)


def smooth(function: Callable[..., Any] | nn.Module) -> Callable[..., Any]:
    """Take a function or module as it is, one node, without looking inside.

    Args:
        function: takes and returns tensors of one sample. A function may branch on
            shapes; it must run under `torch.func.vmap`.

    Raises:
        DeclarationError: not callable.

    Example:
        drag = ol.smooth(lambda v: torch.where(v > 0, v**2, 0 * v))
    """
    if isinstance(function, nn.Module):
        return function
    if not callable(function):
        raise DeclarationError(
            f"ol.smooth takes a function or module, not {type(function).__name__}."
        )

    @wraps(function)
    def opaque(*values: Any, **named: Any) -> Any:
        return call_opaque(function, values, named)

    return opaque
