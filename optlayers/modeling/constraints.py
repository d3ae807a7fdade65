"""Constraints as data: a relation of two sides, at every stage of a window.

left == right, left <= right entry by entry, left << right (right - left is positive
semidefinite), or left in a cone.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from optlayers.errors import DeclarationError
from optlayers.modeling.cones import Cone, Stack
from optlayers.modeling.origin import Origin
from optlayers.modeling.remedies import truth_remedy

if TYPE_CHECKING:
    from optlayers.modeling.expressions import Expression


@dataclass(frozen=True, eq=False)
class Constraint:
    """One relation; its multiplier belongs to `left - right` (`a >= b` is `b <= a`).

    Of a cone the multiplier M lies in the dual cone and belongs to -left: L = f -
    <M, left>, so that it is again nonnegative where the cone is.

    Attributes:
        name: the keyword it was given by, or "constraint_0", "x.lower", ...
        relation: "==", "<=", "<<" or "in".
        left: the left side; what lies in the cone.
        right: the right side; zero if the relation is "in".
        origin: where it was written.
        shape: broadcast shape of the two sides, of one sample at one stage.
        stages: the stages at which it holds; None if it is not staged.
        cone: of "<<" and "in", what right - left, or left, lies in; else None.
    """

    name: str
    relation: Literal["==", "<=", "<<", "in"]
    left: "Expression"
    right: "Expression"
    origin: Origin
    shape: tuple[int, ...]
    stages: range | None
    cone: Cone | Stack | None = None

    @property
    def depends_on_variables(self) -> bool:
        """Whether the solver can do anything about it."""
        return self.left.depends_on_variables or self.right.depends_on_variables

    def named(self, name: str) -> "Constraint":
        """The same constraint under another name."""
        return replace(self, name=name)

    def __bool__(self) -> NoReturn:
        raise DeclarationError(truth_remedy(Origin.here(), "constraint"))

    def __le__(self, other: Any) -> NoReturn:
        raise DeclarationError(_not_related(self))

    __ge__ = __lt__ = __gt__ = __le__

    def __lshift__(self, other: Any) -> NoReturn:
        raise DeclarationError(_chained(self))

    __rshift__ = __rlshift__ = __rrshift__ = __lshift__

    def __repr__(self) -> str:
        return f"Constraint({self.name or 'unnamed'}: {self.origin.text})"


@dataclass(frozen=True, eq=False)
class Between:
    """Two bounds on one expression: `ol.between(lower, x, upper)`.

    Attributes:
        lower: lower <= x, named `name.lower`.
        upper: x <= upper, named `name.upper`.
    """

    lower: Constraint
    upper: Constraint

    def named(self, name: str) -> tuple[Constraint, Constraint]:
        """Both constraints, named after the whole."""
        return self.lower.named(f"{name}.lower"), self.upper.named(f"{name}.upper")

    def __iter__(self) -> Iterator[Constraint]:
        yield self.lower
        yield self.upper


def _chained(constraint: Constraint) -> str:
    return (
        f"{constraint.origin.place}: `{constraint.origin.text}` is a constraint "
        "already; for two bounds on a matrix write the two constraints one by one, "
        "X >> lower and X << upper."
    )


def _not_related(constraint: Constraint) -> str:
    return (
        f"{constraint.origin.place}: `{constraint.origin.text}` is a constraint "
        "already; for two bounds write ol.between(lower, x, upper)."
    )
