"""From the multipliers of a smooth program to those of each declared constraint."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from optlayers.compile.boxes import Box
from optlayers.modeling.fields import BoundField

Part = Literal["equalities", "rows"]


class Found(NamedTuple):
    """All multipliers of a batch.

    Attributes:
        equalities: of h(x) = 0, [B, me].
        rows: of inequalities, then lower bounds, then upper bounds, [B, m].
    """

    equalities: Tensor
    rows: Tensor


@dataclass(frozen=True)
class RowMultiplier:
    """The multiplier of a constraint that was written down.

    Attributes:
        part: which of `Found` it is in.
        first: its first entry there.
        shape: of one sample, the stages in front.
    """

    part: Part
    first: int
    shape: tuple[int, ...]

    def __call__(self, found: Found) -> Tensor:
        """The multiplier, [B, *shape]."""
        whole = found.equalities if self.part == "equalities" else found.rows
        own = whole[:, self.first : self.first + math.prod(self.shape)]
        return own.reshape((len(whole), *self.shape))


@dataclass(frozen=True, eq=False)
class BoundMultiplier:
    """The multiplier of an attribute that bounds a variable.

    Attributes:
        from_end: where each entry is among the rows, counted back from their end;
            zero where this attribute does not bind: another is tighter, or it is
            infinite. int64 [size].
        shape: of one sample, the stages in front.
    """

    from_end: Tensor
    shape: tuple[int, ...]

    def __call__(self, found: Found) -> Tensor:
        """The multiplier, [B, *shape]."""
        rows = torch.nn.functional.pad(found.rows, (0, 1))
        # The last column is the zero of attributes that do not bind.
        position = rows.shape[1] - 1 - self.from_end.to(rows.device)
        return rows[:, position].reshape((len(rows), *self.shape))


MultiplierReadout = RowMultiplier | BoundMultiplier


def bound_multipliers(
    variables: Sequence[BoundField], box: Box
) -> Iterator[tuple[str, BoundMultiplier]]:
    """The multiplier of every attribute that bounds, by name.

    Args:
        variables: in their order in x.
        box: their bounds; infinite entries have no row.
    """
    sizes = [math.prod(one.coordinate_shape) for one in variables]
    counts = [_finite(box.lower).sum(), _finite(box.upper).sum()]
    total = int(sum(counts))
    sides = (
        (box.lower, 0, "nonneg", "lower"),
        (box.upper, int(counts[0]), "nonpos", "upper"),
    )
    for limit, first, sign, side in sides:
        if limit is None:
            continue
        finite = _finite(limit)
        position = total - (first + finite.cumsum(0) - 1)
        parts = zip(
            variables,
            limit.split(sizes),
            finite.split(sizes),
            position.split(sizes),
            strict=True,
        )
        for field, tightest, has_row, place in parts:
            is_free = has_row
            for word in (sign, side):
                declared = _declared(field, word)
                if declared is None:
                    continue
                # Where two attributes say the same, the first has the multiplier.
                binds = is_free & (declared.expand(field.shape).reshape(-1) == tightest)
                is_free = is_free & ~binds
                yield (
                    f"{field.name}.{word}",
                    BoundMultiplier(torch.where(binds, place, 0), field.shape),
                )


def _declared(field: BoundField, word: str) -> Tensor | None:
    """The bound that an attribute declares, float64; None if it is not declared."""
    value = getattr(field, word)
    if word in ("nonneg", "nonpos"):
        value = 0.0 if value else None
    return None if value is None else torch.as_tensor(value, dtype=torch.float64).cpu()


def _finite(limit: Tensor | None) -> Tensor:
    return torch.zeros(0, dtype=torch.bool) if limit is None else limit.isfinite()
