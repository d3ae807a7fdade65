"""Functions of time that are given by samples: constant or linear between knots."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from optlayers.errors import ShapeError
from optlayers.modeling.atoms import ShapeMismatch, signals
from optlayers.modeling.expressions import as_expression, call_opaque
from optlayers.modeling.functions.calling import as_tensor
from optlayers.modeling.inference import shape_error
from optlayers.modeling.options import is_unknown


def hold(values: Any, knots: Any, t: Any) -> Any:
    """The value at the last knot that is not after t (zero-order hold).

    Continuous from the right; before the first knot it is the first value.
    Differentiable in the values; in knots and t it is piecewise constant. In the rates
    of an `integrate` whose Time is t itself, no step crosses a knot, and solutions are
    differentiable in the knots.

    Args:
        values: one at each knot, [k] or [k, *shape].
        knots: increasing, [k].
        t: a scalar. Tensors may have batch axes, as many as t has, in front of all
            three.

    Raises:
        ShapeError: not a value for each knot, or a t in a declaration that is no
            scalar.
    """
    return _called(signals.hold, 1, values, knots, t)


def interpolate(values: Any, knots: Any, t: Any) -> Any:
    """The value at t on the straight line between the knots around it.

    Before the first knot it is the first value, after the last the last.
    Differentiable in all three. In the rates of an `integrate` whose Time is t itself,
    no step crosses a knot.

    Args:
        values: one at each knot, [k] or [k, *shape].
        knots: increasing, [k], at least two.
        t: a scalar. Tensors may have batch axes, as many as t has, in front of all
            three.

    Raises:
        ShapeError: not a value for each knot, one knot alone, or a t in a declaration
            that is no scalar.
    """
    return _called(signals.interpolate, 2, values, knots, t)


def _called(function: Callable[..., Tensor], least: int, *given: Any) -> Any:
    name = function.__name__
    if not is_unknown(given):
        values = as_tensor(given[0])
        like = {"dtype": values.dtype, "device": values.device}
        knots, t = (torch.as_tensor(one, **like) for one in given[1:])
        try:
            return function(values, knots, t)
        except ShapeMismatch as reason:
            raise ShapeError(f"ol.{name}: {reason}.") from None
    terms = tuple(as_expression(one) for one in given)
    values, knots, t = terms
    try:
        if t.shape != ():
            raise ShapeMismatch("the last argument must be a scalar")
        signals.check_samples(values.shape, knots.shape, 0, least)
    except ShapeMismatch as reason:
        raise shape_error(name, terms, str(reason)) from None
    return call_opaque(function, terms, {})
