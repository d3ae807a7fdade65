"""The ESDIRK method of Kvaerno of order 5, with an embedded one of order 4.

Source: A. Kvaerno, Singly diagonally implicit Runge-Kutta methods with an explicit
first stage (2004). Dense output: the smooth quartic of order 4 with least weights.
"""

from dataclasses import dataclass
from typing import ClassVar

from optlayers.solvers.ode.esdirk import ImplicitTableau
from optlayers.solvers.ode.implicit import ImplicitSolver

# The embedded solution is the point of the sixth stage.
_EMBEDDED = (
    0.13855640231268224, 0.0, -0.04245337201752043, 0.02446657898003141,
    0.61943039072480676,
)  # fmt: skip
_SOLUTION = (
    0.13659751177640291, 0.0, -0.05496908796538376, -0.04118626728321046,
    0.62993304899016403, 0.06962479448202728,
)  # fmt: skip
_GAMMA = 0.26

TABLEAU = ImplicitTableau(
    order=5,
    error_order=4,
    gamma=_GAMMA,
    a=(
        (),
        (0.26,),
        (0.13, 0.84033320996790809),
        (0.22371961478320505, 0.47675532319799699, -0.06470895363112615),
        (0.16648564323248321, 0.10450018841591720, 0.03631482272098715,
         -0.13090704451073998),
        _EMBEDDED,
        _SOLUTION,
    ),
    # The polynomial through earlier rates, and of the last stage the embedded solution.
    guess=(
        (),
        (1.0,),
        (-1.366025403784441, 2.3660254037844357),
        (-0.19650552613122207, 0.8113579546496623, 0.38514757148155954),
        (0.10375304369958693, 0.937994698066431, -0.04174774176601781, 0.0),
        (-0.17281112873898072, 0.6235784481025847, 0.5492326806363959, 0.0, 0.0),
        (*_EMBEDDED, _GAMMA),
    ),
    c=(0.0, 0.52, 1.230333209967908, 0.8957659843500759, 0.43639360985864756, 1.0, 1.0),
    error=(
        *(last - before for last, before in zip(_SOLUTION, (*_EMBEDDED, _GAMMA),
                                                strict=True)),
        _GAMMA,
    ),
    dense=(
        (1.0, -2.0720375887956846, 1.690465224696983, -0.48183012412489484),
        (0.0, 0.0, 0.0, 0.0),
        (0.0, 0.8427243190616576, -1.9053249899848466, 1.0076315829578069),
        (0.0, -0.6665857136422353, 1.1684263581516259, -0.5430269117926018),
        (0.0, 3.25692881439935, -3.994125432838049, 1.3671296674288624),
        (0.0, -0.6050255205696877, 1.4885502190674835, -0.8138999040157696),
        (0.0, -0.7560043104534068, 1.5520086209068136, -0.5360043104534068),
    ),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Kvaerno5(ImplicitSolver):
    """Order 5, L-stable, implicit: for stiff problems, also where Jacobians are rough.

    One stage stands at t + 1.23 h: the field is evaluated a little beyond the last
    time, and beyond stops. Steps end at save times, as components that decay at once
    are less accurate within them: each save time costs about a step. Dense output
    (`at`) and states at events are taken from within.
    """

    tableau: ClassVar[ImplicitTableau] = TABLEAU
