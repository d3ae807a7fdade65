"""Which residual depends on which unknown, found by what becomes NaN with it.

Arithmetic hands NaN on, zeros included: so nothing that depends on an unknown is
missed, unless a function chooses by comparing, which the measured residual then tells.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from optlayers.compile.samples import SampleFunction
from optlayers.linalg.pattern import Pattern

# For fewer unknowns a dense factorization is as fast.
FEWEST = 30
# A matrix with a larger share of entries is dense.
LARGEST_SHARE = 0.25
# Numbers of one evaluation, so that its memory stays small.
AT_ONCE = 2_000_000


def residual_pattern(
    residuals: SampleFunction, start: Tensor, inputs: Sequence[Tensor]
) -> Pattern | None:
    """The pattern of dr/dx, row by row; None where it is small or dense.

    Args:
        residuals: r, [B, n] -> [B, k], that calls no modules.
        start: x where r is finite for the most part, [n].
        inputs: of one sample each, any numbers.
    """
    n = len(start)
    if n < FEWEST:
        return None
    with torch.no_grad():
        known = residuals(start.unsqueeze(0), inputs, {})
        k = known.shape[1]
        rows, cols = [], []
        for some in torch.arange(n).split(max(1, AT_ONCE // max(1, k))):
            points = start.repeat(len(some), 1)
            points[torch.arange(len(some)), some] = torch.nan
            # What is NaN anyhow tells nothing, and counts as dependent.
            column, row = residuals(points, inputs, {}).isnan().nonzero(as_tuple=True)
            rows.append(row)
            cols.append(some[column])
    size = sum(map(len, rows))
    if size > LARGEST_SHARE * k * n:
        return None
    return Pattern.row_major(
        np.concatenate([one.numpy() for one in rows]),
        np.concatenate([one.numpy() for one in cols]),
        (k, n),
    )
