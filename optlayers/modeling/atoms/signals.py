"""Torch functions of signals given by samples; t of one sample is a scalar.

Axes of t are batch axes, which values and knots then have in front too.
"""

import torch
from torch import Tensor

from optlayers.modeling.atoms.shapes import Shape, ShapeMismatch


def hold(values: Tensor, knots: Tensor, t: Tensor) -> Tensor:
    """The value at the last knot that is not after t; the first before all.

    Args:
        values: [*batch, k, *shape].
        knots: increasing, [*batch, k].
        t: [*batch].
    """
    check_samples(tuple(values.shape), tuple(knots.shape), t.ndim, 1)
    position = _reached(knots[..., 1:], t)
    return _taken(values, position)


def interpolate(values: Tensor, knots: Tensor, t: Tensor) -> Tensor:
    """The value on the straight line between the knots around t, constant outside.

    Args:
        values: [*batch, k, *shape].
        knots: increasing, [*batch, k], k >= 2.
        t: [*batch].
    """
    check_samples(tuple(values.shape), tuple(knots.shape), t.ndim, 2)
    position = _reached(knots[..., 1:-1], t)
    left, right = _taken(knots, position), _taken(knots, position + 1)
    width = right - left
    # Knots that coincide are never both around t, but their quotient has a gradient.
    safe = torch.where(width > 0, width, torch.ones_like(width))
    weight = ((t - left) / safe).clamp(0, 1)
    before, after = _taken(values, position), _taken(values, position + 1)
    weight = weight.reshape(weight.shape + (1,) * (before.ndim - weight.ndim))
    # Not before + weight * (after - before), which misses `after` by a rounding.
    return torch.lerp(before, after, weight.to(before.dtype))


def check_samples(values: Shape, knots: Shape, lead: int, least: int) -> None:
    """Refuse values that are not one for each of enough knots.

    Args:
        values: shape of the values.
        knots: shape of the knots.
        lead: number of batch axes.
        least: number of knots that are needed.

    Raises:
        ShapeMismatch: they do not fit.
    """
    if len(knots) != lead + 1:
        batch = f" after {lead} batch axes" if lead else ""
        raise ShapeMismatch(f"the knots must be a vector{batch}, not {list(knots)}")
    if len(values) <= lead or values[lead] != knots[lead]:
        raise ShapeMismatch(
            f"there must be a value for each of {knots[lead]} knots along axis {lead} "
            f"of the values, not {list(values)}"
        )
    if knots[lead] < least:
        raise ShapeMismatch(f"at least {least} knots are needed, not {knots[lead]}")


def _reached(knots: Tensor, t: Tensor) -> Tensor:
    """How many knots are not after t, [*batch]; by counting, which vmap can map."""
    return (t.unsqueeze(-1) >= knots).sum(-1)


def _taken(values: Tensor, position: Tensor) -> Tensor:
    """One value per sample, [*batch, *shape]."""
    lead = position.ndim
    index = position.reshape(position.shape + (1,) * (values.ndim - lead))
    return torch.take_along_dim(values, index, dim=lead).squeeze(lead)
