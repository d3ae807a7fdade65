"""The classical Runge-Kutta method of order 4, with dense output of order 3.

Source: M. W. Kutta, Beitrag zur näherungsweisen Integration (1901).
"""

from dataclasses import dataclass, field
from typing import ClassVar

from optlayers.solvers.ode.control import Control, FixedStep
from optlayers.solvers.ode.explicit import ExplicitRungeKutta, Tableau
from optlayers.solvers.ode.solver import SteppingSolver
from optlayers.solvers.ode.stepper import Stepper

TABLEAU = Tableau(
    order=4,
    a=((), (1 / 2,), (0, 1 / 2), (0, 0, 1)),
    b=(1 / 6, 1 / 3, 1 / 3, 1 / 6),
    c=(0, 1 / 2, 1 / 2, 1),
    dense=(
        (1, -3 / 2, 2 / 3),
        (0, 1, -2 / 3),
        (0, 1, -2 / 3),
        (0, -1 / 2, 2 / 3),
    ),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RK4(SteppingSolver):
    """Explicit, order 4, fixed steps: from each save time to the next by default."""

    control: Control = field(default_factory=FixedStep)
    stepper: ClassVar[Stepper] = ExplicitRungeKutta(TABLEAU)
