"""The built-in solvers, as lines of text.

A target is "module:Class" and is imported on first use, so nothing imports upward.
"""

from typing import NamedTuple


class Entry(NamedTuple):
    """One line of the registry.

    Attributes:
        kind: a kind of program, such as "convex".
        name: the name a user writes in `solver=`.
        target: "module:Class".
        rank: lower is tried first by `solver="auto"`.
        install: what to type when the target cannot be imported.
    """

    kind: str
    name: str
    target: str
    rank: int
    install: str = "optlayers"


BUILT_IN = (
    Entry("convex", "daqp", "optlayers.solvers.convex.daqp:Daqp", 10, "daqp"),
    Entry(
        "convex", "clarabel", "optlayers.solvers.convex.clarabel:Clarabel", 20,
        "clarabel",
    ),
    Entry("root", "auto", "optlayers.solvers.root.auto:Auto", 10),
    Entry("root", "newton", "optlayers.solvers.root.newton:Newton", 20),
    Entry(
        "root", "levenberg_marquardt",
        "optlayers.solvers.root.levenberg_marquardt:LevenbergMarquardt", 30,
    ),
    Entry("root", "anderson", "optlayers.solvers.root.anderson:Anderson", 40),
    Entry("root", "broyden", "optlayers.solvers.root.broyden:Broyden", 50),
    Entry(
        "root", "newton_krylov", "optlayers.solvers.root.newton_krylov:NewtonKrylov", 60
    ),
    Entry("root", "fixed_point", "optlayers.solvers.root.fixed_point:FixedPoint", 70),
    Entry(
        "root", "chandrupatla", "optlayers.solvers.root.chandrupatla:Chandrupatla", 80
    ),
    Entry("root", "bisection", "optlayers.solvers.root.bisection:Bisection", 90),
    Entry("ode", "auto", "optlayers.solvers.ode.auto:Auto", 10),
    Entry("ode", "tsit5", "optlayers.solvers.ode.tsit5:Tsit5", 20),
    Entry("ode", "dopri5", "optlayers.solvers.ode.dopri5:Dopri5", 30),
    Entry("ode", "dopri8", "optlayers.solvers.ode.dopri8:Dopri8", 40),
    Entry("ode", "bosh3", "optlayers.solvers.ode.bosh3:Bosh3", 50),
    Entry("ode", "heun", "optlayers.solvers.ode.heun:Heun", 60),
    Entry("ode", "midpoint", "optlayers.solvers.ode.midpoint:Midpoint", 65),
    Entry("ode", "rk4", "optlayers.solvers.ode.rk4:RK4", 70),
    Entry("ode", "euler", "optlayers.solvers.ode.euler:Euler", 80),
    Entry("ode", "leapfrog", "optlayers.solvers.ode.leapfrog:Leapfrog", 90),
    Entry("ode", "rodas5p", "optlayers.solvers.ode.rodas5p:Rodas5P", 100),
    Entry("ode", "kvaerno5", "optlayers.solvers.ode.kvaerno5:Kvaerno5", 110),
    Entry("ode", "trapezoid", "optlayers.solvers.ode.trapezoid:Trapezoid", 120),
    Entry(
        "ode", "implicit_euler",
        "optlayers.solvers.ode.implicit_euler:ImplicitEuler", 130,
    ),
    Entry("minimize", "auto", "optlayers.solvers.minimize.auto:Auto", 10),
    Entry("minimize", "newton", "optlayers.solvers.minimize.newton:Newton", 20),
    Entry("minimize", "lbfgs", "optlayers.solvers.minimize.lbfgs:Lbfgs", 30),
    Entry("minimize", "bfgs", "optlayers.solvers.minimize.bfgs:Bfgs", 35),
    Entry("minimize", "newton_cg", "optlayers.solvers.minimize.newton_cg:NewtonCg", 40),
    Entry(
        "minimize", "levenberg_marquardt",
        "optlayers.solvers.minimize.levenberg_marquardt:LevenbergMarquardt", 50,
    ),
    Entry(
        "minimize", "gauss_newton",
        "optlayers.solvers.minimize.gauss_newton:GaussNewton", 60,
    ),
    Entry(
        "minimize", "gradient_descent",
        "optlayers.solvers.minimize.gradient_descent:GradientDescent", 70,
    ),
    Entry(
        "minimize", "interior_point",
        "optlayers.solvers.minimize.interior_point:InteriorPoint", 80,
    ),
    Entry("minimize", "sqp", "optlayers.solvers.minimize.sqp:Sqp", 90),
    Entry(
        "minimize", "augmented_lagrangian",
        "optlayers.solvers.minimize.augmented_lagrangian:AugmentedLagrangian", 95,
    ),
    # References to compare with, one sample at a time.
    Entry(
        "minimize", "ipopt", "optlayers.solvers.minimize.ipopt:Ipopt", 97,
        "optlayers[ipopt]",
    ),
    Entry("minimize", "slsqp", "optlayers.solvers.minimize.slsqp:Slsqp", 98),
    Entry(
        "minimize", "trust_constr",
        "optlayers.solvers.minimize.trust_constr:TrustConstr", 99,
    ),
)  # fmt: skip
