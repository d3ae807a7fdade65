"""Constraints and objective of a geometric program, and why they are none.

f <= g becomes log f <= log g, for f log-log convex and g log-log concave; what is
subtracted on one side is added on the other first.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from optlayers.compile.geometric.curvature import Curvature
from optlayers.compile.geometric.nodes import number
from optlayers.compile.geometric.posynomial import Posynomial
from optlayers.compile.geometric.terms import gathered_terms
from optlayers.compile.geometric.translate import Translator
from optlayers.errors import NotConvex
from optlayers.modeling.constraints import Constraint
from optlayers.modeling.expressions import Expression
from optlayers.modeling.inference import describe, quoted

Sense = Literal["minimize", "maximize"]


@dataclass(frozen=True, eq=False)
class LogObjective:
    """The logarithm of an objective.

    Attributes:
        sense: what is done to it.
        log: the logarithm; 0 where the objective is zero.
        sign: of the objective, whose logarithm is that of its magnitude; 0 if it is
            zero.
    """

    sense: Sense
    log: Expression
    sign: int


@dataclass(frozen=True, eq=False)
class LogConstraint:
    """What became of one constraint.

    Attributes:
        constraint: it in log space; None if it holds for all positive values.
        side: logarithm of a side, both sides being equal where it is active; None
            as before.
        entries: the entries, in C order, that do not hold for all positive values;
            None if all do not.
    """

    constraint: Constraint | None = None
    side: Expression | None = None
    entries: np.ndarray | None = None


def log_objective(translate: Translator, e: Expression, sense: Sense) -> LogObjective:
    """The objective in log space.

    Raises:
        NotConvex: it is no objective of a geometric program.
    """
    plus, minus = translate.terms(e)
    if not plus and not minus:
        return LogObjective("minimize", number(0.0, e.origin), 0)
    if plus and minus:
        translate(e)
    sign = 1 if plus else -1
    if sign < 0:
        sense = "maximize" if sense == "minimize" else "minimize"
    value = translate.total(plus or minus, e)
    if sense == "minimize" and not value.curvature.is_convex:
        raise NotConvex(
            f"{quoted(e)} is minimized, but it is {value.curvature.value}; only "
            "monomials and log-log convex expressions can be minimized in a geometric "
            "program."
        )
    if sense == "maximize" and not value.curvature.is_concave:
        raise NotConvex(
            f"{quoted(e)} is maximized, but it is {value.curvature.value}; only "
            "monomials and log-log concave expressions can be maximized in a geometric "
            "program. Maximize a new variable t, and bound it by monomials."
        )
    return LogObjective(sense, value.log(), sign)


def log_constraint(translate: Translator, one: Constraint) -> LogConstraint:
    """A constraint in log space.

    Raises:
        NotConvex: it is no constraint of a geometric program.
    """
    if one.relation not in ("==", "<="):
        raise NotConvex(
            f"{one.origin.place}: `{one.origin.text}` is a constraint of a cone; "
            "geometric programs have == and <= between positive expressions only."
        )
    left, right = translate.terms(one.left), translate.terms(one.right)
    less = gathered_terms((*left.plus, *right.minus))
    more = gathered_terms((*right.plus, *left.minus))
    if one.relation == "<=" and not less:
        return LogConstraint()
    if not more or not less:
        raise NotConvex(
            f"{_side(one, one.right if less else one.left)} is zero or less, and what "
            "it is compared with is positive. Terms with a minus have been moved to "
            "the other side; nothing is left on this one."
        )
    return _compared(
        one,
        translate.total(less, one.left).broadcast(one.shape),
        translate.total(more, one.right).broadcast(one.shape),
    )


def _compared(one: Constraint, less: Posynomial, more: Posynomial) -> LogConstraint:
    wanted, entries = less.support.ravel(), None
    if one.relation == "==" and not (wanted.all() and more.support.all()):
        raise NotConvex(
            f"{_side(one, one.left)} is zero in some entries; leave these out of it."
        )
    if not wanted.any():
        return LogConstraint()
    if not wanted.all():
        entries = np.flatnonzero(wanted)
        less, more = less.take(entries), more.take(entries)
    if not more.support.all():
        raise NotConvex(
            f"{_side(one, one.right)} is zero in some entries where the other side is "
            "positive."
        )
    _check_curvatures(one, less, more)
    side = less if not less.logs.depends_on_variables else more
    constraint = Constraint(
        one.name,
        one.relation,
        less.log(),
        more.log(),
        one.origin,
        less.shape,
        one.stages,
    )
    return LogConstraint(constraint, side.log(), entries)


def _check_curvatures(one: Constraint, less: Posynomial, more: Posynomial) -> None:
    if one.relation == "==":
        for value, declared in ((less, one.left), (more, one.right)):
            if value.curvature is not Curvature.AFFINE:
                raise NotConvex(
                    f"{_side(one, declared)} is {value.curvature.value}, and only "
                    "monomials (products of powers) can be equal in a geometric "
                    "program. Write <= or >= if the inequality is what you need."
                )
        return
    if not less.curvature.is_convex:
        raise NotConvex(
            f"{_side(one, one.left)} is bounded above, but it is "
            f"{less.curvature.value}; only monomials and log-log convex expressions "
            "can be. Turn the inequality round if that is what you mean."
        )
    if not more.curvature.is_concave:
        raise NotConvex(
            f"{_side(one, one.right)} is bounded below, but it is "
            f"{more.curvature.value}; only monomials and log-log concave expressions "
            "can be the greater side of <=. Turn the inequality round if that is what "
            "you mean, or divide by a monomial so that all sums stand on the less side."
        )


def _side(one: Constraint, side: Expression) -> str:
    """The side to blame; the constraint if nothing was written there."""
    text = describe(side)
    if not side.depends_on_variables and one.origin.text:
        return f"{one.origin.place}: `{text}` in constraint {one.name}"
    return f"{side.origin.place}: `{text}` in constraint {one.name}"
