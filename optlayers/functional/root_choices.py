"""What root finding decides: tolerance, bounds, what to do where J is singular."""

from typing import Any

import torch
from torch import Tensor

from optlayers.errors import ParameterError, ShapeError, SingularError
from optlayers.functional.options import SolveOptions
from optlayers.functional.pytrees import Unknowns

# Residuals that count as zero, an absolute size: about 1e6 roundings of numbers near 1
# in float64, 100 in float32.
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5}
LISTED_SAMPLES = 5


def checked_bounds(
    unknowns: Unknowns, start: Any, lower: Any, upper: Any
) -> tuple[Tensor | None, Tensor | None]:
    """The bounds of a search as they lie in a row, [n] or [B, n] each; None if none.

    Args:
        unknowns: the form of the start.
        start: whose dtype and device the bounds take.
        lower: as of `Unknowns.broadcast`, or None.
        upper: likewise.

    Raises:
        ShapeError: a bound is not of the form of the unknowns.
        ParameterError: a bound is NaN, or lower lies above upper.
    """
    like = unknowns.rows(start)
    low = _bound(unknowns, "lower", lower, like)
    high = _bound(unknowns, "upper", upper, like)
    if low is not None and high is not None and bool((low > high).any()):
        above = (low - high).max()
        raise ParameterError(
            f"lower lies above upper, by up to {float(above):.1e}; no point is "
            "within both."
        )
    return low, high


def _bound(unknowns: Unknowns, name: str, given: Any, like: Tensor) -> Tensor | None:
    if given is None:
        return None
    try:
        bound = unknowns.broadcast(given).detach().to(like)
    except ShapeError as error:
        raise ShapeError(f"{name}: {error}") from None
    if bool(bound.isnan().any()):
        raise ParameterError(f"{name} holds NaN; give -inf or inf where none is meant.")
    return bound


def refuse_singular(name: str, condition: Tensor, options: SolveOptions) -> None:
    """Refuse a derivative that does not exist, where failures raise.

    Args:
        name: what the problem is called.
        condition: of the Jacobian at each solution, [B]; inf where singular.
        options: `gradient="least_squares"` takes the derivative of minimum norm there;
            only `on_failure="raise"` raises.

    Raises:
        SingularError: names the samples.
    """
    if options.gradient == "least_squares" or options.on_failure != "raise":
        return
    singular = condition.isinf()
    if bool(singular.any()):
        raise SingularError(
            f"{name}: the Jacobian is singular at the solution of sample "
            f"{listed(singular)}, which therefore has no derivative in the "
            "parameters.\n"
            '  gradient="least_squares" takes the derivative of minimum norm; where '
            "none is needed, call it under torch.no_grad()."
        )


def listed(which: Tensor) -> str:
    """The numbers of the first of these samples, bool [B], for a message."""
    numbers = which.nonzero()[:, 0].tolist()
    return ", ".join(map(str, numbers[:LISTED_SAMPLES]))
