"""The exponential cone cl {(x, y, z): y > 0, y exp(x / y) <= z} and its dual.

Source: Friberg, "Projection onto the exponential cone: a univariate root-finding
problem" (2021).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from optlayers.programs.projections.block import Block
from optlayers.programs.projections.lines import along

# Measured on 6e5 points of every scale and next to every boundary: 13 reach rounding.
ITERATIONS = 16
# Each Newton step on the number r doubles the orders of derivatives that are right: two
# give three.
STEPS = 2
# Where both steps leave the bracket, the share of the way to its end that is left.
SHARE = 0.03


class _Place(NamedTuple):
    """Where points lie, cut from every derivative.

    Attributes:
        scale: the largest entry, [B, number, 1].
        is_curved: whether the projection is on the curved part, [B, number].
        kept: elsewhere, the entries that the projection keeps, [B, number, 3].
        root: the number r, [B, number]; 0 where not curved.
    """

    scale: Tensor
    is_curved: Tensor
    kept: Tensor
    root: Tensor


def project(v: Tensor, block: Block) -> Tensor:
    """The nearest points of the dual cones, [B, number, 3] -> [B, number, 3].

    Differentiable three times off the boundaries of its pieces. With w = -v it is minus
    the projection of w onto the polar cone. On the curved part w = a g(r) + b d(r) with
    g = (r, 1, e^r) in the cone, d = (1, 1 - r, -e^-r) in its polar and a, b >= 0, so
    that one number r is to be found.
    """
    place = _locate(v.detach())
    x, y, z = _opposite(v / place.scale, place.is_curved)
    root = place.root
    for _ in range(STEPS):
        sides = _sides(x, y, z, root, place.root.abs())
        step = (sides.up - sides.down) / (sides.up_slope - sides.down_slope)
        root = root - (step - step.detach())  # the value is right to rounding
    _, b, third = _shares(x, y, z, root, place.root >= 0)
    curved = torch.stack([-b, (root - 1) * b, third], -1) * place.scale
    flat = torch.where(place.kept, v, 0.0)
    return torch.where(place.is_curved.unsqueeze(-1), curved, flat)


def derivative(v: Tensor, block: Block) -> Tensor:
    """That of `project`, symmetric, [B, number, 3] -> [B, number, 3, 3].

    On the curved part d d'/|d|^2 + c m m'/|m|^2 with m normal to both g and d.
    """
    v = v.detach()
    place = _locate(v)
    x, y, z = _opposite(v / place.scale, place.is_curved)
    r, is_up = place.root, place.root >= 0
    a, b, _ = _shares(x, y, z, r, is_up)
    # All of g, d and m times e^-|r|: e^r becomes E and e^-r becomes e.
    k = torch.exp(-r.abs())
    E, e = torch.where(is_up, 1.0, k * k), torch.where(is_up, k * k, 1.0)
    square = r * r + 1
    bend_g, bend_d = E * (square + 1 - 2 * r) + e, e * square + E
    share = b * bend_d / (a * bend_g + b * bend_d).clamp_min(_tiny(v))
    d = torch.stack([k, (1 - r) * k, -e], -1)
    m = torch.stack([E * (1 - r) + e, -(r * e + E), (square - r) * k], -1)
    curved = along(d) + share[..., None, None] * along(m)
    flat = torch.diag_embed(place.kept.to(v.dtype))
    return torch.where(place.is_curved[..., None, None], curved, flat)


def _locate(v: Tensor) -> _Place:
    """The piece of each point and its root; NaN for points that are not finite."""
    scale = v.abs().amax(-1, keepdim=True).clamp_min(_tiny(v))
    x, y, z = (-v / scale).unbind(-1)
    has_x, has_y = x > 0, y > 0
    over_x, over_y = torch.where(has_x, x, 1.0), torch.where(has_y, y, 1.0)
    is_in_cone = has_y & (y * torch.exp(x / over_y) <= z)
    is_in_polar = has_x & (x * torch.exp(y / over_x - 1) <= -z)
    is_curved = ~(is_in_cone | is_in_polar | (~has_x & ~has_y))
    # Beyond this root the curve is a face to far below rounding.
    limit = -2.5 * math.log(torch.finfo(v.dtype).eps)
    low = torch.where(has_x, 1 - y / over_x, -limit).clamp(-limit, limit)
    high = torch.where(has_y, x / over_y, limit).clamp(-limit, limit)
    root = _search(*_safe(x, y, z, is_curved), *_bracket(low, high, is_curved))
    is_curved = is_curved & ~(root.abs() >= limit * (1 - 1e-6))
    # The faces are {x <= 0, y = 0} of the cone and {x = 0} of its polar.
    kept = torch.stack([has_x, ~has_y, z < 0], -1)
    kept = (kept | is_in_polar.unsqueeze(-1)) & ~is_in_cone.unsqueeze(-1)
    return _Place(scale, is_curved, kept, torch.where(is_curved, root, 0.0))


def _opposite(v: Tensor, is_curved: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The entries of -v where they are used, of a harmless point elsewhere."""
    x, y, z = (-v).unbind(-1)
    return _safe(x, y, z, is_curved)


def _safe(
    x: Tensor, y: Tensor, z: Tensor, is_curved: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(1, 3, 1), whose root is 0, takes the place of points that are not curved."""
    where = torch.where
    return where(is_curved, x, 1.0), where(is_curved, y, 3.0), where(is_curved, z, 1.0)


def _bracket(low: Tensor, high: Tensor, is_curved: Tensor) -> tuple[Tensor, Tensor]:
    return torch.where(is_curved, low, -2.0), torch.where(is_curved, high, 1 / 3)


def _search(x: Tensor, y: Tensor, z: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The root between `low` and `high`, by Newton steps that stay between them.

    The equation up = down is solved as log up = log down, which is nearly linear far
    from the ends; where that step leaves the bracket, as it stands.
    """
    margin = (0.5 * (high - low)).clamp(max=1.0)
    root = torch.maximum(
        torch.minimum(torch.zeros_like(x), high - margin), low + margin
    )
    for _ in range(ITERATIONS):
        up, down, up_slope, down_slope = _sides(x, y, z, root, root.abs())
        is_below = up < down
        low, high = torch.where(is_below, root, low), torch.where(is_below, high, root)
        plain = root - (up - down) / (up_slope - down_slope)
        step = torch.log(up / down) / (up_slope / up - down_slope / down)
        logarithmic = root - step
        toward_low = low + SHARE * (root - low)
        toward_high = high + SHARE * (root - high)
        root = torch.where(plain < low, toward_low, toward_high)
        for candidate in (plain, logarithmic):
            is_inside = (candidate >= low) & (candidate <= high)
            root = torch.where(is_inside, candidate, root)
    return root


class _Sides(NamedTuple):
    """a e^r + max(-z, 0) and b e^-r + max(z, 0), and their slopes in r."""

    up: Tensor
    down: Tensor
    up_slope: Tensor
    down_slope: Tensor


def _sides(x: Tensor, y: Tensor, z: Tensor, r: Tensor, shift: Tensor) -> _Sides:
    """Both sides of the equation that the root solves, times e^-shift."""
    norm = r * r - r + 1
    turn = 2 * r - 1
    a, b = ((r - 1) * x + y) / norm, (x - r * y) / norm
    E, e, z = torch.exp(r - shift), torch.exp(-r - shift), z * torch.exp(-shift)
    return _Sides(
        a * E + torch.where(z < 0, -z, 0.0),
        b * e + torch.where(z < 0, 0.0, z),
        E * (a + (x - a * turn) / norm),
        -e * (b + (y + b * turn) / norm),
    )


def _shares(
    x: Tensor, y: Tensor, z: Tensor, r: Tensor, is_up: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """a, b and b e^-r; each root sign has the form without cancellation."""
    k = torch.exp(torch.where(is_up, -r, r))
    norm = r * r - r + 1
    b_up, a_down = (x - r * y) / norm, ((r - 1) * x + y) / norm
    third_up, third_down = b_up * k, a_down * k - z
    a = torch.where(is_up, (z + third_up) * k, a_down)
    b = torch.where(is_up, b_up, third_down * k)
    return a, b, torch.where(is_up, third_up, third_down)


def _tiny(v: Tensor) -> float:
    return torch.finfo(v.dtype).tiny
