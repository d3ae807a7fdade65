"""Nodes of the expressions in log space, each written where its original was."""

from typing import Any

import numpy as np
import torch

from optlayers.modeling.atoms import ATOMS
from optlayers.modeling.expressions import Expression, constant_of
from optlayers.modeling.origin import Origin
from optlayers.modeling.stages import intersection


def node(name: str, *arguments: Expression, origin: Origin, **options: Any):
    """An atom applied to expressions of fitting shapes."""
    atom = ATOMS[name]
    return Expression(
        name,
        arguments,
        options,
        tuple(atom.shape(tuple(one.shape for one in arguments), options)),
        intersection(one.stages for one in arguments),
        atom.sign(tuple(one.sign for one in arguments), options),
        origin,
    )


def number(value: Any, origin: Origin) -> Expression:
    """A constant in float64."""
    return constant_of(torch.from_numpy(np.array(value, dtype=np.float64)), origin)


def reshaped(e: Expression, shape: tuple[int, ...]) -> Expression:
    """The same entries row by row, no node if nothing changes."""
    if e.shape == shape:
        return e
    if e.name == "reshape" and e.options.get("order", "C") == "C":
        return reshaped(e.arguments[0], shape)
    return node("reshape", e, origin=e.origin, shape=shape)


def gathered(e: Expression, places: np.ndarray) -> Expression:
    """Entries of a vector at the places of an array of any shape."""
    if np.array_equal(places, np.arange(e.shape[0])):
        return e
    index: tuple[Any, ...] = (places,)
    if places.ndim == 1 and len(places) and np.all(np.diff(places) == 1):
        index = (slice(int(places[0]), int(places[-1]) + 1, 1),)
    return Expression(
        "index", (e,), {"index": index}, places.shape, e.stages, e.sign, e.origin
    )


def joined(parts: list[Expression], origin: Origin) -> Expression:
    """Vectors one after the other."""
    if len(parts) == 1:
        return parts[0]
    return node("concatenate", *parts, origin=origin, axis=0)


def negated(e: Expression) -> Expression:
    """The negative, two of which cancel."""
    return e.arguments[0] if e.name == "negate" else node("negate", e, origin=e.origin)


def scaled(factor: float | Expression, e: Expression) -> Expression:
    """factor * e."""
    if isinstance(factor, Expression):
        return node("multiply", factor, e, origin=e.origin)
    if factor == 1:
        return e
    if factor == -1:
        return negated(e)
    return node("multiply", number(factor, e.origin), e, origin=e.origin)
