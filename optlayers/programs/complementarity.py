"""Multiplier and slack of a row from one number v = lam - s, which is free.

lam = max(v, 0), s = max(-v, 0), so that lam s = 0; or, on the barrier path of strength
mu, lam = (v + sqrt(v^2 + 4 mu)) / 2, s = lam - v, so that lam s = mu.
"""

import torch
from torch import Tensor


def multiplier_and_slack(v: Tensor, mu: float = 0.0) -> tuple[Tensor, Tensor]:
    """lam and s with lam - s = v and lam s = mu, none of them negative.

    Args:
        v: [B, m].
        mu: strength of the barrier, not negative.

    Source: C. Kanzow, Some noninterior continuation methods for linear complementarity
    problems (1996), the smoothing function of Chen, Harker, Kanzow and Smale.
    """
    if mu == 0:
        lam = v.clamp_min(0)
        return lam, lam - v
    root = (v.square() + 4 * mu).sqrt()
    # Of sum and difference the one without cancellation; the product is known.
    lam = torch.where(v >= 0, (v + root) / 2, 2 * mu / (root - v.clamp_max(0)))
    s = torch.where(v <= 0, (root - v) / 2, 2 * mu / (root + v.clamp_min(0)))
    return lam, s


def slope_of_multiplier(v: Tensor, mu: float = 0.0) -> Tensor:
    """dlam/dv, [B, m]: 1 of active rows, 0 of others, between the two on the path."""
    if mu == 0:
        return (v >= 0).to(v.dtype)
    lam, s = multiplier_and_slack(v, mu)
    return lam / (lam + s)
