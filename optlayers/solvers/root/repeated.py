"""Whether a residual is a function of its point at all: measured a second time."""

import math

# A share of the larger one; two roundings of one function differ by far less.
NOTABLE = 1e-3


def differing(first: float, again: float, tolerance: float) -> str:
    """What to say of two measurements at one point; "" where they agree.

    Args:
        first: the largest entry of the residual, as the search ended.
        again: the same, measured when the message is made.
        tolerance: largest entry that counts as zero.
    """
    if not math.isfinite(first) or not math.isfinite(again):
        return ""
    if abs(first - again) <= max(tolerance, NOTABLE * max(first, again)):
        return ""
    return (
        f"; a second evaluation at the same point gave {again:.1e}, so it is random "
        "(dropout in training?) or one sample enters that of another (batch norm in "
        "training?), and has no root to find: call .eval() on such modules"
    )
