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
    inner = x.abs().clamp(max=M)
    return inner * (2 * x.abs() - inner)


def rel_entr(x: Tensor, y: Tensor) -> Tensor:
    """Relative entropy x log(x/y)."""
    x, y = torch.broadcast_tensors(x, y)
    inside = (x > 0) & (y > 0)
    ratio = torch.where(inside, x, 1.0) / torch.where(inside, y, 1.0)
    limit = torch.where((x == 0) & (y >= 0), 0.0, torch.inf).to(x.dtype)
    return torch.where(inside, x * torch.log(ratio), limit)


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


def _on(inside: Tensor, function: Any, x: Tensor, otherwise: float) -> Tensor:
    # The inner where keeps 0 * inf out of the gradient of the samples outside.
    return torch.where(inside, function(torch.where(inside, x, 1.0)), otherwise)
