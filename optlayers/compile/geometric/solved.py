"""Expressions in log space as functions of a solution that is known.

Every variable becomes a parameter of its own name, and every stage an entry of it.
"""

from dataclasses import replace

from optlayers.compile.columns import full_shape, window
from optlayers.compile.geometric.nodes import node
from optlayers.modeling.declaration import Declaration
from optlayers.modeling.expressions import Expression
from optlayers.modeling.fields import BoundField, Role


class AtSolution:
    """Rewrites the expressions of one declaration.

    Attributes:
        shapes: shape of one sample of every field, the stage axis first.
    """

    def __init__(self, declaration: Declaration) -> None:
        self.shapes = {n: full_shape(f) for n, f in declaration.fields.items()}
        self._fields = {n: _known(f) for n, f in declaration.fields.items()}
        self._rewritten: dict[tuple[Expression, int | None], Expression] = {}

    def on_stages(self, e: Expression, stages: range | None) -> Expression:
        """The expression, over all of `stages` if it is staged."""
        if stages is None or e.stages is None:
            return self.at(e, None)
        rows = [self.at(e, stage) for stage in stages]
        return node("stack", *rows, origin=e.origin, axis=0)

    def at(self, e: Expression, stage: int | None) -> Expression:
        """The expression at one stage, or as it is if it has none."""
        if not e.depends_on_variables:
            return e
        key = (e, stage if e.is_staged else None)
        found = self._rewritten.get(key)
        if found is None:
            found = self._rewritten[key] = self._at(e, stage)
        return found

    def _at(self, e: Expression, stage: int | None) -> Expression:
        if e.name == "field":
            return self._field(e, stage)
        (first, *_) = e.arguments
        if e.name == "next":
            assert stage is not None
            return self.at(first, stage + e.options["shift"])
        if e.name == "at":
            return self.at(first, e.options["stage"])
        if e.name == "stages":
            index, stages = e.options["index"], window(first)
            chosen = (
                [stages[k] for k in index]
                if isinstance(index, tuple)
                else stages[index]
            )
            rows = [self.at(first, one) for one in chosen]
            return node("stack", *rows, origin=e.origin, axis=0)
        arguments = tuple(self.at(one, stage) for one in e.arguments)
        return Expression(e.name, arguments, e.options, e.shape, None, e.sign, e.origin)

    def _field(self, e: Expression, stage: int | None) -> Expression:
        bound = self._fields[e.options["field"].name]
        whole = Expression(
            "field", (), {"field": bound}, bound.shape, None, e.sign, e.origin
        )
        if stage is None or not e.is_staged:
            return whole
        return Expression(
            "index", (whole,), {"index": (stage,)}, e.shape, None, e.sign, e.origin
        )


def _known(field: BoundField) -> BoundField:
    return replace(field, role=Role.PARAMETER, shape=full_shape(field), knots=None)
