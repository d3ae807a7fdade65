"""Bounds on unknowns, as rows that must not be positive.

lower <= x <= upper is sign * (x - limit) <= 0, one side at a time.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Bound(NamedTuple):
    """One side of the bounds as rows sign * (x - limit) <= 0.

    Attributes:
        columns: which unknowns have one in some sample, int64 [k].
        limit: where it is, zero where a sample has none, [k] or [B, k].
        is_finite: whether a sample has one, bool, as `limit`.
        sign: 1 for an upper bound, -1 for a lower.
    """

    columns: Tensor
    limit: Tensor
    is_finite: Tensor
    sign: float

    def to(self, like: Tensor) -> "Bound":
        """The same in the dtype of a tensor, on its device."""
        device = like.device
        return Bound(
            self.columns.to(device), self.limit.to(like), self.is_finite.to(device),
            self.sign,
        )  # fmt: skip


def bounds_of(lower: Tensor | None, upper: Tensor | None) -> tuple[Bound, ...]:
    """The sides on which some unknown is bounded, lower before upper.

    Args:
        lower: [n] or [B, n]; infinite entries stand for none.
        upper: likewise.
    """
    with torch.inference_mode(False):
        pairs = ((lower, -1.0), (upper, 1.0))
        made = [_side(limit, sign) for limit, sign in pairs if limit is not None]
    return tuple(side for side in made if len(side.columns))


def _side(limit: Tensor, sign: float) -> Bound:
    limit = limit.clone() if limit.is_inference() else limit
    is_finite = limit.isfinite()
    has = is_finite if limit.ndim == 1 else is_finite.any(0)
    columns = has.nonzero()[:, 0]
    is_finite = is_finite[..., columns]
    limit = torch.where(is_finite, limit[..., columns], 0.0)
    return Bound(columns, limit, is_finite, sign)
