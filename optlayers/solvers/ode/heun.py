"""Heun's method, the explicit trapezoid, order 2, with Euler's method embedded.

Source: K. Heun, Neue Methoden zur approximativen Integration (1900).
"""

from dataclasses import dataclass
from typing import ClassVar

from optlayers.solvers.ode.explicit import ExplicitRungeKutta, Tableau
from optlayers.solvers.ode.solver import SteppingSolver
from optlayers.solvers.ode.stepper import Stepper

TABLEAU = Tableau(
    order=2,
    error_order=1,
    a=((), (1,)),
    b=(1 / 2, 1 / 2),
    c=(0, 1),
    error=(-1 / 2, 1 / 2),
    dense=((1, -1 / 2), (0, 1 / 2)),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Heun(SteppingSolver):
    """Explicit, order 2."""

    stepper: ClassVar[Stepper] = ExplicitRungeKutta(TABLEAU)
