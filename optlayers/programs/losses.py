"""Robust losses of residuals by name, phi(r) = C^2 rho(r^2 / C^2) of a scale C.

Source: SciPy, least_squares, for the names up to "arctan"; Z. Zhang, Parameter
estimation techniques (1997), table 1, for the others. All are r^2 near zero.
"""

from collections.abc import Callable, Mapping
from difflib import get_close_matches

import torch
from torch import Tensor

from optlayers.errors import UnknownName


def _huber(z: Tensor) -> Tensor:
    # Beyond 1 alone: the root has no derivative at zero.
    return torch.where(z <= 1, z, 2 * z.clamp_min(1).sqrt() - 1)


def _tukey(z: Tensor) -> Tensor:
    return (1 - (1 - z.clamp_max(1)) ** 3) / 3


# rho, each with rho(0) = 0 and rho'(0) = 1.
LOSSES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda z: z,
    "soft_l1": lambda z: 2 * z / (1 + (1 + z).sqrt()),
    "huber": _huber,
    "cauchy": torch.log1p,
    "arctan": torch.atan,
    "geman_mcclure": lambda z: z / (1 + z),
    "welsch": lambda z: -torch.expm1(-z),
    "tukey": _tukey,
}


def loss_named(name: str, scale: Tensor | float) -> Callable[[Tensor], Tensor]:
    """phi as a function of residuals [B, k].

    Args:
        name: of the loss.
        scale: C, a number or [B, 1].

    Raises:
        UnknownName: there is no such loss; the message lists them.
    """
    rho = LOSSES.get(name)
    if rho is None:
        near = get_close_matches(name, LOSSES, n=1)
        hint = f' Did you mean "{near[0]}"?' if near else ""
        raise UnknownName(f"loss={name!r}: one of {', '.join(LOSSES)}.{hint}")
    return lambda r: scale**2 * rho((r / scale) ** 2)
