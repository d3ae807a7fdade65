"""A line search that halves and doubles until the Wolfe conditions hold, by trials.

Source: A. Lewis, M. Overton, Nonsmooth optimization via quasi-Newton methods (2013),
algorithm 2.6.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from optlayers.solvers.minimize.options import (
    UNBOUNDED_BELOW,
    chosen,
    dot,
    rounding_of,
)

ARMIJO, CURVATURE = 1e-4, 0.9
# Trials of one line search before the memory, and then the sample, is given up.
MOST_TRIALS = 80


class Search(NamedTuple):
    """The line search of each sample.

    Attributes:
        point, gradient: x and grad f where it begins, [B, n].
        value: f there, [B].
        direction: where it looks, [B, n].
        slope: the derivative of f along it, [B].
        share: the multiple of the direction to try next, [B].
        low, high: the shares that are too short and too long, [B].
        trials: trials so far, [B].
    """

    point: Tensor
    value: Tensor
    gradient: Tensor
    direction: Tensor
    slope: Tensor
    share: Tensor
    low: Tensor
    high: Tensor
    trials: Tensor

    @classmethod
    def along(
        cls,
        point: Tensor,
        value: Tensor,
        gradient: Tensor,
        direction: Tensor,
        is_steepest: Tensor,
    ) -> "Search":
        """A new one.

        Args:
            point: where it begins, [B, n].
            value: f there, [B].
            gradient: grad f there, [B, n].
            direction: where it looks, [B, n].
            is_steepest: where the direction is minus the gradient, so that its length
                says nothing, bool [B]: the first trial has at most length one there.
        """
        share = torch.ones_like(value)
        if is_steepest.any():
            tiny = torch.finfo(value.dtype).tiny
            shorter = (1 / gradient.norm(dim=1).clamp_min(tiny)).clamp_max(1.0)
            share = torch.where(is_steepest, shorter, share)
        zero = torch.zeros_like(value)
        return cls(
            point, value, gradient, direction, dot(direction, gradient), share, zero,
            torch.full_like(value, torch.inf), zero,
        )  # fmt: skip

    def trial(self) -> Tensor:
        """The point to try next, [B, n]."""
        return torch.addcmul(self.point, self.share.unsqueeze(1), self.direction)

    def where(self, which: Tensor, other: "Search") -> "Search":
        """These searches where `which`, bool [B], holds, and the others elsewhere."""
        pairs = zip(self, other, strict=True)
        return Search(*(a if a is b else chosen(which, a, b) for a, b in pairs))


def judged(search: Search, value: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Whether the share tried is too long, and else whether it is too short."""
    slope = dot(gradient, search.direction)
    change = value - search.value
    falls = change <= ARMIJO * search.share * search.slope
    # Within rounding the slopes decide: W. Hager, H. Zhang (2005), equation 4.1.
    is_level = change <= rounding_of(search.value)
    falls = falls | (is_level & (slope <= (2 * ARMIJO - 1) * search.slope))
    # A sum that is finite has finite terms only, but for an overflow of the sum.
    falls = falls & value.isfinite() & gradient.sum(1).isfinite()
    # There is no use in searching on where f has no bound.
    is_short = (slope < CURVATURE * search.slope) & (value > UNBOUNDED_BELOW)
    return ~falls, falls & is_short


def narrowed(search: Search, is_long: Tensor, is_short: Tensor) -> Search:
    """The searches after such a trial, all of them."""
    high = torch.where(is_long, search.share, search.high)
    low = torch.where(is_short, search.share, search.low)
    share = torch.where(high.isfinite(), (low + high) / 2, 2 * low)
    return search._replace(share=share, low=low, high=high, trials=search.trials + 1)
