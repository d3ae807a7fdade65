"""What a declaration without cones promises of its parameters, and where to look."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from optlayers.compile.checks import assertions, leaf_checks
from optlayers.compile.leaves import Captured, LeafEvaluation, LeafTable
from optlayers.compile.parametric import Parametrics
from optlayers.compile.switches import signals_in
from optlayers.compile.template import LeafCheck, subjects
from optlayers.modeling.declaration import Declaration
from optlayers.modeling.expressions import Expression
from optlayers.modeling.foreign import fill
from optlayers.modeling.inference import describe
from optlayers.solvers.checks import Check


@dataclass(frozen=True, eq=False)
class Promises:
    """Attributes of parameters, and assertions such as `ol.nonneg(...)`.

    Attributes:
        leaf_checks: what must hold before a solve.
        asserted: evaluates what the user vouched for.
        asserted_shapes: its shapes, of one sample.
    """

    leaf_checks: tuple[LeafCheck, ...]
    asserted: LeafEvaluation
    asserted_shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(
        cls,
        declaration: Declaration,
        outputs: Sequence[Expression],
        timed: Collection[str] = (),
    ) -> "Promises":
        """The promises of all fields, and those made within the outputs.

        Args:
            declaration: of known sizes.
            outputs: all expressions that are evaluated.
            timed: fields that a call gives with an axis of time before their own.
        """
        vouched = dict.fromkeys(found for one in outputs for found in assertions(one))
        leaves = LeafTable(Parametrics())
        positions = [(one, leaves.position(one.arguments[0])) for one in vouched]
        ordered = [
            LeafCheck(check, leaves.position(knots))
            for check, knots in _knots(outputs, {*timed, *_variables(declaration)})
        ]
        fields = declaration.fields.items()
        shapes = {n: one.shape for n, one in fields if not one.is_variable}
        checks = (
            _timed(one) if one.subject in timed else one
            for one in leaf_checks(declaration, positions)
        )
        return cls(
            (*checks, *ordered),
            LeafEvaluation(leaves.leaves, shapes),
            tuple(leaf.shape for leaf in leaves.leaves),
        )

    @property
    def checks(self) -> tuple[Check, ...]:
        """What must hold of the tensors that `checked` returns, in that order."""
        return tuple(one.check for one in self.leaf_checks)

    def checked(
        self, parameters: Mapping[str, Tensor], captured: Captured
    ) -> list[Tensor]:
        """The tensors that `checks` speak of, each [*shape] or [B, *shape].

        Args:
            parameters: by name, each [*shape] (shared) or [B, *shape].
            captured: parameters and modules met in the declaration, by name.
        """
        values = self.asserted(parameters, captured) if self.asserted_shapes else []
        return subjects(self.leaf_checks, parameters, values, self.asserted_shapes)


def _variables(declaration: Declaration) -> Iterator[str]:
    return (name for name, one in declaration.fields.items() if one.is_variable)


def _knots(
    outputs: Sequence[Expression], moving: Collection[str]
) -> Iterator[tuple[Check, Expression]]:
    """The knots of signals that are known before a solve, which must increase."""
    seen: set[Expression] = set()
    for one in signals_in(outputs):
        _, knots, _ = fill(one.options["arguments"], one.arguments)
        is_known = knots.stages is None and not knots.field_names & set(moving)
        if is_known and knots not in seen:
            seen.add(knots)
            text = f"knots of ol.{one.options['function'].__name__} must not decrease"
            name = describe(knots) if knots.field_names else "the knots"
            yield Check(name, "increasing", text, 1), knots


def _timed(one: LeafCheck) -> LeafCheck:
    """The check of a field with one more axis."""
    check = one.check
    return replace(one, check=replace(check, sample_ndim=check.sample_ndim + 1))
