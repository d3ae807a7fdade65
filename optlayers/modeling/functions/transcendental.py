"""Smooth functions that are neither convex nor concave, for parameters and dynamics."""

from typing import Any

import torch

from optlayers.modeling.algebra import Algebra
from optlayers.modeling.functions.calling import as_tensor


def sin(x: Any) -> Any:
    """Sine of every entry.

    Args:
        x: [*shape], in radians.
    """
    return torch.sin(_term(x))


def cos(x: Any) -> Any:
    """Cosine of every entry.

    Args:
        x: [*shape], in radians.
    """
    return torch.cos(_term(x))


def tan(x: Any) -> Any:
    """Tangent of every entry.

    Args:
        x: [*shape], in radians.
    """
    return torch.tan(_term(x))


def tanh(x: Any) -> Any:
    """Hyperbolic tangent of every entry.

    Args:
        x: [*shape].
    """
    return torch.tanh(_term(x))


def _term(x: Any) -> Any:
    return x if isinstance(x, Algebra) else as_tensor(x)
