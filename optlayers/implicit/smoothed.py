"""The derivative of a minimum on the barrier path, as an option."""

from dataclasses import dataclass
from numbers import Real

from optlayers.errors import ParameterError


@dataclass(frozen=True)
class Smoothed:
    """`gradient=ol.Smoothed(strength=...)`, of which "smoothed" is the default.

    Attributes:
        strength: mu of the barrier f - mu sum(log(slack)) whose minimum has the
            derivative that is taken; in units of the objective. A constraint changes
            from active to inactive over parameters that move its multiplier and its
            slack by about sqrt(mu).

    Raises:
        ParameterError: the strength is no positive number.
    """

    strength: float = 1e-4

    def __post_init__(self) -> None:
        is_number = isinstance(self.strength, Real)
        if not (is_number and 0 < self.strength < float("inf")):
            raise ParameterError(
                f"Smoothed(strength={self.strength!r}): give a positive number, such "
                "as 1e-4; the larger, the smoother."
            )
