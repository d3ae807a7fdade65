"""What every face of root finding decides alike: tolerance, and singular Jacobians."""

import torch
from torch import Tensor

from optlayers.errors import SingularError
from optlayers.functional.options import SolveOptions

# Residuals that count as zero, an absolute size: about 1e6 roundings of numbers near 1
# in float64, 100 in float32.
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5}
LISTED_SAMPLES = 5


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
    singular = condition.isinf().nonzero()[:, 0].tolist()
    if singular:
        shown = ", ".join(map(str, singular[:LISTED_SAMPLES]))
        raise SingularError(
            f"{name}: the Jacobian is singular at the solution of sample {shown}, "
            "which therefore has no derivative in the parameters.\n"
            '  gradient="least_squares" takes the derivative of minimum norm; where '
            "none is needed, call it under torch.no_grad()."
        )
