"""Bounds for methods that step and clamp: who is held back, and by how much."""

import torch
from torch import Tensor

from optlayers.programs.minimize import MinimizeProgram


def is_pressed(program: MinimizeProgram, x: Tensor, slope: Tensor) -> Tensor:
    """Which unknowns stand at a bound that keeps them from descending, bool [B, n].

    Args:
        program: with bounds.
        x: [B, n], within them.
        slope: grad f, [B, n].
    """
    found = torch.zeros_like(slope, dtype=torch.bool)
    if program.lower is not None:
        found = found | ((x <= program.lower) & (slope > 0))
    if program.upper is not None:
        found = found | ((x >= program.upper) & (slope < 0))
    return found


def bound_multipliers(program: MinimizeProgram, x: Tensor) -> Tensor:
    """The multipliers of the bounds at a minimum within them, [B, m]."""
    if not program.bounds:
        return x.new_zeros(len(x), 0)
    slope = program.gradient(x)
    parts = []
    for side in program.bounds:
        own = x[:, side.columns]
        is_at = side.is_finite & (side.sign * (own - side.limit) >= 0)
        pull = (-side.sign * slope[:, side.columns]).clamp_min(0)
        parts.append(torch.where(is_at, pull, 0.0))
    return torch.cat(parts, 1)
