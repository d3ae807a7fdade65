"""Torch functions of the atoms that act entry by entry.

Outside its domain a convex atom is +inf and a concave one -inf or NaN; on the rim of
its domain its gradient is finite or infinite, never NaN.
"""

from typing import Any

import torch
from torch import Tensor


def power(x: Tensor, p: float = 1, **_: Any) -> Tensor:
    """The power x ** p."""
    return torch.pow(x, p)


def inv_pos(x: Tensor) -> Tensor:
    """1/x for x > 0."""
    return _on(x > 0, torch.reciprocal, x, otherwise=torch.inf)


def pos(x: Tensor) -> Tensor:
    """max(x, 0)."""
    return torch.relu(x)


def neg(x: Tensor) -> Tensor:
    """max(-x, 0)."""
    return torch.relu(-x)


def logistic(x: Tensor) -> Tensor:
    """log(1 + exp(x)), exact for large x too."""
    return torch.logaddexp(x, torch.zeros_like(x))


def entr(x: Tensor) -> Tensor:
    """-x log x."""
    return torch.special.entr(x)


def huber(x: Tensor, M: float = 1) -> Tensor:
    """x^2 for |x| <= M, 2 M |x| - M^2 beyond."""
    # Without |x|, whose second derivative at zero would be lost.
    inner = x.clamp(-M, M)
    return inner * (2 * x - inner)


def rel_entr(x: Tensor, y: Tensor) -> Tensor:
    """Relative entropy x log(x/y)."""
    x, y = torch.broadcast_tensors(x, y)
    inside = (x > 0) & (y > 0)
    ratio = torch.where(inside, x, 1.0) / torch.where(inside, y, 1.0)
    limit = torch.where((x == 0) & (y >= 0), 0.0, torch.inf).to(x.dtype)
    return torch.where(inside, x * torch.log(ratio), limit)


def xexp(x: Tensor) -> Tensor:
    """x exp(x)."""
    return x * torch.exp(x)


def scalene(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """alpha max(x, 0) + beta max(-x, 0)."""
    return alpha * pos(x) + beta * neg(x)


def loggamma(x: Tensor) -> Tensor:
    """cvxpy's approximation of log gamma(x), the largest of ten convex functions."""
    inside = x > 0
    x = torch.where(inside, x, 1.0)
    lines = [intercept + slope * x for intercept, slope in _LOG_GAMMA]
    near_zero = -0.577216 * x - torch.log(x)
    stirling = 0.918939 - x - entr(x) - 0.5 * torch.log(x)
    return torch.where(inside, maximum(*lines, near_zero, stirling), torch.inf)


def log_normcdf(x: Tensor) -> Tensor:
    """cvxpy's approximation of the logarithm of the normal distribution function."""
    squares = [weight * torch.relu(knot - x) ** 2 for weight, knot in _LOG_NORMCDF]
    return -torch.stack(squares).sum(dim=0)


def kl_div(x: Tensor, y: Tensor) -> Tensor:
    """Divergence x log(x/y) - x + y."""
    return rel_entr(x, y) - x + y


def maximum(*tensors: Tensor) -> Tensor:
    """The largest of the arguments; ties share the gradient."""
    result = tensors[0]
    for tensor in tensors[1:]:
        result = torch.maximum(result, tensor)
    return result


def minimum(*tensors: Tensor) -> Tensor:
    """The smallest of the arguments; ties share the gradient."""
    result = tensors[0]
    for tensor in tensors[1:]:
        result = torch.minimum(result, tensor)
    return result


# Intercept and slope, https://github.com/cvxpy/cvxpy/issues/228.
_LOG_GAMMA = (
    (2.18382, -3.62887),
    (1.79241, -2.4902),
    (1.21628, -1.37035),
    (0.261474, -0.28904),
    (0.577216, -0.577216),
    (-0.175517, 0.03649),
    (-1.27572, 0.621514),
    (-0.845568, 0.422784),
)

# Weight and knot of each square, https://github.com/cvxpy/cvxpy/pull/1224.
_LOG_NORMCDF = (
    (0.02301291, 3.0),
    (0.08070214, 2.0),
    (0.16411522, 1.0),
    (0.09003495, 0.0),
    (0.08200854, -1.0),
    (0.01371543, -2.5),
    (0.04641081, -3.5),
)


def _on(inside: Tensor, function: Any, x: Tensor, otherwise: float) -> Tensor:
    # The inner where keeps 0 * inf out of the gradient of the samples outside.
    return torch.where(inside, function(torch.where(inside, x, 1.0)), otherwise)
