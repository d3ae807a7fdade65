"""What attributes say of the vector of unknowns: where it starts, and its bounds."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from optlayers.modeling.fields import BoundField


class Box(NamedTuple):
    """Numbers for every unknown, as they stand in the vector z.

    Attributes:
        start: where the search begins, float64 [n].
        lower, upper: declared bounds, float64 [n]; None if there is none.
    """

    start: Tensor
    lower: Tensor | None
    upper: Tensor | None


def box_of(fields: Mapping[str, BoundField]) -> Box:
    """Start and bounds of the variables among these fields, in their order."""
    variables = [one for one in fields.values() if one.is_variable]
    return Box(
        stacked(variables, [_start(one) for one in variables], 0.0),
        _bounds(variables, [lower_bound(one) for one in variables], -torch.inf),
        _bounds(variables, [upper_bound(one) for one in variables], torch.inf),
    )


def _start(field: BoundField) -> float | Tensor | None:
    """Where the search begins; poses are steps from there."""
    return field.start if field.group is None else None


def lower_bound(field: BoundField) -> float | Tensor | None:
    """What all attributes of a variable say of it from below."""
    if not field.nonneg or field.lower is None:
        return 0.0 if field.nonneg else field.lower
    return torch.as_tensor(field.lower, dtype=torch.float64).clamp(min=0.0)


def upper_bound(field: BoundField) -> float | Tensor | None:
    """What all attributes of a variable say of it from above."""
    if not field.nonpos or field.upper is None:
        return 0.0 if field.nonpos else field.upper
    return torch.as_tensor(field.upper, dtype=torch.float64).clamp(max=0.0)


def stacked(
    variables: Sequence[BoundField],
    declared: Sequence[float | Tensor | None],
    missing: float,
) -> Tensor:
    """One number for every unknown, float64 [n].

    Args:
        variables: in their order in z.
        declared: for each a number, or a tensor that fits its coordinates, or None.
        missing: what stands for None.
    """
    parts = []
    for field, value in zip(variables, declared, strict=True):
        filled = missing if value is None else value
        part = torch.as_tensor(filled, dtype=torch.float64).cpu()
        parts.append(part.expand(field.coordinate_shape).reshape(-1))
    return torch.cat(parts)


def _bounds(
    variables: Sequence[BoundField],
    declared: Sequence[float | Tensor | None],
    missing: float,
) -> Tensor | None:
    if all(one is None for one in declared):
        return None
    return stacked(variables, declared, missing)
