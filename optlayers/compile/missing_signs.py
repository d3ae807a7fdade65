"""Weights whose unknown sign is all that keeps a declaration from being convex.

Such a weight is found by trial: its sign is assumed, the signs above it are inferred
anew, and the whole declaration is asked again whether it is convex.
"""

import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from optlayers.compile.chains import with_balanced_sums
from optlayers.compile.explain import PRODUCTS, explain_not_convex
from optlayers.compile.lifting import Lifter
from optlayers.compile.parametric import Parametrics
from optlayers.errors import SignWarning
from optlayers.modeling.atoms import ATOMS
from optlayers.modeling.declaration import Declaration
from optlayers.modeling.expressions import Expression
from optlayers.modeling.inference import describe, quoted
from optlayers.modeling.signs import Sign

Attribute = Literal["nonneg", "nonpos", "psd"]

# All pairings of signs are tried for this many weights; beyond, only like ones.
FEW = 3

_WORDS = {
    "nonneg": ("nonnegative", "ol.nonneg"),
    "nonpos": ("nonpositive", "ol.nonpos"),
    "psd": ("positive semidefinite", "ol.psd_matrix"),
}
_SIGNS = {"nonneg": Sign.NONNEG, "nonpos": Sign.NONPOS}


@dataclass(frozen=True, eq=False)
class MissingSign:
    """One weight, and the sign that would make the declaration convex.

    Attributes:
        where: the operation that is not convex without it.
        weight: of parameters alone: a field, or an expression of fields.
        attribute: the sign that is missing.
    """

    where: Expression
    weight: Expression
    attribute: Attribute

    @property
    def sentence(self) -> str:
        """What is missing where, and the two ways to say it."""
        word, promise = _WORDS[self.attribute]
        weight = describe(self.weight)
        text = (
            f"{quoted(self.where)} needs `{weight}` to be {word}, which is not known."
        )
        if self.weight.name != "field":
            return f"{text} Write {promise}({weight})."
        field = self.weight.options["field"]
        opened = field.text.removesuffix(")")
        comma = "" if opened.endswith("(") else ", "
        declared = f"{field.name}={opened}{comma}{self.attribute}=True)"
        return f"{text} Declare {declared}, or write {promise}({weight})."


def warn_of_missing_signs(declaration: Declaration) -> bool:
    """Warn, at its own line, of a declaration that signs would make convex.

    Args:
        declaration: of known sizes, and not convex.

    Returns:
        Whether there was anything to warn of.
    """
    found = missing_signs(declaration)
    if not found:
        return False
    verb = "that sign" if len(found) == 1 else "those signs"
    text = (
        f"{declaration.name} is not convex as declared, and would be with {verb}:\n  "
        + "\n  ".join(one.sentence for one in found)
    )
    origin = found[0].where.origin
    warnings.warn_explicit(text, SignWarning, origin.path, origin.line)
    return True


def missing_signs(declaration: Declaration) -> tuple[MissingSign, ...]:
    """The fewest signs that would make it convex; none if no signs would.

    Args:
        declaration: of known sizes, and not convex.
    """
    declaration = with_balanced_sums(declaration)
    found = list(_candidates(declaration))
    for candidates in (_of_fields(found), found):
        for attributes in _pairings(candidates):
            chosen = [
                replace(one, attribute=attribute)
                for one, attribute in zip(candidates, attributes, strict=True)
            ]
            if _is_cured(declaration, chosen):
                return tuple(_needed(declaration, chosen))
    return ()


def _candidates(declaration: Declaration) -> Iterator[MissingSign]:
    """Weights of unknown sign on what is not affine, the first written first."""
    parametrics = Parametrics()
    lifter = Lifter(parametrics)
    seen: set[Expression] = set()
    weights: set[Expression] = set()

    def walk(e: Expression) -> Iterator[MissingSign]:
        if not e.depends_on_variables or e in seen:
            return
        seen.add(e)
        for one in e.arguments:
            yield from walk(one)
        found = _weight_of(e, parametrics, lifter)
        if found is not None and parametrics.canonical(found.weight) not in weights:
            weights.add(parametrics.canonical(found.weight))
            yield found

    for root in _roots(declaration):
        yield from walk(root)


def _weight_of(
    e: Expression, parametrics: Parametrics, lifter: Lifter
) -> MissingSign | None:
    if e.name == "quad_form":
        Q = e.arguments[1]
        if not parametrics.is_parametric(Q) or Q.depends_on_variables:
            return None
        if parametrics.semidefinite(e) is not None:
            return None
        return MissingSign(e, Q, "psd")
    if e.name not in PRODUCTS and e.name != "divide":
        return None
    weight, other = e.arguments
    if weight.depends_on_variables:
        weight, other = other, weight
    if weight.depends_on_variables or weight.sign is not Sign.UNKNOWN:
        return None
    if not parametrics.is_parametric(weight) or lifter.is_affine(other):
        return None
    return MissingSign(e, weight, "nonneg")


def _of_fields(candidates: Sequence[MissingSign]) -> list[MissingSign]:
    """Where a weight is made of one field of unknown sign, that field for it."""
    found: dict[Expression, MissingSign] = {}
    for one in candidates:
        fields = set(_unsigned_fields(one.weight))
        weight = fields.pop() if len(fields) == 1 else one.weight
        if one.attribute == "psd":
            weight = one.weight
        found.setdefault(weight, replace(one, weight=weight))
    return list(found.values())


def _unsigned_fields(e: Expression) -> Iterator[Expression]:
    if e.name == "field" and e.sign is Sign.UNKNOWN:
        yield e
    for one in e.arguments:
        yield from _unsigned_fields(one)


def _pairings(candidates: Sequence[MissingSign]) -> Iterator[tuple[Attribute, ...]]:
    """Signs to try: all nonneg, all nonpos, then mixtures while they are few."""
    if not candidates:
        return
    choices: list[tuple[Attribute, ...]] = [
        ("psd",) if one.attribute == "psd" else ("nonneg", "nonpos")
        for one in candidates
    ]
    alike: list[tuple[Attribute, ...]] = [
        tuple(one[end] for one in choices) for end in (0, -1)
    ]
    yield from dict.fromkeys(alike)
    if len(candidates) <= FEW:
        yield from (one for one in itertools.product(*choices) if one not in alike)


def _needed(declaration: Declaration, chosen: list[MissingSign]) -> list[MissingSign]:
    """What is left when every sign that is not needed is taken back."""
    for one in list(chosen):
        rest = [other for other in chosen if other is not one]
        if rest and _is_cured(declaration, rest):
            chosen = rest
    return chosen


def _is_cured(declaration: Declaration, chosen: Sequence[MissingSign]) -> bool:
    parametrics = Parametrics()
    attributes: dict[Expression, Attribute] = {
        parametrics.canonical(one.weight): one.attribute for one in chosen
    }
    assumed = _Assumed(parametrics, attributes)
    signed = replace(
        declaration,
        objective=assumed(declaration.objective),
        constraints=tuple(
            replace(one, left=assumed(one.left), right=assumed(one.right))
            for one in declaration.constraints
        ),
    )
    return not explain_not_convex(signed)


def _roots(declaration: Declaration) -> Iterator[Expression]:
    yield declaration.objective
    for one in declaration.constraints:
        yield one.left
        yield one.right


class _Assumed:
    """Rebuilds expressions with some signs assumed and the rest inferred anew."""

    def __init__(
        self, parametrics: Parametrics, attributes: Mapping[Expression, Attribute]
    ) -> None:
        self.parametrics = parametrics
        self.attributes = attributes
        self._rebuilt: dict[Expression, Expression] = {}

    def __call__(self, e: Expression) -> Expression:
        known = self._rebuilt.get(e)
        if known is None:
            known = self._rebuilt[e] = self._rebuild(e)
        return known

    def _rebuild(self, e: Expression) -> Expression:
        attribute = None
        if not e.depends_on_variables:
            attribute = self.attributes.get(self.parametrics.canonical(e))
        if attribute is not None:
            sign = _SIGNS.get(attribute, e.sign)
            options = {"attribute": attribute}
            return Expression("assert", (e,), options, e.shape, None, sign, e.origin)
        arguments = tuple(map(self, e.arguments))
        if all(a is b for a, b in zip(arguments, e.arguments, strict=True)):
            return e
        sign = e.sign
        if sign is Sign.UNKNOWN:
            sign = _sign(e, arguments)
        return Expression(
            e.name, arguments, e.options, e.shape, e.stages, sign, e.origin
        )


def _sign(e: Expression, arguments: tuple[Expression, ...]) -> Sign:
    signs = tuple(one.sign for one in arguments)
    if e.name in ATOMS:
        return ATOMS[e.name].sign(signs, e.options)
    if e.name in ("index", "next", "at", "stages", "total"):
        return signs[0]
    return Sign.UNKNOWN
