"""A traced problem: objective, constraints and fields of known sizes, all data."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from optlayers.modeling.cones import Cone
from optlayers.modeling.constraints import Constraint
from optlayers.modeling.dynamics import Dynamics
from optlayers.modeling.expressions import Expression, as_expression, on_pattern
from optlayers.modeling.fields import BoundField
from optlayers.modeling.goals import Sense
from optlayers.modeling.signs import Sign


@dataclass(frozen=True, eq=False)
class Declaration:
    """A traced problem of known sizes.

    Attributes:
        name: name of the declaring function.
        sense: "minimize" or "maximize"; "solve" where equations are solved,
            "integrate" where they are followed in time.
        objective: scalar, not staged; zero of "solve" and "integrate".
        constraints: the user's, then those of the variables' attributes (`x.nonneg`,
            `x.nonpos`, `x.lower`, `x.upper`, `X.psd`).
        fields: the bound fields, in order of the signature.
        sizes: size of every named dimension.
        steps: number of steps, or None if nothing is staged.
        captured: parameters and modules met in the body, by their registered name.
        dynamics: what "integrate" states, whose equations are the constraints too.
    """

    name: str
    sense: Sense
    objective: Expression
    constraints: tuple[Constraint, ...]
    fields: Mapping[str, BoundField]
    sizes: Mapping[str, int]
    steps: int | None
    captured: Mapping[str, nn.Parameter | nn.Module]
    dynamics: Dynamics | None = None

    @property
    def is_feasibility(self) -> bool:
        """Whether any feasible point will do, as in `ol.feasible(...)`."""
        is_zero = self.objective.name == "constant" and self.objective.sign is Sign.ZERO
        return is_zero and self.sense in ("minimize", "maximize")


def field_expression(bound: BoundField) -> Expression:
    """The expression of a field, as the body receives it."""
    sign = Sign.UNKNOWN
    if bound.nonneg or (isinstance(bound.lower, float) and bound.lower >= 0):
        sign = Sign.NONNEG
    elif bound.nonpos or (isinstance(bound.upper, float) and bound.upper <= 0):
        sign = Sign.NONPOS
    value = Expression(
        "field", (), {"field": bound}, bound.shape, bound.stages, sign, bound.origin
    )
    return value if bound.pattern is None else on_pattern(value, bound.pattern)


def attribute_constraints(field: BoundField, value: Expression) -> Iterator[Constraint]:
    """The constraints that a variable's attributes stand for, at every knot.

    Args:
        field: the variable.
        value: its expression.
    """
    if not field.is_variable:
        return
    bounds: list[tuple[str, Any, bool]] = [
        ("nonneg", 0.0 if field.nonneg else None, True),
        ("nonpos", 0.0 if field.nonpos else None, False),
        ("lower", field.lower, True),
        ("upper", field.upper, False),
    ]
    for attribute, bound, is_below in bounds:
        if bound is None:
            continue
        limit = as_expression(torch.as_tensor(bound, dtype=torch.float64))
        left, right = (limit, value) if is_below else (value, limit)
        yield Constraint(
            f"{field.name}.{attribute}",
            "<=",
            left,
            right,
            field.origin,
            field.shape,
            field.stages,
        )
    if field.psd:
        yield Constraint(
            f"{field.name}.psd",
            "<<",
            as_expression(0.0),
            value,
            field.origin,
            field.shape,
            field.stages,
            Cone("psd", field.shape[-1]),
        )
