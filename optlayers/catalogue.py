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
    install: str


BUILT_IN = (
    Entry("convex", "daqp", "optlayers.solvers.convex.daqp:Daqp", 10, "daqp"),
    Entry(
        "convex", "clarabel", "optlayers.solvers.convex.clarabel:Clarabel", 20,
        "clarabel",
    ),
)  # fmt: skip
