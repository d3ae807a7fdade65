"""The explicit midpoint method, order 2, with Euler's method embedded.

Source: C. Runge, Ueber die numerische Auflösung von Differentialgleichungen (1895).
"""

from dataclasses import dataclass
from typing import ClassVar

from optlayers.solvers.ode.explicit import ExplicitRungeKutta, Tableau
from optlayers.solvers.ode.solver import SteppingSolver
from optlayers.solvers.ode.stepper import Stepper

TABLEAU = Tableau(
    order=2,
    error_order=1,
    a=((), (1 / 2,)),
    b=(0, 1),
    c=(0, 1 / 2),
    error=(-1, 1),
    dense=((1, -1), (0, 1)),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Midpoint(SteppingSolver):
    """Explicit, order 2."""

    stepper: ClassVar[Stepper] = ExplicitRungeKutta(TABLEAU)
