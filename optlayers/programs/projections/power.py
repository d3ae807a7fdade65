"""The power cone {(x, y, z): x^a y^(1-a) >= |z|, x, y >= 0} and its dual.

Source: Hien, "Differential properties of Euclidean projection onto power cone" (2015).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from optlayers.programs.projections.block import Block
from optlayers.programs.projections.lines import along

# Reaches rounding on 4e5 points of every scale, exponent and next to every boundary.
ITERATIONS = 20
# Each Newton step on the share doubles the orders of derivatives that are right: two
# give three.
STEPS = 2


class _Place(NamedTuple):
    """Where points lie, cut from every derivative.

    Attributes:
        scale: the largest entry, [B, number, 1].
        is_curved: whether the projection is on the curved part, [B, number].
        kept: elsewhere, the factor of each entry in the projection, [B, number, 3].
        is_low: whether p_z is the smaller part of w_z, [B, number].
        root: the smaller part's share in w_z, [B, number]; 1/4 where not curved.
    """

    scale: Tensor
    is_curved: Tensor
    kept: Tensor
    is_low: Tensor
    root: Tensor


def project(v: Tensor, block: Block) -> Tensor:
    """The nearest points of the dual cones, [B, number, 3] -> [B, number, 3].

    Differentiable three times off the boundaries of its pieces. With w = -v = p - y, p
    in the cone and y in its dual, the number to be found is the share p_z / w_z; given
    it, p_x and y_x are the roots of p_x - y_x = w_x and p_x y_x = a p_z y_z.
    """
    a = _exponents(v, block)
    place = _locate(v.detach(), a)
    sign = _sign(v.detach()[..., 2])
    w = _opposite(v / place.scale, sign, place.is_curved)
    root = place.root
    for _ in range(STEPS):
        at = _Parts.of(w, root, place.is_low, a)
        step = at.excess / at.slope
        # Next to a cone rounding moves the share by more than its size: keep the value.
        root = root - (step - step.detach())
    at = _Parts.of(w, root, place.is_low, a)
    curved = torch.stack([at.y_x, at.y_y, sign * at.y_z], -1) * place.scale
    flat = place.kept * v
    return torch.where(place.is_curved.unsqueeze(-1), curved, flat)


def derivative(v: Tensor, block: Block) -> Tensor:
    """That of `project`, symmetric, [B, number, 3] -> [B, number, 3, 3].

    On the curved part y y'/|y|^2 + c m m'/|m|^2 with m normal to both p and y.
    """
    v = v.detach()
    a = _exponents(v, block)
    place = _locate(v, a)
    sign = _sign(v[..., 2])
    at = _Parts.of(
        _opposite(v / place.scale, sign, place.is_curved), place.root, place.is_low, a
    )
    bend_p = at.p_x * at.p_y * at.y_z
    bend_p = bend_p + at.p_z * ((1 - a) * at.p_x * at.y_y + a * at.p_y * at.y_x)
    bend_y = at.y_x * at.y_y * at.p_z
    bend_y = bend_y + at.y_z * ((1 - a) * at.y_x * at.p_y + a * at.y_y * at.p_x)
    share = bend_y / (bend_p + bend_y).clamp_min(_tiny(v))
    y = torch.stack([at.y_x, at.y_y, sign * at.y_z], -1)
    m = torch.stack(
        [
            at.p_y * at.y_z + at.p_z * at.y_y,
            -(at.p_z * at.y_x + at.p_x * at.y_z),
            -sign * (at.p_y * at.y_x - at.p_x * at.y_y),
        ],
        -1,
    )
    curved = along(y) + share[..., None, None] * along(m)
    return torch.where(
        place.is_curved[..., None, None], curved, torch.diag_embed(place.kept)
    )


class _Parts(NamedTuple):
    """p in the cone and y in its dual with p - y = w, and how far p is from the curve.

    Attributes:
        p_x, p_y, p_z, y_x, y_y, y_z: their entries, those in z made nonnegative.
        excess: plus or minus log(p_z / (p_x^a p_y^(1-a))), rising in the share.
        slope: its derivative in the share.
        near: slope = near / share + far / (1 - share), with near + far = 1.
    """

    p_x: Tensor
    p_y: Tensor
    p_z: Tensor
    y_x: Tensor
    y_y: Tensor
    y_z: Tensor
    excess: Tensor
    slope: Tensor
    near: Tensor

    @classmethod
    def of(
        cls, w: tuple[Tensor, Tensor, Tensor], share: Tensor, is_low: Tensor, a: Tensor
    ) -> "_Parts":
        z, rest = w[2], 1 - share
        p_z = z * torch.where(is_low, share, rest)
        y_z = z * torch.where(is_low, rest, share)
        # In an entry that is negative log p = log(a p_z y_z / y) gives the logarithm of
        # the larger of p and y, and terms in log p_z cancel exactly, not in rounding.
        positive = torch.zeros_like(z)
        lack, near, far = positive, positive, positive
        found = []
        for entry, weight in ((w[0], a), (w[1], 1 - a)):
            is_positive = entry >= 0
            size = torch.where(is_positive, entry, -entry)
            total = torch.sqrt(size * size + 4 * weight * p_z * y_z)
            larger = 0.5 * (size + total)
            smaller = weight * p_z * y_z / larger
            found.append(torch.where(is_positive, larger, smaller))
            found.append(torch.where(is_positive, smaller, larger))
            positive = positive + torch.where(is_positive, weight, 0.0)
            logarithm = torch.log(larger)
            term = torch.where(is_positive, -logarithm, logarithm - torch.log(weight))
            lack = lack + weight * term
            is_smaller = is_low ^ is_positive
            reduced = weight * z * z / larger
            term = torch.where(is_smaller, reduced * rest, larger / share)
            near = near + weight * term / total
            term = torch.where(is_smaller, larger / rest, reduced * share)
            far = far + weight * term / total
        lack = lack + positive * torch.log(p_z) - (1 - positive) * torch.log(y_z)
        p_x, y_x, p_y, y_y = found
        excess = torch.where(is_low, lack, -lack)
        return cls(p_x, p_y, p_z, y_x, y_y, y_z, excess, near + far, near * share)


def _locate(v: Tensor, a: Tensor) -> _Place:
    """The piece of each point and its root; NaN for points that are not finite."""
    scale = v.abs().amax(-1, keepdim=True).clamp_min(_tiny(v))
    x, y, z = (-v / scale).unbind(-1)
    z = z.abs()
    log_z = torch.log(z)
    is_in_cone = (x >= 0) & (y >= 0)
    is_in_cone &= a * torch.log(x.abs()) + (1 - a) * torch.log(y.abs()) >= log_z
    is_in_polar = (x <= 0) & (y <= 0)
    size = a * torch.log(x.abs() / a) + (1 - a) * torch.log(y.abs() / (1 - a))
    is_in_polar &= size >= log_z
    # So small a z is zero: its square is still a number.
    is_level = z < _tiny(v) ** 0.25
    is_curved = ~(is_in_cone | is_in_polar | is_level)
    w = _safe(x, y, z, is_curved)
    half = torch.full_like(x, 0.5)
    least = torch.finfo(v.dtype).eps ** 2.5
    is_low = _Parts.of(w, half, torch.ones_like(is_curved), a).excess >= 0
    # Beyond this share the curve is a face to far below rounding.
    is_face = _Parts.of(w, half * (2 * least), is_low, a).excess >= 0
    root = _search(w, is_low, a, least)
    is_curved = is_curved & ~is_face
    root = torch.where(is_curved, root, 0.25)
    third = torch.where(is_level, _level_slope(x, y, a), is_low.to(v.dtype))
    third = torch.where(is_in_polar, 1.0, torch.where(is_in_cone, 0.0, third))
    kept = torch.stack([(x < 0).to(v.dtype), (y < 0).to(v.dtype), third], -1)
    return _Place(scale, is_curved, kept, is_low, root)


def _level_slope(x: Tensor, y: Tensor, a: Tensor) -> Tensor:
    """The derivative of y_z in w_z at w_z = 0, where x and y have unlike signs.

    The limit of the equations as w_z goes to 0: it depends on whether the exponent of
    the negative one exceeds one half.
    """
    exponent = torch.where(x < 0, a, 1 - a)
    positive, negative = torch.maximum(x, y), -torch.minimum(x, y)
    both = (2 * negative + positive).clamp_min(_tiny(x))
    slope = (exponent > 0.5).to(x.dtype)
    return torch.where(exponent == 0.5, 2 * negative / both, slope)


def _opposite(
    v: Tensor, sign: Tensor, is_curved: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The entries of -v, |v_z| the third, where used; a harmless point elsewhere."""
    x, y, z = v.unbind(-1)
    return _safe(-x, -y, sign * z, is_curved)


def _safe(
    x: Tensor, y: Tensor, z: Tensor, is_curved: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    where = torch.where
    return where(is_curved, x, 0.0), where(is_curved, y, 0.0), where(is_curved, z, 1.0)


def _search(
    w: tuple[Tensor, Tensor, Tensor], is_low: Tensor, a: Tensor, least: float
) -> Tensor:
    """The share in [least, 1/2] with no excess, by Newton steps that stay there.

    The excess is nearly linear in the logarithm of the share on one piece and in the
    share itself next to the cones; both steps are tried, then a bisection.
    """
    low, high = torch.full_like(a * w[0], least), torch.full_like(a * w[0], 0.5)
    share = 0.5 * high
    for number in range(ITERATIONS):
        at = _Parts.of(w, share, is_low, a)
        is_below = at.excess < 0
        low, high = (
            torch.where(is_below, share, low),
            torch.where(is_below, high, share),
        )
        step = -at.excess / at.slope
        middle = torch.sqrt(low * high)
        plain = share + step
        # Next to a cone the logarithm is flat: go down quickly until `plain` is inside.
        jump = torch.maximum(0.01 * share, middle)
        logarithmic = share * torch.exp((step / share).clamp(-200, 80))
        logarithmic = torch.where(
            ~is_below & (at.near < 0.1), torch.minimum(logarithmic, jump), logarithmic
        )
        is_first = is_below & (at.near * (1 - share) > (1 - at.near) * share)
        new = middle
        for candidate in (
            torch.where(is_first, plain, logarithmic),
            torch.where(is_first, logarithmic, plain),
        ):
            is_inside = (candidate >= low) & (candidate <= high)
            new = torch.where(is_inside, candidate, new)
        if number % 3 == 2:  # steps may jump to and fro
            new = torch.where((new - share).abs() > 0.3 * share, middle, new)
        share = new
    return share


def _exponents(v: Tensor, block: Block) -> Tensor:
    return torch.tensor(block.exponents, dtype=v.dtype, device=v.device)


def _sign(z: Tensor) -> Tensor:
    return torch.where(z < 0, -1.0, 1.0).to(z.dtype)


def _tiny(v: Tensor) -> float:
    return torch.finfo(v.dtype).tiny
