"""Equations that hold at every stage, written out: one equation a stage.

A State or Control [*shape] of T stages becomes a variable [T, *shape], and what is
built of it at stage k is built again of entry k.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from typing import NamedTuple

import numpy as np

from optlayers.modeling.constraints import Constraint
from optlayers.modeling.declaration import Declaration
from optlayers.modeling.expressions import Expression
from optlayers.modeling.fields import BoundField, Role

# An expression, and the stage it is wanted at; None of what is not staged.
Place = tuple[Expression, int | None]


class WrittenOut(NamedTuple):
    """Constraints without stages, and the fields they are about.

    Attributes:
        fields: by name; those that had stages have them as their first axis.
        equations: of relation "==" (or others that were asked for), one for each stage
            of each, those of one constraint after another.
        objective: what is optimized; zero of equations.
    """

    fields: Mapping[str, BoundField]
    equations: tuple[Constraint, ...]
    objective: Expression


def written_out(
    declaration: Declaration, constraints: Sequence[Constraint] | None = None
) -> WrittenOut:
    """Constraints of a declaration at all their stages.

    Args:
        declaration: of known sizes.
        constraints: which of its constraints; its equations if None.
    """
    if constraints is None:
        constraints = [one for one in declaration.constraints if one.relation == "=="]
    objective = declaration.objective
    if declaration.steps is None:
        return WrittenOut(declaration.fields, tuple(constraints), objective)
    fields = {name: _flat(one) for name, one in declaration.fields.items()}
    writer = _Writer(fields)
    found = [
        writer.equation(one, stage)
        for one in constraints
        for stage in ([None] if one.stages is None else one.stages)
    ]
    return WrittenOut(fields, tuple(found), writer.expression(objective))


def _flat(field: BoundField) -> BoundField:
    if field.knots is None:
        return field
    shape = (field.knots, *field.shape)
    return replace(field, role=Role.VARIABLE, shape=shape, knots=None)


class _Writer:
    """Builds expressions at single stages, each once."""

    def __init__(self, fields: Mapping[str, BoundField]) -> None:
        self._fields = fields
        self._wholes: dict[str, Expression] = {}
        self._built: dict[Place, Expression] = {}

    def equation(self, equation: Constraint, stage: int | None) -> Constraint:
        """An equation at one of its stages, or one that has none."""
        name = equation.name if stage is None else f"{equation.name} at stage {stage}"
        left = self._expression(_place(equation.left, stage))
        right = self._expression(_place(equation.right, stage))
        return replace(equation, name=name, left=left, right=right, stages=None)

    def expression(self, unstaged: Expression) -> Expression:
        """An expression that has no stages itself, of the variables of all stages."""
        return self._expression(_place(unstaged, None))

    def _expression(self, wanted: Place) -> Expression:
        # A stack of our own: a loop in the body nests deeper than Python recurses.
        pending = [wanted]
        while pending:
            place = pending[-1]
            needed = list(_needed(*place))
            missing = [one for one in needed if one not in self._built]
            pending.extend(missing)
            if not missing:
                pending.pop()
                if place not in self._built:
                    arguments = [self._built[one] for one in needed]
                    self._built[place] = self._build(*place, arguments)
        return self._built[wanted]

    def _build(
        self, one: Expression, stage: int | None, arguments: Sequence[Expression]
    ) -> Expression:
        if one.name in _PASSED_ON:
            return arguments[0]
        if one.name == "total":
            return reduce(add, arguments)
        if one.name == "stages":
            return self._entries(one, arguments[0])
        if one.name == "field":
            whole = self._whole(one)
            return whole if stage is None else _indexed(whole, one, stage)
        return replace(one, arguments=tuple(arguments), stages=None)

    def _whole(self, one: Expression) -> Expression:
        """The variable of all stages that a trajectory has become."""
        field = self._fields[one.options["field"].name]
        return self._wholes.setdefault(
            field.name,
            replace(one, options={"field": field}, shape=field.shape, stages=None),
        )

    def _entries(self, one: Expression, whole: Expression) -> Expression:
        """Several stages, along an axis."""
        index = one.options["index"]
        return _indexed(
            whole, one, np.array(index) if isinstance(index, tuple) else index
        )


def _place(one: Expression, stage: int | None) -> Place:
    return one, stage if one.is_staged else None


def _indexed(whole: Expression, like: Expression, entry: object) -> Expression:
    return replace(
        like, name="index", arguments=(whole,), options={"index": (entry,)}, stages=None
    )


def _needed(one: Expression, stage: int | None) -> Iterator[Place]:
    """What an expression at a stage is built of."""
    special = _NEEDED.get(one.name)
    if special is not None:
        yield from special(one, stage)
        return
    for argument in one.arguments:
        yield _place(argument, stage)


def _next(one: Expression, stage: int | None) -> Iterator[Place]:
    assert stage is not None
    yield _place(one.arguments[0], stage + one.options["shift"])


def _at(one: Expression, _: int | None) -> Iterator[Place]:
    yield _place(one.arguments[0], one.options["stage"])


def _total(one: Expression, _: int | None) -> Iterator[Place]:
    (argument,) = one.arguments
    for stage in argument.stages or ():
        yield _place(argument, stage)


def _stages(one: Expression, _: int | None) -> Iterator[Place]:
    # Only a trajectory itself can be sliced: its whole.
    yield one.arguments[0], None


_NEEDED: Mapping[str, Callable[[Expression, int | None], Iterator[Place]]] = {
    "next": _next,
    "at": _at,
    "total": _total,
    "stages": _stages,
}
_PASSED_ON = frozenset(("next", "at"))
