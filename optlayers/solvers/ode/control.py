"""How long the next step is: fixed, or from the estimated errors of the last ones.

h' = h clamp(safety r_n^(-b1/k) r_(n-1)^(-b2/k) r_(n-2)^(-b3/k)), k = order of the error
Source: G. Soderlind, Digital filters in adaptive time-stepping (2003), equation 31.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from optlayers.errors import ParameterError

# Ratios of estimated to allowed error beyond these say no more than "far too large"
# and "no error at all".
LARGEST_RATIO = 1e10
SMALLEST_RATIO = 1e-10


@dataclass(frozen=True, kw_only=True)
class PIDControl:
    """Adaptive steps from the errors of the last three.

    Attributes:
        betas: exponents of the last three ratios of error to tolerance, newest first,
            to be divided by the order of the error.
        safety: share of the step that would just be accepted.
        shrink: a step is at least so many times the last one.
        grow: a step is at most so many times the last one.

    Raises:
        ParameterError: an option out of its range.
    """

    betas: tuple[float, float, float] = (1 / 18, 1 / 9, 1 / 18)
    safety: float = 0.9
    shrink: float = 0.2
    grow: float = 10.0
    is_adaptive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        name = type(self).__name__
        if not 0 < self.safety < 1:
            raise ParameterError(
                f"{name}(safety={self.safety!r}): give a number between 0 and 1."
            )
        if not 0 < self.shrink < 1 < self.grow:
            raise ParameterError(
                f"{name}(shrink={self.shrink!r}, grow={self.grow!r}): the step must be "
                "able to shrink (below 1) and to grow (above 1)."
            )

    @property
    def depth(self) -> int:
        """How many earlier ratios are needed."""
        return max((k for k, one in enumerate(self.betas) if one), default=0)

    def factor(self, ratio: Tensor, earlier: tuple[Tensor, ...], order: int) -> Tensor:
        """What to multiply the step with, [B].

        Args:
            ratio: estimated over allowed error of the step just tried, [B].
            earlier: ratios of accepted steps before it, newest first, `depth` of them.
            order: k, the power of h that the error is proportional to.
        """
        factor = ratio.clamp_min(SMALLEST_RATIO).pow_(-self.betas[0] / order)
        factor.mul_(self.safety)
        for beta, one in zip(self.betas[1:], earlier, strict=False):
            factor = factor * one.clamp(SMALLEST_RATIO, LARGEST_RATIO) ** (
                -beta / order
            )
        # A ratio of NaN or infinity takes the shortest step.
        factor = torch.fmax(factor, factor.new_full((), self.shrink))
        return factor.clamp_max_(self.grow)


@dataclass(frozen=True, kw_only=True)
class IControl(PIDControl):
    """The classical rule: the step for which the last error would have been allowed."""

    betas: tuple[float, float, float] = (1.0, 0.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class PIControl(PIDControl):
    """Smoother steps where stability, not accuracy, limits them.

    Source: K. Gustafsson, Control theoretic techniques for stepsize selection in
    explicit Runge-Kutta methods (1991).
    """

    betas: tuple[float, float, float] = (0.7, -0.4, 0.0)


@dataclass(frozen=True, kw_only=True)
class FixedStep:
    """Steps of one size; the last one is shortened to end where it must.

    Attributes:
        size: of every step, in units of time; None makes one step from each save time
            to the next.

    Raises:
        ParameterError: a size that is not positive.
    """

    size: float | None = None
    is_adaptive: ClassVar[bool] = False
    depth: ClassVar[int] = 0

    def __post_init__(self) -> None:
        if self.size is not None and not self.size > 0:
            raise ParameterError(
                f"FixedStep(size={self.size!r}): give a positive number, also backward "
                "in time."
            )


Control = PIDControl | FixedStep
