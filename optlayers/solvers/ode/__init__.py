"""Solvers of initial value problems: `optlayers.solvers.ode.Dopri5(rtol=1e-8)`."""

from optlayers.solvers.ode.auto import Auto
from optlayers.solvers.ode.bosh3 import Bosh3
from optlayers.solvers.ode.control import FixedStep, IControl, PIControl, PIDControl
from optlayers.solvers.ode.dopri5 import Dopri5
from optlayers.solvers.ode.dopri8 import Dopri8
from optlayers.solvers.ode.euler import Euler
from optlayers.solvers.ode.heun import Heun
from optlayers.solvers.ode.implicit_euler import ImplicitEuler
from optlayers.solvers.ode.kvaerno5 import Kvaerno5
from optlayers.solvers.ode.leapfrog import Leapfrog
from optlayers.solvers.ode.midpoint import Midpoint
from optlayers.solvers.ode.rk4 import RK4
from optlayers.solvers.ode.rodas5p import Rodas5P
from optlayers.solvers.ode.trapezoid import Trapezoid
from optlayers.solvers.ode.tsit5 import Tsit5

__all__ = [
    "RK4",
    "Auto",
    "Bosh3",
    "Dopri5",
    "Dopri8",
    "Euler",
    "FixedStep",
    "Heun",
    "IControl",
    "ImplicitEuler",
    "Kvaerno5",
    "Leapfrog",
    "Midpoint",
    "PIControl",
    "PIDControl",
    "Rodas5P",
    "Trapezoid",
    "Tsit5",
]
