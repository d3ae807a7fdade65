"""Trigonometric ratios as functions of the squared angle, smooth at zero.

Each is analytic in s = angle^2. Below 1/4 its power series stands for it, so that every
derivative is right at zero, where the closed form is 0/0.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# The first term left out is below 1e-16 of the sum, and of its second derivative's.
TERMS = 8
LIMIT = 0.25

_SINC = tuple((-1) ** k / math.factorial(2 * k + 1) for k in range(TERMS))
_VERSINE = tuple((-1) ** k / math.factorial(2 * k + 2) for k in range(TERMS))
_CUBIC = tuple((-1) ** k / math.factorial(2 * k + 3) for k in range(TERMS))
_ARCTANGENT = tuple((-1) ** k / (2 * k + 1) for k in range(TERMS))
# |B_2k| / (2k)! with the Bernoulli numbers B_2k, k = 1, 2, ...
_COTANGENT = (
    1 / 12,
    1 / 720,
    1 / 30240,
    1 / 1209600,
    1 / 47900160,
    691 / 1307674368000,
    1 / 74724249600,
    3617 / 10670622842880000,
)


def sinc(s: Tensor) -> Tensor:
    """sin(a) / a of s = a^2."""
    return _joined(s, _SINC, lambda a: a.sin() / a)


def versine(s: Tensor) -> Tensor:
    """(1 - cos(a)) / a^2 of s = a^2."""
    # As a square: near a full turn the difference 1 - cos(a) would cancel.
    return _joined(s, _VERSINE, lambda a: 2 * ((a / 2).sin() / a).square())


def cubic(s: Tensor) -> Tensor:
    """(a - sin(a)) / a^3 of s = a^2."""
    return _joined(s, _CUBIC, lambda a: (a - a.sin()) / a**3)


def half_cotangent(s: Tensor) -> Tensor:
    """(1 - a/2 cot(a/2)) / a^2 of s = a^2; infinite at a full turn."""
    return _joined(s, _COTANGENT, lambda a: (1 - a / 2 / (a / 2).tan()) / a**2)


def angle_ratio(sine_squared: Tensor, cosine: Tensor) -> Tensor:
    """a / sin(a) for an angle between 0 and a half turn.

    Args:
        sine_squared: sin(a)^2, [*batch].
        cosine: cos(a), [*batch]; far from zero where the sine is near zero.
    """
    # Far from the axis the series is not read, and division by zero not differentiated.
    is_small = sine_squared < 0.01 * cosine.square()
    base = torch.where(is_small, cosine, 1.0)
    tangent_squared = torch.where(is_small, sine_squared, 0.0) / base.square()
    near = _polynomial(tangent_squared, _ARCTANGENT) / base
    sine = torch.where(is_small, 1.0, sine_squared).sqrt()
    return torch.where(is_small, near, torch.atan2(sine, cosine) / sine)


def _joined(
    s: Tensor,
    coefficients: Sequence[float],
    closed: Callable[[Tensor], Tensor],
) -> Tensor:
    """The series below the limit, the closed form of the angle above it."""
    is_small = s < LIMIT
    near = _polynomial(torch.where(is_small, s, 0.0), coefficients)
    far = closed(torch.where(is_small, LIMIT, s).sqrt())
    return torch.where(is_small, near, far)


def _polynomial(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    """c[0] + c[1] x + c[2] x^2 + ..., by Horner's rule."""
    c = torch.tensor(coefficients, dtype=x.dtype, device=x.device).unbind()
    value = c[-1]
    for one in reversed(c[:-1]):
        value = torch.addcmul(one, value, x)
    return value
