"""The tree of reasons: what is known of every subexpression, and how it follows.

The declared expressions are walked beside their cvxpy twins, which know curvature; what
holds parameters alone is a leaf, for torch evaluates it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import cvxpy as cp
from cvxpy.atoms.atom import Atom

from optlayers.compile.chains import with_balanced_sums
from optlayers.compile.cvxpy_private import CVXPY_LOCK
from optlayers.compile.explain import PRODUCTS, FaultSearch
from optlayers.compile.lifting import LINEAR
from optlayers.errors import NotConvex
from optlayers.modeling.cones import Cone
from optlayers.modeling.constraints import Constraint
from optlayers.modeling.declaration import Declaration
from optlayers.modeling.expressions import Expression
from optlayers.modeling.inference import describe

Curvature = Literal["constant", "affine", "convex", "concave", "unknown"]

# Operations of which nothing need be said: they are linear, or only rearrange.
_PLAIN = LINEAR | frozenset(("field", "auxiliary", "constant", "learned"))


@dataclass(frozen=True, eq=False)
class Reason:
    """What is known of one subexpression.

    Attributes:
        text: how it was written.
        operation: its outermost operation, an atom's name or a structural one.
        shape: of one sample at one stage.
        stages: the stages it lives on, or None.
        curvature: in the variables; "constant" for parameters and numbers.
        sign: of every entry: "zero", "nonneg", "nonpos" or "unknown".
        rule: what its outermost operation is and how it goes with its arguments.
        fault: why convexity is lost here, and the remedy; "" if it is not.
        in_torch: whether it holds parameters alone, so that torch evaluates it.
        arguments: the same of its arguments; none of what torch evaluates.
    """

    text: str
    operation: str
    shape: tuple[int, ...]
    stages: range | None
    curvature: Curvature
    sign: str
    rule: str
    fault: str
    in_torch: bool
    arguments: tuple["Reason", ...]


@dataclass(frozen=True, eq=False)
class Part:
    """The objective or one constraint.

    Attributes:
        name: "objective", or the constraint's name.
        relation: "minimize", "maximize", "==", "<=", "<<" or "in".
        cone: of an "in" constraint the cone's name, "stack" for several; else "".
        sides: the objective; or the two sides of the constraint, or its left alone.
        fault: why it is not convex; "" if it is.
    """

    name: str
    relation: str
    cone: str
    sides: tuple[Reason, ...]
    fault: str


def reasons_of(declaration: Declaration) -> tuple[Part, ...]:
    """The objective's reasons, then every constraint's, convex or not."""
    with CVXPY_LOCK:
        return tuple(_Reasons(with_balanced_sums(declaration)).parts())


class _Reasons:
    def __init__(self, declaration: Declaration) -> None:
        self.declaration = declaration
        self.search = FaultSearch(declaration)
        self._known: dict[Expression, Reason] = {}

    def parts(self) -> Iterator[Part]:
        one = self.declaration
        faults = self.search.objective_faults()
        sides = (self.reason(one.objective),)
        yield Part("objective", one.sense, "", sides, next(faults, ""))
        yield from map(self._constraint, one.constraints)

    def _constraint(self, one: Constraint) -> Part:
        # Found anew for every constraint, though a fault may stand in several.
        self.search.forget()
        fault = next(self.search.constraint_faults(one), "")
        sides = (one.left,) if one.relation == "in" else (one.left, one.right)
        cone = _cone_name(one) if one.relation == "in" else ""
        return Part(one.name, one.relation, cone, tuple(map(self.reason, sides)), fault)

    def reason(self, e: Expression) -> Reason:
        known = self._known.get(e)
        if known is None:
            known = self._known[e] = self._reason(e)
        return known

    def _reason(self, e: Expression) -> Reason:
        arguments: tuple[Reason, ...] = ()
        curvature, rule, fault = "constant", "", ""
        if e.depends_on_variables:
            arguments = tuple(map(self.reason, _terms(e)))
            curvature, rule, fault = self._judged(e, arguments)
        return Reason(
            text=written(e),
            operation=e.name,
            shape=e.shape,
            stages=e.stages,
            curvature=curvature,
            sign=e.sign.value,
            rule=rule,
            fault=fault,
            in_torch=self.search.is_evaluated_in_torch(e),
            arguments=arguments,
        )

    def _judged(
        self, e: Expression, arguments: tuple[Reason, ...]
    ) -> tuple[Curvature, str, str]:
        """Curvature, rule and fault of what depends on variables."""
        if any(one.curvature == "unknown" for one in arguments):
            return "unknown", "", ""
        prepared = self.search.lifter.prepare(e)
        fault = self.search.fault_of(prepared)
        if fault:
            return "unknown", "", fault
        try:
            twin = self.search.lowering.lower(prepared)
        except NotConvex as reason:
            return "unknown", "", str(reason)
        return _curvature(twin), _rule(e, twin), ""


def written(e: Expression) -> str:
    """An expression as the user wrote it, in full where the source is known."""
    if e.name == "negate":
        (inner,) = e.arguments
        text = written(inner)
        return f"-({text})" if inner.name == "add" else f"-{text}"
    if e.name in ("field", "learned"):
        return describe(e)
    if e.name == "constant":
        # Its place is that of the operation it stands in, whose text is another.
        value = e.options["value"]
        is_uniform = value.numel() > 0 and bool((value == value.flatten()[0]).all())
        return f"{value.flatten()[0].item():g}" if is_uniform else "a constant"
    return e.origin.text or f"{e.name}({', '.join(map(written, e.arguments))})"


def _cone_name(one: Constraint) -> str:
    return "stack" if not isinstance(one.cone, Cone) else one.cone.name


def _terms(e: Expression) -> list[Expression]:
    """Its arguments; all the terms of a sum of sums."""
    if e.name != "add":
        return list(e.arguments)
    found: list[Expression] = []
    pending = [e]
    while pending:
        one = pending.pop()
        if one.name == "add" and one.depends_on_variables and one.shape == e.shape:
            pending.extend(reversed(one.arguments))
        else:
            found.append(one)
    return found


def _curvature(twin: cp.Expression) -> Curvature:
    if twin.is_affine():
        return "affine"
    if twin.is_convex():
        return "convex"
    return "concave" if twin.is_concave() else "unknown"


def _rule(e: Expression, twin: cp.Expression) -> str:
    if e.name in _PLAIN or twin.is_affine():
        return ""
    if e.name in PRODUCTS or e.name == "divide":
        return _weight_rule(e)
    # Of what is made of several atoms of cvxpy, only the whole is known.
    if not isinstance(twin, Atom) or len(twin.args) != len(e.arguments):
        return f"{e.name} is {_curvature(twin)}"
    if twin.is_atom_convex() == twin.is_atom_concave():
        return f"{e.name} is {_curvature(twin)}"
    shape = "convex" if twin.is_atom_convex() else "concave"
    directions = [_direction(twin, number) for number in range(len(twin.args))]
    words = [
        f"{way} in {argument}" if len(e.arguments) > 1 else way
        for way, argument in zip(directions, map(written, e.arguments), strict=True)
    ]
    return f"{e.name} is {shape}, {', '.join(words)}"


def _direction(twin: Atom, argument: int) -> str:
    if twin.is_incr(argument):
        return "nondecreasing"
    return "nonincreasing" if twin.is_decr(argument) else "not monotone"


def _weight_rule(e: Expression) -> str:
    for one in e.arguments:
        if not one.depends_on_variables and (one.sign.is_nonneg or one.sign.is_nonpos):
            turned = "" if one.sign.is_nonneg else ", which turns it round"
            return f"the weight {written(one)} is {one.sign.value}{turned}"
    return ""
