"""Unknowns and constraints that the change of variables adds to a declaration."""

from dataclasses import dataclass, field

from optlayers.compile.geometric.curvature import NotGeometric
from optlayers.modeling.constraints import Constraint
from optlayers.modeling.expressions import Expression
from optlayers.modeling.fields import BoundField, Role
from optlayers.modeling.inference import describe
from optlayers.modeling.signs import Sign


@dataclass(frozen=True, eq=False)
class Auxiliaries:
    """What some atoms need beside the declared unknowns, in log space.

    Attributes:
        fields: the unknowns, by name.
        constraints: what holds of them.
    """

    fields: dict[str, BoundField] = field(default_factory=dict)
    constraints: list[Constraint] = field(default_factory=list)

    def unknown(self, shape: tuple[int, ...], of: Expression) -> Expression:
        """A new unknown, at the stages of the expression it is made for.

        Raises:
            NotGeometric: these do not begin at the first.
        """
        knots = None
        if of.stages is not None:
            if of.stages.start:
                raise NotGeometric("stands at stages that do not begin at the first.")
            knots = len(of.stages)
        name = f"auxiliary.{len(self.fields)}"
        bound = BoundField(
            name, Role.VARIABLE, shape, knots, text=describe(of), origin=of.origin
        )
        self.fields[name] = bound
        return Expression(
            "field", (), {"field": bound}, shape, bound.stages, Sign.UNKNOWN, of.origin
        )

    def require(self, left: Expression, right: Expression, of: Expression) -> None:
        """Add left <= right, two sides of one shape."""
        self.constraints.append(
            Constraint(
                f"auxiliary.{len(self.constraints)}",
                "<=",
                left,
                right,
                of.origin,
                left.shape,
                of.stages,
            )
        )
