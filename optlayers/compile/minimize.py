"""Smooth problems: declaration -> functions whose KKT point is the solution.

Nothing is transformed: objective and constraints are evaluated in torch as they were
written, for whole batches of samples.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from optlayers.compile.boxes import Box, box_of
from optlayers.compile.epigraph import in_epigraph_form
from optlayers.compile.losses import Term, with_placeholder
from optlayers.compile.multipliers import (
    MultiplierReadout,
    Part,
    RowMultiplier,
    bound_multipliers,
)
from optlayers.compile.promises import Promises
from optlayers.compile.samples import Inputs, SampleFunction, Unknowns
from optlayers.compile.separable import separable_form
from optlayers.compile.smoothness import kink, roughness
from optlayers.compile.sparsity import residual_pattern
from optlayers.compile.squares import residuals_of
from optlayers.compile.staged_equations import written_out
from optlayers.errors import NotConvex
from optlayers.interfaces import Kind
from optlayers.linalg.pattern import Pattern
from optlayers.modeling.constraints import Constraint
from optlayers.modeling.declaration import Declaration
from optlayers.modeling.evaluate import Evaluator
from optlayers.modeling.expressions import Expression
from optlayers.modeling.fields import BoundField


@dataclass(frozen=True, eq=False)
class MinimizeTemplate:
    """A smooth problem of known sizes.

    minimize (or maximize) f(x) subject to h(x) = 0, g(x) <= 0, lower <= x <= upper.

    Attributes:
        objective: f, [B, n] -> [B, 1], as it was declared.
        equalities, inequalities: h and g, [B, n] -> [B, me] and [B, mi]; None if there
            are none.
        residuals: r with f = r'r, or the sum of phi(r), where one is minimized, else
            None.
        loss: phi, [B, k] -> [B, k], or None where it is that of squares.
        pattern: where dr/dx may have entries, if that is known to be little.
        separable: u, affine, and f as a function of u of which no entry meets another,
            where f is known to be that; else None.
        maximize: whether f is to be large.
        inputs: what all of these read beside x.
        unknowns: how x stands for the variables.
        box: where the search begins, and the bounds.
        duals: how the multiplier of each constraint is read.
        column_names: the variable of each unknown.
        equality_names, inequality_names, bound_names: the constraint of each entry of
            h, of each of g, and of each finite bound, lower ones first.
        promises: what must hold of the parameters before a solve.
        parameter_shapes: shape of one sample of each parameter.
        why: why the declaration is not solved as a convex one.
        auxiliary_names: the last variables, which stand for atoms with kinks and are
            not among the results.
        auxiliary_starts: where they begin, as a function of the others; None if there
            are none.
        auxiliary_count: how many entries they have.
    """

    objective: SampleFunction
    equalities: SampleFunction | None
    inequalities: SampleFunction | None
    residuals: SampleFunction | None
    loss: SampleFunction | None
    pattern: Pattern | None
    separable: tuple[SampleFunction, SampleFunction] | None
    maximize: bool
    inputs: Inputs
    unknowns: Unknowns
    box: Box
    duals: Mapping[str, MultiplierReadout]
    column_names: tuple[str, ...]
    equality_names: tuple[str, ...]
    inequality_names: tuple[str, ...]
    bound_names: tuple[str, ...]
    promises: Promises
    parameter_shapes: Mapping[str, tuple[int, ...]]
    why: str
    auxiliary_names: tuple[str, ...] = ()
    auxiliary_starts: SampleFunction | None = None
    auxiliary_count: int = 0
    kind: ClassVar[Kind] = Kind.MINIMIZE


def compile_minimize(declaration: Declaration, why: str) -> MinimizeTemplate:
    """Compile a declaration that is not convex, of known sizes.

    Args:
        declaration: that ends with `minimize(...)` or `maximize(...)`.
        why: the reason why it is not convex.

    Raises:
        NotConvex: it is not smooth either; the message gives both reasons.
    """
    stated = [one for one in declaration.constraints if not _is_bound(declaration, one)]
    equal = [one for one in stated if one.relation == "=="]
    unequal = [one for one in stated if one.relation == "<="]
    declared, written, objective = written_out(declaration, [*equal, *unequal])
    count = sum(_stage_count(one) for one in equal)
    maximize = declaration.sense == "maximize"
    smooth = in_epigraph_form(objective, written, maximize=maximize)
    objective, written = smooth.objective, (*smooth.constraints, *smooth.pieces)
    fields = {**declared, **smooth.fields}
    terms = None if maximize else residuals_of(objective)
    unknowns = Unknowns.of(fields)
    sides = [side for one in written for side in (one.left, one.right)]
    outputs = [objective, *sides]
    rough = roughness(declaration) or kink(outputs)
    if rough:
        raise NotConvex(f"{why}\n  As a smooth problem: {rough}")
    reader = Evaluator(outputs, variables=unknowns.shapes)
    inputs = Inputs.of(outputs, reader, fields, declaration.captured)
    writer = _Functions(unknowns, inputs)
    own = _Functions(Unknowns.of(declared), inputs)
    variables = [one for one in fields.values() if one.is_variable]
    shapes = {n: one.shape for n, one in fields.items() if not one.is_variable}
    box = box_of(fields)
    residuals = None if terms is None else writer.values([t.residual for t in terms])
    multipliers = {
        **dict(_row_multipliers("equalities", equal)),
        **dict(_row_multipliers("rows", unequal)),
        **dict(bound_multipliers(variables, box)),
    }
    return MinimizeTemplate(
        objective=writer.values([objective]),
        equalities=writer.differences(written[:count]),
        inequalities=writer.differences(written[count:]),
        residuals=residuals,
        loss=None if terms is None else writer.losses(terms),
        pattern=None if residuals is None else _pattern(residuals, box, fields),
        separable=writer.separable(objective),
        maximize=maximize,
        inputs=inputs,
        unknowns=unknowns,
        box=_with_start_inside(box),
        duals={one.name: multipliers[one.name] for one in declaration.constraints},
        column_names=tuple(_repeated(variables)),
        equality_names=tuple(_repeated(written[:count])),
        inequality_names=tuple(_repeated(written[count:])),
        bound_names=tuple(_bound_names(variables, box)),
        promises=Promises.of(declaration, outputs),
        parameter_shapes=shapes,
        why=why,
        auxiliary_names=tuple(smooth.fields),
        auxiliary_starts=own.values(smooth.starts) if smooth.starts else None,
        auxiliary_count=unknowns.size - Unknowns.of(declared).size,
    )


class _Functions:
    """Makes functions of expressions, which all read the same inputs."""

    def __init__(self, unknowns: Unknowns, inputs: Inputs) -> None:
        self._unknowns = unknowns
        self._inputs = inputs

    def values(self, expressions: Sequence[Expression]) -> SampleFunction:
        """These expressions, one after another."""
        sides = [(k, None, one.shape) for k, one in enumerate(expressions)]
        return self._made(expressions, sides)

    def losses(self, terms: Sequence[Term]) -> SampleFunction | None:
        """The losses of the residuals of these terms; None if all are squares."""
        if all(one.loss is None for one in terms):
            return None
        made = [with_placeholder(one, f"r{k}") for k, one in enumerate(terms)]
        shapes = {one.options["field"].name: one.shape for one, _ in made}
        outputs = [loss for _, loss in made]
        evaluator = Evaluator(outputs, variables=shapes)
        sides = [(k, None, one.shape) for k, one in enumerate(outputs)]
        return SampleFunction(evaluator, Unknowns(shapes), self._inputs, sides)

    def separable(
        self, objective: Expression
    ) -> tuple[SampleFunction, SampleFunction] | None:
        """Affine functions and the objective as a sum of functions of their entries."""
        form = separable_form(objective)
        if form is None:
            return None
        shapes = {one.options["field"].name: one.shape for one in form.placeholders}
        evaluator = Evaluator([form.value], variables=shapes)
        sides = [(0, None, form.value.shape)]
        value = SampleFunction(evaluator, Unknowns(shapes), self._inputs, sides)
        return self.values(form.arguments), value

    def differences(self, constraints: Sequence[Constraint]) -> SampleFunction | None:
        """left - right of these constraints, one after another; None if none."""
        if not constraints:
            return None
        outputs = [side for one in constraints for side in (one.left, one.right)]
        sides = [(2 * k, 2 * k + 1, one.shape) for k, one in enumerate(constraints)]
        return self._made(outputs, sides)

    def _made(
        self,
        outputs: Sequence[Expression],
        sides: Sequence[tuple[int, int | None, tuple[int, ...]]],
    ) -> SampleFunction:
        evaluator = Evaluator(outputs, variables=self._unknowns.shapes)
        return SampleFunction(evaluator, self._unknowns, self._inputs, sides)


def _pattern(
    residuals: SampleFunction, box: Box, fields: Mapping[str, BoundField]
) -> Pattern | None:
    """The pattern of the residuals' Jacobian; None where it is dense or unknown."""
    inputs = residuals.inputs
    if inputs.module_names or inputs.learned_ndims or inputs.reads_closures:
        return None
    # Whatever the parameters are, the same residuals depend on the same unknowns.
    ones = [
        torch.ones(fields[name].shape, dtype=torch.float64)
        for name in inputs.parameter_ndims
    ]
    return residual_pattern(residuals, _with_start_inside(box).start, ones)


def _is_bound(declaration: Declaration, one: Constraint) -> bool:
    """Whether it stands for an attribute that bounds a variable."""
    name, _, attribute = one.name.rpartition(".")
    field = declaration.fields.get(name)
    is_stated = field is None or one.origin is not field.origin
    return not is_stated and attribute in ("nonneg", "nonpos", "lower", "upper")


def _stage_count(one: Constraint) -> int:
    return 1 if one.stages is None else len(one.stages)


def _row_multipliers(
    part: Part, constraints: Sequence[Constraint]
) -> Iterator[tuple[str, RowMultiplier]]:
    first = 0
    for one in constraints:
        stages = () if one.stages is None else (len(one.stages),)
        shape = (*stages, *one.shape)
        yield one.name, RowMultiplier(part, first, shape)
        first += math.prod(shape)


def _with_start_inside(box: Box) -> Box:
    """The same, where the search begins within the bounds."""
    if box.lower is None and box.upper is None:
        return box
    return box._replace(start=box.start.clamp(box.lower, box.upper))


def _repeated(owners: Sequence[Constraint] | Sequence[BoundField]) -> Iterator[str]:
    """The name of each, once for every entry."""
    for one in owners:
        is_field = isinstance(one, BoundField)
        shape = one.coordinate_shape if is_field else one.shape
        yield from [one.name] * math.prod(shape)


def _bound_names(variables: Sequence[BoundField], box: Box) -> Iterator[str]:
    """The bound of each row that is one, as `MinimizeProgram` puts them in order."""
    columns = list(_repeated(variables))
    for word, limit in (("lower", box.lower), ("upper", box.upper)):
        if limit is not None:
            finite = torch.isfinite(limit).tolist()
            names = zip(columns, finite, strict=True)
            yield from (f"{name}.{word}" for name, one in names if one)
