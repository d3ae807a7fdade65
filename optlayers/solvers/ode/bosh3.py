"""The method of Bogacki and Shampine of order 3, with an embedded one of order 2.

Source: P. Bogacki, L. F. Shampine, A 3(2) pair of Runge-Kutta formulas (1989); dense
output is the cubic Hermite interpolant.
"""

from dataclasses import dataclass
from typing import ClassVar

from optlayers.solvers.ode.explicit import ExplicitRungeKutta, Tableau
from optlayers.solvers.ode.solver import SteppingSolver
from optlayers.solvers.ode.stepper import Stepper

TABLEAU = Tableau(
    order=3,
    error_order=2,
    a=((), (1 / 2,), (0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)),
    b=(2 / 9, 1 / 3, 4 / 9, 0),
    c=(0, 1 / 2, 3 / 4, 1),
    error=(-5 / 72, 1 / 12, 1 / 9, -1 / 8),
    dense=(
        (1, -4 / 3, 5 / 9),
        (0, 1, -2 / 3),
        (0, 4 / 3, -8 / 9),
        (0, -1, 1),
    ),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Bosh3(SteppingSolver):
    """Explicit, order 3: for loose tolerances."""

    stepper: ClassVar[Stepper] = ExplicitRungeKutta(TABLEAU)
