"""Verbs that end a declaration: minimize, maximize, feasible, solve.

`integrate` stands with its own words in `differential`.
"""

from collections.abc import Mapping
from typing import Any, Literal

from optlayers.errors import DeclarationError, ShapeError
from optlayers.modeling.constraints import Between, Constraint
from optlayers.modeling.expressions import as_expression
from optlayers.modeling.goals import Goal, collected, refuse_tensors
from optlayers.modeling.inference import describe, located, located_at
from optlayers.modeling.stages import window_text


def minimize(objective: Any, *constraints: Any, **named: Any) -> Goal:
    """End a declaration: make the objective small under constraints.

    Args:
        objective: a scalar expression.
        *constraints: named `constraint_0`, `constraint_1`, ...; lists of them too.
        **named: constraints by name; their multipliers are `out.dual.name`.

    Raises:
        ShapeError: the objective is not scalar.
        DeclarationError: the objective is staged, or something is no constraint.
    """
    return _goal("minimize", objective, constraints, named)


def maximize(objective: Any, *constraints: Any, **named: Any) -> Goal:
    """End a declaration: make the objective large under constraints.

    Multipliers are those of minimizing the negative objective.

    Args:
        objective: a scalar expression.
        *constraints: named `constraint_0`, `constraint_1`, ...; lists of them too.
        **named: constraints by name; their multipliers are `out.dual.name`.

    Raises:
        ShapeError: the objective is not scalar.
        DeclarationError: the objective is staged, or something is no constraint.
    """
    return _goal("maximize", objective, constraints, named)


def feasible(*constraints: Any, **named: Any) -> Goal:
    """End a declaration: find a point at which all constraints hold.

    The objective is zero. Where more than one point is feasible the solver returns one
    of them, and gradients are those of least norm (`out.stats` says where).

    Args:
        *constraints: named `constraint_0`, `constraint_1`, ...; lists of them too.
        **named: constraints by name; their multipliers are `out.dual.name`.

    Raises:
        DeclarationError: no constraint, or something that is none.
    """
    refuse_tensors("feasible", "cone_program(q, A, b, cones)", constraints, named)
    if not _any_constraint(constraints, named):
        raise located(DeclarationError("feasible needs at least one constraint."))
    return _goal("minimize", 0.0, constraints, named)


def solve(*equations: Any, **named: Any) -> Goal:
    """End a declaration: find values of the variables at which all equations hold.

    As many equations as unknowns are needed, counted entry by entry. Where there are
    several roots, `Variable(start=, lower=, upper=, nonneg=, nonpos=)` choose one. An
    equation `z == map(z)`, the variable alone on one side, is also a fixed point, and
    solvers of those apply.

    Args:
        *equations: named `equation_0`, `equation_1`, ...; lists of them too.
        **named: equations by name.

    Raises:
        DeclarationError: no equation, an inequality, or something that is neither.

    Example:
        @ol.problem
        def phase(x=Variable(), w=Parameter()):
            return solve(torch.sin(x + w) == 0)
    """
    refuse_tensors("solve", "root(residual, start)", equations, named)
    if not _any_constraint(equations, named):
        raise located(DeclarationError("solve needs at least one equation."))
    found = tuple(collected(equations, named, "equation"))
    for one in found:
        if one.relation != "==":
            raise DeclarationError(located_at(one, _no_equation(one)))
    return Goal("solve", as_expression(0.0), found)


def _goal(
    sense: Literal["minimize", "maximize"],
    objective: Any,
    constraints: tuple[Any, ...],
    named: dict[str, Any],
) -> Goal:
    example = "minimize(objective, start)"
    refuse_tensors(sense, example, (objective, *constraints), named)
    if isinstance(objective, Constraint | Between):
        raise located(
            DeclarationError(f"{sense} takes the objective first, then constraints.")
        )
    scalar = as_expression(objective)
    if scalar.is_staged:
        raise located(
            DeclarationError(
                f"the objective {describe(scalar)} has a value at each of "
                f"{window_text(scalar.stages)}.\n  Sum it with ol.total(...), and add "
                "a final cost with .last."
            )
        )
    if scalar.shape != ():
        raise located(
            ShapeError(
                f"the objective {describe(scalar)} has shape {list(scalar.shape)}, it "
                "must be a scalar.\n  Write ol.sum(...), ol.sum_squares(...) or a norm."
            )
        )
    if not scalar.depends_on_variables and not _any_constraint(constraints, named):
        raise located(DeclarationError("nothing here depends on a variable."))
    return Goal(sense, scalar, tuple(collected(constraints, named)))


def _any_constraint(constraints: tuple[Any, ...], named: Mapping[str, Any]) -> bool:
    return bool(constraints) or bool(named)


def _no_equation(one: Constraint) -> str:
    if one.relation == "<=":
        return (
            f"{one.name} is an inequality, and solve takes equations.\n  A bound that "
            "chooses among several roots is declared with the variable, as in "
            "Variable(lower=0)."
        )
    return (
        f"{one.name} is a membership in a cone, and solve takes equations.\n  End the "
        "declaration with ol.feasible(...) to find a point in cones."
    )
