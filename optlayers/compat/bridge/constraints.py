"""cvxpy's constraints in our words; multipliers keep cvxpy's signs."""

from collections.abc import Callable, Mapping
from typing import Any

import cvxpy as cp
import numpy as np
from cvxpy.atoms.affine.add_expr import AddExpression
from cvxpy.constraints.constraint import Constraint as CvxpyConstraint
from cvxpy.constraints.exponential import ExpCone
from cvxpy.constraints.nonpos import Inequality, NonNeg, NonPos
from cvxpy.constraints.power import PowCone3D, PowConeND
from cvxpy.constraints.psd import PSD
from cvxpy.constraints.second_order import SOC
from cvxpy.constraints.zero import Equality, Zero

from optlayers.compat.bridge.expressions import PLACE, Translator
from optlayers.errors import NotSupported
from optlayers.modeling.constraints import Constraint
from optlayers.modeling.expressions import Expression, apply, relate
from optlayers.modeling.language import in_cone

Rule = Callable[[Any, Translator], Constraint]


def translate_constraint(constraint: CvxpyConstraint, to: Translator) -> Constraint:
    """The same constraint in our words.

    Raises:
        NotSupported: a kind of constraint that has no counterpart.
    """
    for kind in type(constraint).__mro__:
        if kind in _RULES:
            return _RULES[kind](constraint, to)
    known = ", ".join(sorted(kind.__name__ for kind in _RULES))
    raise NotSupported(
        f"{PLACE}: `{constraint}`: {type(constraint).__name__} has no counterpart "
        f"here; there are {known}."
    )


def _compared(relation: str) -> Rule:
    def rule(constraint: Any, to: Translator) -> Constraint:
        left, right = map(to, constraint.args)
        found = relate(relation, left, right)
        if found.shape == constraint.shape:
            return found
        return relate(relation, to(constraint.expr), 0.0)

    return rule


def _with_zero(relation: str) -> Rule:
    def rule(constraint: Any, to: Translator) -> Constraint:
        return relate(relation, to(constraint.args[0]), 0.0)

    return rule


def _semidefinite(constraint: Any, to: Translator) -> Constraint:
    matrix = to(_without_zero(constraint.args[0]))
    return relate("<<", np.zeros(matrix.shape), matrix)


def _without_zero(e: Any) -> cp.Expression:
    """X of the X + -0 that cvxpy makes of X >> 0."""
    if isinstance(e, AddExpression) and len(e.args) == 2:
        first, second = e.args
        if second.is_constant() and not second.parameters() and second.is_zero():
            return first if first.shape == e.shape else e
    return e


def _second_order(constraint: SOC, to: Translator) -> Constraint:
    t, X = (to(one) for one in constraint.args)
    if len(X.shape) < 2:
        pair = [apply("reshape", (one,), shape=(-1,)) for one in (t, X)]
        return in_cone(apply("concatenate", pair), "soc")
    # axis 0: every column of X is a cone of its own.
    rows = apply("transpose", (X,)) if constraint.axis == 0 else X
    column = apply("reshape", (t,), shape=(-1, 1))
    return in_cone(apply("concatenate", (column, rows), axis=1), "soc")


def _exponential(constraint: ExpCone, to: Translator) -> Constraint:
    return in_cone(_triples(constraint, to), "exp")


def _power(constraint: PowCone3D, to: Translator) -> Constraint:
    triples = _triples(constraint, to)
    alpha = np.reshape(np.asarray(constraint.alpha.value), triples.shape[:-1])
    return in_cone(triples, "power", exponent=alpha)


def _triples(constraint: Any, to: Translator) -> Expression:
    """(x, y, z) along a last axis."""
    return apply("stack", [to(one) for one in constraint.args], axis=-1)


def _power_of_many(constraint: PowConeND, to: Translator) -> Constraint:
    """prod W^alpha >= |z|: a weighted geometric mean bounds |z|."""
    W, z = (to(one) for one in constraint.args)
    alpha = np.asarray(constraint.alpha.value, dtype=float)
    if len(W.shape) < 2:
        mean = apply("geo_mean", (W,), p=alpha.ravel().tolist())
        return relate("<=", apply("abs", (z,)), mean)
    along = constraint.axis
    means = [
        apply(
            "geo_mean",
            (W[:, k] if along == 0 else W[k],),
            p=(alpha[:, k] if along == 0 else alpha[k]).tolist(),
        )
        for k in range(W.shape[1 - along])
    ]
    return relate("<=", apply("abs", (z,)), apply("stack", means))


def holds_already(constraint: CvxpyConstraint) -> bool | None:
    """Whether a constraint of constants holds; None if it is not of constants alone."""
    if constraint.variables() or constraint.parameters():
        return None
    return bool(np.all(constraint.value()))


_RULES: Mapping[type, Rule] = {
    Equality: _compared("=="),
    Inequality: _compared("<="),
    Zero: _with_zero("=="),
    NonPos: _with_zero("<="),
    NonNeg: _with_zero(">="),
    PSD: _semidefinite,
    SOC: _second_order,
    ExpCone: _exponential,
    PowCone3D: _power,
    PowConeND: _power_of_many,
}
