"""Constraints as data: left == right or left <= right, at every stage of a window."""

from dataclasses import dataclass
from typing import Literal

from optlayers.modeling.expressions import Expression
from optlayers.modeling.origin import Origin


@dataclass(frozen=True, eq=False)
class Constraint:
    """One relation; its multiplier belongs to `left - right` (`a >= b` is `b <= a`).

    Attributes:
        name: the keyword it was given by, or "constraint_0", "x.lower", ...
        relation: "==" or "<=".
        left, right: the two sides.
        origin: where it was written.
        shape: broadcast shape of the two sides, of one sample at one stage.
        stages: the stages at which it holds; None if it is not staged.
    """

    name: str
    relation: Literal["==", "<="]
    left: Expression
    right: Expression
    origin: Origin
    shape: tuple[int, ...]
    stages: range | None
