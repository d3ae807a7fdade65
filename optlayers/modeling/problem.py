"""`@ol.problem`: a function whose signature declares fields, traced once per sizes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import nn

from optlayers.modeling.constraints import Constraint
from optlayers.modeling.expressions import Expression
from optlayers.modeling.fields import BoundField


@dataclass(frozen=True, eq=False)
class Declaration:
    """A traced problem of known sizes.

    Attributes:
        name: name of the declaring function.
        sense: "minimize" or "maximize".
        objective: scalar, not staged.
        constraints: the user's, then those of the fields' attributes (`x.nonneg`,
            `x.nonpos`, `x.lower`, `x.upper`).
        fields: the bound fields, in order of the signature.
        sizes: size of every named dimension.
        steps: number of steps, or None if nothing is staged.
        captured: parameters and modules met in the body, by their registered name.
    """

    name: str
    sense: Literal["minimize", "maximize"]
    objective: Expression
    constraints: tuple[Constraint, ...]
    fields: Mapping[str, BoundField]
    sizes: Mapping[str, int]
    steps: int | None
    captured: Mapping[str, nn.Parameter | nn.Module]
