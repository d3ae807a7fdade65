"""Euler's method: one evaluation, order 1.

Source: L. Euler, Institutiones calculi integralis (1768), §650.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from optlayers.solvers.ode.control import Control, FixedStep
from optlayers.solvers.ode.explicit import ExplicitRungeKutta, Tableau
from optlayers.solvers.ode.solver import SteppingSolver
from optlayers.solvers.ode.stepper import Stepper

TABLEAU = Tableau(
    order=1,
    a=((),),
    b=(1,),
    c=(0,),
    dense=((1,),),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Euler(SteppingSolver):
    """Explicit, order 1, fixed steps: from each save time to the next by default."""

    control: Control = field(default_factory=FixedStep)
    stepper: ClassVar[Stepper] = ExplicitRungeKutta(TABLEAU)
