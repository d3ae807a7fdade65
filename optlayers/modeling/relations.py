"""Constraints from their sides: what fits together, and what to write if it fails."""

from typing import TYPE_CHECKING, Any

from optlayers.errors import DeclarationError, ShapeError
from optlayers.modeling.cones import Cone, cone_of
from optlayers.modeling.constraints import Constraint
from optlayers.modeling.inference import (
    broadcast,
    describe,
    infer_stages,
    located,
    shape_error,
)
from optlayers.modeling.origin import Origin
from optlayers.modeling.signs import Sign

if TYPE_CHECKING:
    from optlayers.modeling.expressions import Expression

_TURNED = {">=": "<=", ">>": "<<"}


def related(relation: str, left: "Expression", right: "Expression") -> Constraint:
    """The unnamed constraint `left relation right`; >= is <= the other way round.

    Args:
        relation: "==", "<=", ">=", "<<" or ">>".
        left: left side.
        right: right side.

    Raises:
        ShapeError: the sides do not broadcast, or << is not between square matrices.
        DeclarationError: they share no stage.
    """
    if relation in _TURNED:
        relation, left, right = _TURNED[relation], right, left
    sides = (left, right)
    if relation == "<<":
        return _definite(*sides)
    try:
        shape = broadcast(left.shape, right.shape)
    except ValueError:
        raise shape_error(relation, sides) from None
    stages = infer_stages(relation, sides)
    known = "==" if relation == "==" else "<="
    return Constraint("", known, *sides, Origin.here(), shape, stages)


def member(
    expression: "Expression", zero: "Expression", cone: Any, exponent: Any
) -> Constraint:
    """The unnamed constraint that an expression lies in a cone.

    Args:
        expression: [*shape].
        zero: the right side.
        cone: a name, or `ol.Cones`.
        exponent: of power cones.

    Raises:
        ShapeError: the cone does not take the shape.
        DeclarationError: no such cone, or a wrong exponent.
    """
    shape, stages = expression.shape, expression.stages
    try:
        found = cone_of(cone, shape, exponent)
    except ShapeError as reason:
        raise shape_error("in_cone", (expression,), str(reason)) from None
    except DeclarationError as reason:
        raise located(reason) from None
    return Constraint("", "in", expression, zero, Origin.here(), shape, stages, found)


def _definite(left: "Expression", right: "Expression") -> Constraint:
    """The constraint that right - left is positive semidefinite."""
    sides = (left, right)
    for one in sides:
        _check_square(one, sides)
    try:
        shape = broadcast(left.shape, right.shape)
    except ValueError as reason:
        raise shape_error("<<", sides, str(reason)) from None
    if any(one.ndim and one.shape[-2:] != shape[-2:] for one in sides):
        raise shape_error("<<", sides, "the matrices differ in size")
    stages = infer_stages("<<", sides)
    cone = Cone("psd", shape[-1])
    return Constraint("", "<<", left, right, Origin.here(), shape, stages, cone)


def _check_square(one: "Expression", sides: tuple["Expression", ...]) -> None:
    is_zero = one.shape == () and one.name == "constant" and one.sign is Sign.ZERO
    if is_zero and any(other.ndim for other in sides):
        return
    if one.ndim < 2 and any(other.ndim >= 2 for other in sides):
        reason = (
            f"{describe(one)} would be compared with every entry; a bound on the "
            "eigenvalues is a multiple of np.eye(n)"
        )
        raise shape_error("<<", sides, reason)
    if one.ndim < 2 or one.shape[-1] != one.shape[-2]:
        reason = "it compares square matrices, [n, n]; entry by entry write <="
        raise shape_error("<<", sides, reason)
