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
)  # fmt: skip
