"""Systems of equations: declaration -> a function whose zero is the solution.

Nothing is transformed: the equations are evaluated in torch as they were written, for
whole batches of samples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from optlayers.compile.boxes import box_of
from optlayers.compile.promises import Promises
from optlayers.compile.samples import Inputs, SampleFunction, Unknowns
from optlayers.compile.staged_equations import written_out
from optlayers.interfaces import Kind
from optlayers.modeling.constraints import Constraint
from optlayers.modeling.declaration import Declaration
from optlayers.modeling.evaluate import Evaluator
from optlayers.modeling.expressions import Expression
from optlayers.modeling.fields import BoundField


@dataclass(frozen=True, eq=False)
class RootTemplate:
    """A system of equations of known sizes.

    Attributes:
        function: F(z) whose zero is wanted; the map G of z = G(z) if `is_fixed_point`.
        is_fixed_point: whether every equation has a variable alone on one side.
        unknowns: how z stands for the variables.
        start: where the search begins, float64 [n].
        lower, upper: declared bounds, float64 [n]; None if there is none.
        row_names: the equation that each entry of the residual belongs to.
        promises: what must hold of the parameters before a solve.
        parameter_shapes: shape of one sample of each parameter.
        why: one sentence on what it is.
    """

    function: SampleFunction
    is_fixed_point: bool
    unknowns: Unknowns
    start: Tensor
    lower: Tensor | None
    upper: Tensor | None
    row_names: tuple[str, ...]
    promises: Promises
    parameter_shapes: Mapping[str, tuple[int, ...]]
    why: str
    kind: ClassVar[Kind] = Kind.ROOT


def compile_root(declaration: Declaration) -> RootTemplate:
    """Compile a declaration that ends with `solve(...)`, of known sizes."""
    fields, equations, _ = written_out(declaration)
    names = [one.name for one in declaration.constraints if one.relation == "=="]
    unknowns = Unknowns.of(fields)
    maps = fixed_point_maps(equations, fields)
    if maps is None:
        outputs = [side for one in equations for side in (one.left, one.right)]
        sides = [(2 * k, 2 * k + 1, one.shape) for k, one in enumerate(equations)]
        owners = equations
    else:
        outputs = [maps[name][0] for name in unknowns.shapes]
        sides = [(k, None, one) for k, one in enumerate(unknowns.shapes.values())]
        owners = [maps[name][1] for name in unknowns.shapes]
    evaluator = Evaluator(outputs, variables=unknowns.shapes)
    inputs = Inputs.of(outputs, evaluator, fields, declaration.captured)
    box = box_of(fields)
    return RootTemplate(
        function=SampleFunction(evaluator, unknowns, inputs, sides),
        is_fixed_point=maps is not None,
        unknowns=unknowns,
        start=box.start,
        lower=box.lower,
        upper=box.upper,
        row_names=_repeated(owners, sides),
        promises=Promises.of(declaration, outputs),
        parameter_shapes={
            n: one.shape for n, one in fields.items() if not one.is_variable
        },
        why=_why(names, unknowns.size, maps is not None),
    )


def _repeated(
    owners: Sequence[Constraint],
    sides: Sequence[tuple[int, int | None, tuple[int, ...]]],
) -> tuple[str, ...]:
    """The name of each part's equation, once for every entry of the part."""
    return tuple(
        one.name
        for one, (*_, shape) in zip(owners, sides, strict=True)
        for _ in range(torch.Size(shape).numel())
    )


def fixed_point_maps(
    equations: Sequence[Constraint], fields: Mapping[str, BoundField]
) -> dict[str, tuple[Expression, Constraint]] | None:
    """The map of every variable, and the equation it stands in; None if one has none.

    An equation is a map if one side is a variable, whole, and of the shape of both;
    together they must cover every variable once.
    """
    candidates = [dict(_maps(one)) for one in equations]
    found: dict[str, tuple[Expression, Constraint]] = {}
    # Equations of two variables, x == y, take what the others leave.
    order = sorted(range(len(equations)), key=lambda k: len(candidates[k]))
    for k in order:
        free = [name for name in candidates[k] if name not in found]
        if not free:
            return None
        found[free[0]] = (candidates[k][free[0]], equations[k])
    unknowns = [one.name for one in _variables(fields)]
    return found if set(found) == set(unknowns) else None


def _maps(equation: Constraint) -> list[tuple[str, Expression]]:
    sides = (equation.left, equation.right)
    return [
        (one.options["field"].name, other)
        for one, other in (sides, sides[::-1])
        if one.name == "field" and one.depends_on_variables
        if one.shape == equation.shape
    ]


def _variables(fields: Mapping[str, BoundField]) -> list[BoundField]:
    return [one for one in fields.values() if one.is_variable]


def _why(equations: Sequence[str], size: int, is_fixed_point: bool) -> str:
    count = f"{size} equation{'s' if size > 1 else ''} in as many unknowns"
    names = ", ".join(equations)
    if is_fixed_point:
        return (
            f"solve(...) states {count}, and each has a variable alone on one side "
            f"({names}): a fixed point"
        )
    return f"solve(...) states {count} ({names}): a root is looked for"
