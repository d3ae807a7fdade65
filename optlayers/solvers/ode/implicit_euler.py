"""The implicit Euler method, with the error estimated from the change of the rate.

x(t + h) = x + h f(t + h, x(t + h)),   error = h (f(t + h, x(t + h)) - f(t, x)) / 2
Source: Hairer, Wanner, Solving ODEs II (1996), IV.1 and IV.3.
"""

from dataclasses import dataclass
from typing import ClassVar

from optlayers.solvers.ode.esdirk import ImplicitTableau
from optlayers.solvers.ode.implicit import ImplicitSolver

TABLEAU = ImplicitTableau(
    order=1,
    error_order=1,
    gamma=1.0,
    a=((), (0.0,)),
    guess=((), (1.0,)),
    c=(0.0, 1.0),
    error=(-1 / 2, 1 / 2),
    dense=((0.0, 0.0), (1.0, 0.0)),
)


@dataclass(frozen=True, kw_only=True)
class ImplicitEuler(ImplicitSolver):
    """Implicit, order 1, L-stable: damps whatever is faster than the step."""

    tableau: ClassVar[ImplicitTableau] = TABLEAU
