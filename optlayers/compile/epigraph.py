"""Kinks that are smooth in epigraph form: a variable above the pieces of an atom.

Where max(a, b) enters so that less of it is better, it is t with a <= t, b <= t; where
min(a, b) enters so that more is better, t with t <= a, t <= b. Source: S. Boyd,
L. Vandenberghe, Convex Optimization (2004), section 4.1.3.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from optlayers.compile.directions import Kinked, Want, wants
from optlayers.compile.smoothness import KINKS
from optlayers.modeling.atoms.shapes import reduced_axes
from optlayers.modeling.constraints import Constraint
from optlayers.modeling.expressions import Expression, apply, as_expression
from optlayers.modeling.fields import BoundField, Role
from optlayers.modeling.inference import describe
from optlayers.modeling.signs import Sign

# How far from the value of its atom a variable begins, so that no constraint is active.
MARGIN = 0.1


class Smoothed(NamedTuple):
    """A problem in which kinks have given way to variables, as far as they can.

    Attributes:
        objective: that of the problem.
        constraints: of the problem, as many and in the same order.
        fields: the variables that stand for atoms, by name.
        pieces: what holds them above (or below) these; inequalities.
        starts: where they begin, expressions of the problem's own variables.
    """

    objective: Expression
    constraints: tuple[Constraint, ...]
    fields: Mapping[str, BoundField]
    pieces: tuple[Constraint, ...]
    starts: tuple[Expression, ...]


def in_epigraph_form(
    objective: Expression, constraints: Sequence[Constraint], *, maximize: bool
) -> Smoothed:
    """Put a variable for every kinked atom that enters in the right direction.

    Args:
        objective: of no stages.
        constraints: of no stages, relation "==" or "<=".
        maximize: whether the objective is to be large.
    """
    sides = [side for one in constraints for side in (one.left, one.right)]
    kinked = Kinked([objective, *sides], KINKS)
    writer = _Writer(kinked)
    if not kinked:
        return Smoothed(objective, tuple(constraints), {}, (), ())
    objective = writer.written(objective, Want.LESS if not maximize else Want.MORE)
    found = []
    for one in constraints:
        less, more = Want.LESS, Want.MORE
        if one.relation == "==":
            less = more = Want.NEITHER
        left, right = writer.written(one.left, less), writer.written(one.right, more)
        found.append(replace(one, left=left, right=right))
    return Smoothed(
        objective, tuple(found), writer.fields, tuple(writer.pieces),
        tuple(writer.starts),
    )  # fmt: skip


class _Writer:
    """Builds expressions in which atoms have given way, each once."""

    def __init__(self, kinked: Kinked) -> None:
        self.fields: dict[str, BoundField] = {}
        self.pieces: list[Constraint] = []
        self.starts: list[Expression] = []
        self._kinked = kinked
        self._built: dict[tuple[Expression, Want], Expression] = {}

    def written(self, wanted: Expression, want: Want) -> Expression:
        """An expression of which less, or more, is wanted."""
        # A stack of our own: a loop in the body nests deeper than Python recurses.
        pending = [(wanted, want)]
        while pending:
            place = pending[-1]
            one, way = place
            if place in self._built or one not in self._kinked:
                self._built.setdefault(place, one)
                pending.pop()
                continue
            ways = wants(one, way, self._kinked)
            needed = list(zip(one.arguments, ways, strict=True))
            missing = [each for each in needed if each not in self._built]
            pending.extend(reversed(missing))
            if not missing:
                pending.pop()
                arguments = tuple(self._built[each] for each in needed)
                self._built[place] = self._build(one, way, arguments)
        return self._built[wanted, want]

    def _build(
        self, one: Expression, want: Want, arguments: tuple[Expression, ...]
    ) -> Expression:
        form = _form(one, want)
        if form == "norm1":
            # A variable for the magnitude of each entry.
            inner = _placed(apply("abs", one.arguments), one)
            t = self._variable(inner, Want.LESS)
            self._hold(inner, _PIECES["abs"](arguments), t)
            return _placed(apply("sum", (t,), **_axes(one)), one)
        if form == "":
            return replace(one, arguments=arguments)
        t = self._variable(one, want)
        if form == "norm2":
            square = apply("sum_squares", arguments, **_axes(one))
            self._hold(one, [square], apply("power", (t,), p=2))
            self._hold(one, [as_expression(0.0)], t)
        elif want is Want.LESS:
            self._hold(one, _PIECES[form](arguments), _spread(t, one))
        else:
            negative = apply("negate", (_spread(t, one),))
            pieces = [apply("negate", (piece,)) for piece in _PIECES[form](arguments)]
            self._hold(one, pieces, negative)
        return t

    def _variable(self, atom: Expression, want: Want) -> Expression:
        """A variable in the place of an atom."""
        name = describe(atom)
        while name in self.fields:
            name = f"{describe(atom)} ({len(self.fields)})"
        field = BoundField(name, Role.VARIABLE, atom.shape, origin=atom.origin)
        self.fields[name] = field
        self.starts.append(apply("add", (atom, MARGIN * want)))
        # It lies above what is nonnegative, or below what is nonpositive, or anywhere.
        is_known = atom.sign.is_nonneg if want is Want.LESS else atom.sign.is_nonpos
        sign = atom.sign if is_known else Sign.UNKNOWN
        options = {"field": field}
        return Expression("field", (), options, atom.shape, None, sign, atom.origin)

    def _hold(
        self, atom: Expression, pieces: Sequence[Expression], above: Expression
    ) -> None:
        """Let `above` lie above all pieces."""
        for piece in pieces:
            shape = apply("add", (piece, above)).shape
            origin = atom.origin
            self.pieces.append(
                Constraint(describe(atom), "<=", piece, above, origin, shape, None)
            )


def _form(one: Expression, want: Want) -> str:
    """The name of the atom whose pieces these are; empty where there are none."""
    if want is Want.MORE:
        return one.name if one.name in ("min", "minimum") else ""
    if want is Want.NEITHER or not one.depends_on_variables:
        return ""
    if one.name in ("norm", "pnorm"):
        word = str(one.options.get("p", 2)).lower()
        is_vector = one.arguments[0].ndim < 2 or one.options.get("axis") is not None
        is_plain = is_vector or one.name == "pnorm"
        if word == "fro" or (is_plain and word in ("2", "2.0", "none")):
            return "norm2"
        forms = {"1": "norm1", "1.0": "norm1", "inf": "norm_inf"}
        return forms.get(word, "") if is_plain else ""
    return one.name if one.name in (*_CONVEX, "norm1") else ""


def _axes(one: Expression) -> dict[str, object]:
    """Which axes a reduction takes together."""
    keepdims = bool(one.options.get("keepdims", False))
    return {"axis": one.options.get("axis"), "keepdims": keepdims}


def _spread(t: Expression, one: Expression) -> Expression:
    """What stands for a reduction, against the entries that it takes together."""
    if one.name not in _REDUCTIONS or one.options.get("axis") is None:
        return t
    (argument,) = one.arguments
    axes = reduced_axes(argument.ndim, one.options["axis"])
    shape = [1 if k in axes else size for k, size in enumerate(argument.shape)]
    return apply("reshape", (t,), shape=tuple(shape))


def _placed(built: Expression, like: Expression) -> Expression:
    return replace(built, origin=like.origin)


def _signs(arguments: tuple[Expression, ...]) -> list[Expression]:
    (a,) = arguments
    return [a, apply("negate", (a,))]


_REDUCTIONS = ("max", "min", "norm_inf", "norm", "pnorm")
_CONVEX = ("abs", "pos", "neg", "max", "maximum", "norm_inf")
# What lies below (above, of the last two) the variable in the place of an atom.
_PIECES: Mapping[str, Callable[[tuple[Expression, ...]], Sequence[Expression]]] = {
    "abs": _signs,
    "norm_inf": _signs,
    "pos": lambda arguments: [*arguments, as_expression(0.0)],
    "neg": lambda arguments: [apply("negate", arguments), as_expression(0.0)],
    "max": lambda arguments: arguments,
    "maximum": lambda arguments: arguments,
    "min": lambda arguments: arguments,
    "minimum": lambda arguments: arguments,
}
