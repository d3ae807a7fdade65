"""An existing cvxpy problem as a declared one: `ol.from_cvxpy(problem)`.

The expression tree is translated atom by atom, so that the rules of this library hold,
not those of DPP.
"""

import inspect
import sys
from collections.abc import Mapping
from typing import Any

import cvxpy as cp

from optlayers.compat.bridge.constraints import holds_already, translate_constraint
from optlayers.compat.bridge.expressions import PLACE, Translator
from optlayers.compat.bridge.leaves import TranslatedLeaf, translate_leaf
from optlayers.compat.bridge.naming import Given, describe_leaf, name_leaves
from optlayers.errors import DeclarationError
from optlayers.layers.problem import Problem
from optlayers.modeling.expressions import Expression
from optlayers.modeling.functions import upper_tri
from optlayers.modeling.origin import quoting
from optlayers.modeling.problem import declare
from optlayers.modeling.verbs import Goal, maximize, minimize


def from_cvxpy(
    problem: cp.Problem,
    parameters: Given = None,
    variables: Given = None,
    *,
    geometric: bool = False,
    convex: bool | None = None,
    name: str = "problem",
) -> Problem:
    """Make a declared problem of a cvxpy problem.

    It is called, printed and made into layers like one of `@ol.problem`. Variables and
    parameters keep the names their authors gave them where those are Python names; the
    others, "my var" for one, are x0, x1, ... and p0, p1, ... in the order of the
    problem. A constraint is named by its label, else
    `constraint_0`, `constraint_1`, ... by its place in `problem.constraints`, so that
    multipliers are `out.dual.constraint_0`; attributes are `out.dual["x.nonneg"]`.
    Multipliers have cvxpy's signs and shapes; those of SOC(t, X), ExpCone(x, y, z) and
    PowCone3D(x, y, z) are one tensor with the arguments side by side along its last
    axis.

    Args:
        problem: a cvxpy problem; it need not obey DPP.
        parameters: cvxpy parameters by the name that a call gives them; or a list of
            all of them, in the order of positional arguments.
        variables: cvxpy variables by the name of the result; or a list of them.
        geometric: whether it is a geometric program, as in cvxpy's `solve(gp=True)`.
        convex: True refuses a problem that is not convex; else one that is smooth is
            solved for a local optimum.
        name: what the problem is called in messages and when printed.

    Raises:
        DeclarationError: an object that is not in the problem, a parameter missing in
            a list, or a name that is reserved or given twice.
        NotSupported: an integer, boolean or complex variable or parameter, or an atom
            or constraint that has no counterpart; names it and its place.

    Example:
        project = ol.from_cvxpy(problem, parameters={"y": y}, variables={"x": x})
        project(y=torch.ones(3)).x
    """
    if not isinstance(problem, cp.Problem):
        raise DeclarationError(
            f"ol.from_cvxpy takes a cvxpy.Problem, not {type(problem).__name__}."
        )
    leaves = {
        label: translate_leaf(leaf)
        for label, leaf in name_leaves(problem, parameters, variables).items()
    }
    if not any(isinstance(one.leaf, cp.Variable) for one in leaves.values()):
        raise DeclarationError(f"{PLACE}: nothing to solve for; it has no variable.")
    if not geometric and not problem.is_dcp() and problem.is_dgp():
        raise DeclarationError(
            f"{PLACE}: it is a geometric program; write "
            "ol.from_cvxpy(problem, geometric=True)."
        )
    caller = sys._getframe(1).f_globals.get("__name__", "__main__")
    body = CvxpyBody(problem, leaves, name, caller)
    return Problem(declare(body, convex=convex, geometric=geometric))


class CvxpyBody:
    """The body of a declaration that is a cvxpy problem rather than code."""

    def __init__(
        self,
        problem: cp.Problem,
        leaves: Mapping[str, TranslatedLeaf],
        name: str,
        module: str,
    ) -> None:
        self.problem = problem
        self.leaves = dict(leaves)
        self.__name__ = self.__qualname__ = name
        self.__module__ = module
        self.__doc__ = None
        self.__signature__ = inspect.Signature(
            [
                inspect.Parameter(
                    label, inspect.Parameter.KEYWORD_ONLY, default=one.field
                )
                for label, one in leaves.items()
            ]
        )

    def __call__(self, **fields: Expression) -> Goal:
        """Translate the problem, given the expression of every field."""
        expressions = {
            one.leaf.id: one.expression(fields[label])
            for label, one in self.leaves.items()
        }
        to = Translator(expressions)
        named = self._constraints(to)
        for label, one in self.leaves.items():
            with quoting(PLACE, describe_leaf(one.leaf)):
                named |= one.constraints(label, fields[label], to)
        objective = self.problem.objective
        verb = maximize if isinstance(objective, cp.Maximize) else minimize
        with quoting(PLACE, objective):
            value = to(objective.args[0])
            for number, matrix in enumerate(to.symmetric):
                if matrix.depends_on_variables and matrix.shape[0] > 1:
                    upper, lower = upper_tri(matrix), upper_tri(matrix.T)
                    label = f"symmetric_{number}"
                    if label in named:
                        raise DeclarationError(
                            f"{PLACE}: {label} is the name of a constraint that cvxpy "
                            f"adds, that {matrix} is symmetric; give the one labelled "
                            "so another label with set_label."
                        )
                    named[label] = upper == lower
            return verb(value.reshape(()) if value.shape else value, **named)

    def _constraints(self, to: Translator) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for number, one in enumerate(self.problem.constraints):
            holds = holds_already(one)
            if holds:
                continue
            with quoting(PLACE, one):
                if holds is False:
                    raise DeclarationError(
                        f"{PLACE}: constraint {number}, `{one}`, is of constants and "
                        "does not hold."
                    )
                label = one.label or f"constraint_{number}"
                if label in found:
                    raise DeclarationError(
                        f"{PLACE}: two constraints are labelled {label}; relabel "
                        f"`{one}` with set_label."
                    )
                found[label] = translate_constraint(one, to)
        return found
