"""The trapezoidal rule, with an embedded method of order 1.

x(t + h) = x + h (f(t, x) + f(t + h, x(t + h))) / 2,
error = h (f(t + h, x(t + h)) - f(t, x)) / 2, its distance from x + h f(t, x)
Source: Hairer, Wanner, Solving ODEs II (1996), IV.3.
"""

from dataclasses import dataclass
from typing import ClassVar

from optlayers.solvers.ode.esdirk import ImplicitTableau
from optlayers.solvers.ode.implicit import ImplicitSolver

TABLEAU = ImplicitTableau(
    order=2,
    error_order=1,
    gamma=1 / 2,
    a=((), (1 / 2,)),
    guess=((), (1.0,)),
    c=(0.0, 1.0),
    error=(-1 / 2, 1 / 2),
    dense=((1.0, -1 / 2), (0.0, 1 / 2)),
)


@dataclass(frozen=True, kw_only=True)
class Trapezoid(ImplicitSolver):
    """Implicit, order 2, A-stable: fast oscillations are neither damped nor grow."""

    tableau: ClassVar[ImplicitTableau] = TABLEAU
