"""Why a declaration is not convex: the first subexpression that is to blame.

The declared tree is walked beside its cvxpy twin; the first node whose arguments are
convex or concave and which is neither itself is the culprit.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

import cvxpy as cp
import numpy as np

from optlayers.compile.cvxpy_private import CVXPY_LOCK, is_convex_operation
from optlayers.compile.leaves import LeafTable
from optlayers.compile.lifting import Lifter
from optlayers.compile.lowering import Lowering
from optlayers.compile.parametric import Parametrics
from optlayers.errors import NotConvex
from optlayers.modeling.cones import cone_names
from optlayers.modeling.constraints import Constraint
from optlayers.modeling.declaration import Declaration
from optlayers.modeling.expressions import Expression
from optlayers.modeling.fields import BoundField
from optlayers.modeling.inference import describe, quoted
from optlayers.modeling.wording import counted
from optlayers.programs.cones import Cones

PRODUCTS = frozenset(("multiply", "matmul", "vdot", "outer", "kron"))


def explain_not_convex(declaration: Declaration) -> str:
    """One or two sentences on the first thing that is not convex; empty if all is."""
    with CVXPY_LOCK:
        return next(FaultSearch(declaration).faults(), "")


# What one row of a linear cone, or one other cone, is called.
CONES: Mapping[str, str] = {
    "zero": "equation",
    "nonneg": "inequality",
    "soc": "second-order cone",
    "psd": "semidefinite cone",
    "exp": "exponential cone",
    "power": "power cone",
}


def sentence_on_convexity(
    declaration: Declaration, cones: Cones, n: int, has_quadratic: bool
) -> str:
    """Why a declaration was found convex, and as what it is solved."""
    kind = _kind(cones, has_quadratic)
    article = "an" if kind.startswith("exponential") else "a"
    word = "concave" if declaration.sense == "maximize" else "convex"
    numbers = Counter(cone for cone, _ in cones.each())
    rows = [counted(numbers[one], word) for one, word in CONES.items() if numbers[one]]
    objective = f"the objective is {word}"
    if declaration.is_feasibility:
        objective = "there is no objective"
    return (
        f"{objective} and every constraint is convex, by the rules of "
        f"disciplined convex programming: {article} {kind} program of "
        f"{counted(n, 'variable')} and {', '.join(rows) or 'no constraint'}"
    )


def _kind(cones: Cones, has_quadratic: bool) -> str:
    """What such programs are called: by their hardest cones, if they have any."""
    words = {
        "semidefinite": cones.psd,
        "exponential cone": cones.exp,
        "power cone": cones.power,
    }
    hard = [word for word, some in words.items() if some]
    if hard:
        return ("quadratic " if has_quadratic else "") + " and ".join(hard)
    kind = "quadratic" if has_quadratic else "linear"
    return f"{kind} second-order cone" if cones.soc else kind


def describe_pose(field: BoundField) -> str:
    """Why a declaration with an unknown pose is not convex."""
    return (
        f"{field.origin.place}: {field.name} = {field.text} is a pose, and rotations "
        "are no convex set. Where convexity is a must, relax them to a matrix Variable."
    )


class FaultSearch:
    """Walks objective and constraints in the order they were declared."""

    def __init__(self, declaration: Declaration) -> None:
        self.declaration = declaration
        self.parametrics = Parametrics()
        self.lifter = Lifter(self.parametrics)
        self.lowering = Lowering(LeafTable(self.parametrics), self.parametrics)
        self._seen: set[Expression] = set()

    def faults(self) -> Iterator[str]:
        """What is not convex, the first first."""
        yield from self.objective_faults()
        for one in self.declaration.constraints:
            yield from self.constraint_faults(one)

    def objective_faults(self) -> Iterator[str]:
        """What is not convex in the objective, or how it is optimized."""
        declared = self.declaration.objective
        e = self.lifter.prepare(declared)
        yield from self._within(e)
        lowered = self._lowered(e)
        if lowered is None:
            return
        is_maximized = self.declaration.sense == "maximize"
        if is_maximized and not lowered.is_concave():
            yield (
                f"{quoted(declared)} is maximized, but it is {curvature(lowered)}; "
                "only a concave objective can be maximized. Minimize it, or negate it."
            )
        if not is_maximized and not lowered.is_convex():
            yield (
                f"{quoted(declared)} is minimized, but it is {curvature(lowered)}; "
                "only a convex objective can be minimized. Maximize it, or negate it."
            )

    def constraint_faults(self, one: Constraint) -> Iterator[str]:
        """What is not convex in the sides of a constraint, or how they relate."""
        sides = [self.lifter.prepare(side) for side in (one.left, one.right)]
        for side in sides:
            yield from self._within(side)
        left, right = map(self._lowered, sides)
        if left is None or right is None:
            return
        name = f"constraint {one.name}"
        if one.cone is not None:
            for side, twin in ((one.left, left), (one.right, right)):
                is_nonneg = cone_names(one.cone) == {"nonneg"}
                if not twin.is_affine() and not (is_nonneg and twin.is_concave()):
                    yield _not_in_a_cone(one, side, twin)
            return
        if one.relation == "==":
            for side, twin in ((one.left, left), (one.right, right)):
                if not twin.is_affine():
                    yield (
                        f"{quoted(side)} in {name} is {curvature(twin)}, and only "
                        "affine expressions can be equal in a convex problem. "
                        f"{_relaxation(twin)}"
                    )
            return
        if not left.is_convex():
            yield _wrong_side(one.left, left, name, "upper", "convex")
        if not right.is_concave():
            yield _wrong_side(one.right, right, name, "lower", "concave")

    def _within(self, e: Expression) -> Iterator[str]:
        """Faults of subexpressions, the innermost first."""
        if not e.depends_on_variables or e in self._seen:
            return
        self._seen.add(e)
        for one in e.arguments:
            yield from self._within(one)
        fault = self.fault_of(e)
        if fault:
            yield fault

    def fault_of(self, e: Expression) -> str:
        """What is wrong with a prepared operation; "" if nothing is."""
        if e.name == "field" and e.options["field"].group is not None:
            return describe_pose(e.options["field"])
        if e.name == "quad_form" and self.parametrics.is_parametric(e):
            # With a matrix known to be semidefinite it were a sum of squares by now.
            return _describe_quad_form(e, self.parametrics)
        try:
            lowered = self.lowering.lower(e)
        except NotConvex as reason:
            return str(reason)
        if lowered.is_dcp():
            return ""
        if e.name == "quad_form" and self.lowering.lower(e.arguments[0]).is_affine():
            return _describe_quad_form(e, self.parametrics)
        return _describe(e, lowered, self._twins(e))

    def is_evaluated_in_torch(self, e: Expression) -> bool:
        """Whether it is made of parameters and numbers, with a parameter at least."""
        return not e.depends_on_variables and self.parametrics.is_parametric(e)

    def forget(self) -> None:
        """Name faults again that were named before."""
        self._seen.clear()

    def _twins(self, e: Expression) -> list[cp.Expression]:
        return [self.lowering.lower(one) for one in e.arguments]

    def _lowered(self, e: Expression) -> cp.Expression | None:
        try:
            return self.lowering.lower(e)
        except NotConvex:
            return None


def curvature(lowered: cp.Expression) -> str:
    """What is known of it: affine, convex, concave or neither."""
    if lowered.is_affine():
        return "affine"
    if lowered.is_convex():
        return "convex"
    return "concave" if lowered.is_concave() else "neither convex nor concave"


def _describe(e: Expression, lowered: cp.Expression, twins: list[cp.Expression]) -> str:
    """What is wrong with one operation whose arguments are in order."""
    if e.name in PRODUCTS or e.name == "divide":
        return _describe_product(e, twins)
    if e.name == "add":
        return (
            f"{quoted(e)} adds a convex and a concave term, and the sum is neither "
            "convex nor concave."
        )
    if e.name == "sqrt" and e.arguments[0].name in ("sum_squares", "sum"):
        inner = describe(e.arguments[0].arguments[0])
        return (
            f"{quoted(e)} takes the concave root of a convex sum of squares, which is "
            f"convex only as a whole. Write ol.norm({_bare(inner)})."
        )
    own = "convex" if is_convex_operation(lowered) else "concave"
    pairs = zip(e.arguments, twins, strict=True)
    worst = next((pair for pair in pairs if not pair[1].is_affine()), None)
    if worst is None:
        return f"{quoted(e)} is neither convex nor concave."
    argument, twin = worst
    return (
        f"{quoted(e)} applies {e.name}, which is {own}, to "
        f"`{describe(argument)}`, which is {curvature(twin)}, and the rules of convex "
        "programming do not tell whether the result is convex. Its sign may be "
        "missing: declare what it is made of nonneg=True, or rewrite the composition."
    )


def _describe_product(e: Expression, twins: list[cp.Expression]) -> str:
    first, second = e.arguments
    if e.name == "divide" and second.depends_on_variables:
        hint = ""
        if not first.depends_on_variables and first.sign.is_nonneg:
            hint = f" If it is positive, write ol.inv_pos({describe(second)})."
        return (
            f"{quoted(e)} divides by an expression that depends on variables, which "
            f"is neither convex nor concave.{hint}"
        )
    if first.depends_on_variables and second.depends_on_variables:
        return (
            f"{quoted(e)} is a product of two expressions that depend on variables, "
            "neither convex nor concave. Fix one of them as a Parameter, or write a "
            "square as ol.square, ol.sum_squares or ol.quad_form."
        )
    factor, other, twin = first, second, twins[1]
    if first.depends_on_variables:
        factor, other, twin = second, first, twins[0]
    return (
        f"{quoted(e)} multiplies `{describe(other)}`, which is {curvature(twin)}, by "
        f"`{describe(factor)}`, whose sign is unknown. Declare it nonneg=True, or "
        f"write ol.nonneg({describe(factor)})."
    )


def _describe_quad_form(e: Expression, parametrics: Parametrics) -> str:
    argument, Q = e.arguments
    if not argument.depends_on_variables or Q.depends_on_variables:
        return f"{quoted(e)} has variables in its matrix; only the vector may have."
    if parametrics.is_constant(Q):
        matrix = parametrics.array(Q)
        lowest = np.linalg.eigvalsh((matrix + matrix.T) / 2)[0]
        return (
            f"{quoted(e)} is not convex, for `{describe(Q)}` has the negative "
            f"eigenvalue {lowest:.3g}. Give it a positive semidefinite matrix."
        )
    return (
        f"{quoted(e)} is convex only if `{describe(Q)}` is positive semidefinite, "
        "which is not known. Declare it psd=True, or write "
        f"ol.psd_matrix({describe(Q)})."
    )


def _wrong_side(
    side: Expression, twin: cp.Expression, name: str, word: str, needed: str
) -> str:
    hint = ""
    if twin.is_dcp():
        hint = " Turn the inequality round if that is what you mean."
    place = "is bounded above" if word == "upper" else "is bounded below"
    return (
        f"{quoted(side)} in {name} {place}, but it is {curvature(twin)}; only a "
        f"{needed} expression can be.{hint}"
    )


def _not_in_a_cone(one: Constraint, side: Expression, twin: cp.Expression) -> str:
    what, hint = "lie in a cone", "Bound it by a variable that does."
    if one.relation == "<<":
        what = "be compared with <<"
        hint = (
            "Write a product of variables as a Schur complement: X @ X.T << Y is "
            "ol.bmat([[Y, X], [X.T, I]]) >> 0."
        )
    return (
        f"{quoted(side)} in constraint {one.name} is {curvature(twin)}, and only "
        f"affine expressions can {what}. {hint}"
    )


def _relaxation(twin: cp.Expression) -> str:
    if twin.is_convex():
        return "Write <= if the inequality is what you need."
    if twin.is_concave():
        return "Write >= if the inequality is what you need."
    return "Rewrite it as an affine expression."


def _bare(text: str) -> str:
    return text.removesuffix(" ** 2").removesuffix("**2").strip()
