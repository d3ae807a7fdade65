"""Words of the language beside atoms and fields: bounds, cones, stages, assertions."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from torch import nn

from optlayers.errors import DeclarationError
from optlayers.modeling.constraints import Between, Constraint
from optlayers.modeling.expressions import (
    Expression,
    as_expression,
    call_opaque,
    relate,
)
from optlayers.modeling.foreign import BatchFunction, BatchModule
from optlayers.modeling.inference import describe, located, shape_error
from optlayers.modeling.origin import Origin
from optlayers.modeling.relations import member
from optlayers.modeling.signs import Sign


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


def in_cone(expression: Any, cone: Any, exponent: Any = None) -> Constraint:
    """Constrain an expression to a cone K; leading axes are several cones.

    Its multiplier M has the shape of the expression and lies in the dual cone; it
    enters the Lagrangian as f - <M, expression>.

    Args:
        expression: affine in the variables, [*lead, *shape of the cone].
        cone: "zero" (= 0) or "nonneg" (>= 0), of any shape; "soc", (t, u) along the
            last axis with |u| <= t; "psd", [n, n], by its symmetric part; "exp",
            (x, y, z) along the last axis with y exp(x / y) <= z, y > 0, and the
            closure; "power", (x, y, z) with x^a y^(1 - a) >= |z|, x, y >= 0; or an
            `ol.Cones` for different cones stacked along the last axis, in its order.
        exponent: a of "power", between 0 and 1; a number, or one for each of the
            leading axes.

    Raises:
        ShapeError: the cone does not take the shape.
        DeclarationError: an unknown cone, or an exponent that is missing, superfluous
            or not between 0 and 1.

    Example:
        logarithm = ol.in_cone(ol.stack([t, 1.0, x]), "exp")  # t <= log(x)
    """
    return member(as_expression(expression), as_expression(0.0), cone, exponent)


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
    return _asserted("nonneg", expression)


def nonpos(expression: Any) -> Expression:
    """Promise that every entry of a parameter expression is at most zero.

    Args:
        expression: built from parameters only, [*shape].

    Raises:
        DeclarationError: the expression depends on variables.
    """
    return _asserted("nonpos", expression)


def psd_matrix(expression: Any) -> Expression:
    """Promise that a parameter expression is a symmetric positive semidefinite matrix.

    Args:
        expression: built from parameters only, [n, n].

    Raises:
        DeclarationError: the expression depends on variables.
        ShapeError: it is no square matrix.
    """
    return _asserted("psd", expression)


def smooth(function: Callable[..., Any] | nn.Module) -> Callable[..., Any]:
    """Take a function or module as it is, one node, without looking inside.

    It is called for whole batches, so that in equations it need not run under
    `torch.func.vmap`; in a convex program it must, with batches of one.

    Args:
        function: takes tensors [B, *shape], of which a sample in the declaration has
            [*shape], and returns one or several such; row i of what it returns
            depends on row i alone. It may branch on shapes.

    Raises:
        DeclarationError: not callable.

    Example:
        drag = ol.smooth(lambda v: v * v.norm(dim=-1, keepdim=True))
    """
    if isinstance(function, nn.Module):
        return BatchModule(function)
    if not callable(function):
        raise DeclarationError(
            f"ol.smooth takes a function or module, not {type(function).__name__}."
        )
    taken = BatchFunction(function)

    @wraps(function)
    def opaque(*values: Any, **named: Any) -> Any:
        return call_opaque(taken, values, named)

    return opaque


def _asserted(attribute: str, value: Any) -> Expression:
    """The user's word on a parameter expression, checked when the problem is solved."""
    node = as_expression(value)
    word = {"psd": "psd_matrix"}.get(attribute, attribute)
    if node.depends_on_variables:
        raise located(
            DeclarationError(
                f"ol.{word} speaks of parameters, and {describe(node)} depends on "
                "variables; for a constraint write it out, as in "
                f"{describe(node)} >= 0."
            )
        )
    if attribute == "psd" and (node.ndim != 2 or len(set(node.shape)) > 1):
        raise shape_error(word, (node,), "it needs a square matrix")
    sign = {"nonneg": Sign.NONNEG, "nonpos": Sign.NONPOS}.get(attribute, node.sign)
    options = {"attribute": attribute}
    return Expression("assert", (node,), options, node.shape, None, sign, Origin.here())
