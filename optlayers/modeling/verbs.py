"""Verbs that end a declaration: minimize, maximize, feasible, solve, those to come."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from torch import Tensor, nn

from optlayers.errors import DeclarationError, NotSupported, ShapeError
from optlayers.modeling.constraints import Between, Constraint
from optlayers.modeling.expressions import Expression, as_expression
from optlayers.modeling.inference import describe, located, located_at
from optlayers.modeling.stages import window_text

Sense = Literal["minimize", "maximize", "solve"]

# What an unnamed one is called, and the relation that an example of one shows.
_RELATIONS = {"constraint": "<=", "equation": "=="}
_A = {"constraint": "a constraint", "equation": "an equation"}
_MADE_WITH = {
    "constraint": "a constraint is made with ==, <=, >=, <<, >> or ol.in_cone",
    "equation": "an equation is made with ==",
}


@dataclass(frozen=True, eq=False)
class Goal:
    """What a declaration returns.

    Attributes:
        sense: minimize or maximize; solve, where nothing is optimized.
        objective: scalar, not staged; zero of solve.
        constraints: each with its name; of solve they are all equations.
    """

    sense: Sense
    objective: Expression
    constraints: tuple[Constraint, ...]


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
    _refuse_tensors("feasible", "cone_program(q, A, b, cones)", constraints, named)
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
    _refuse_tensors("solve", "root(residual, start)", equations, named)
    if not _any_constraint(equations, named):
        raise located(DeclarationError("solve needs at least one equation."))
    found = tuple(_collect(equations, named, "equation"))
    for one in found:
        if one.relation != "==":
            raise DeclarationError(located_at(one, _no_equation(one)))
    return Goal("solve", as_expression(0.0), found)


def integrate(*equations: Any, **named: Any) -> NoReturn:
    """End a declaration: integrate a differential equation. Not available yet.

    Raises:
        NotSupported: always, in this version.
    """
    _refuse_tensors("integrate", "integrate(field, start, times)", equations, named)
    raise _not_yet("integrate", "minimize or maximize over a State with steps")


def der(expression: Any) -> NoReturn:
    """The time derivative of a state. Not available yet.

    Raises:
        NotSupported: always, in this version.
    """
    raise _not_yet("der", "x.next of a discrete State")


def event(*_: Any, **__: Any) -> NoReturn:
    """An event of a differential equation. Not available yet.

    Raises:
        NotSupported: always, in this version.
    """
    raise _not_yet("event", "minimize or maximize")


def _not_yet(word: str, instead: str) -> Exception:
    return located(
        NotSupported(f"{word} is not available in this version; there is {instead}.")
    )


def _goal(
    sense: Sense, objective: Any, constraints: tuple[Any, ...], named: dict[str, Any]
) -> Goal:
    example = "minimize(objective, start)"
    _refuse_tensors(sense, example, (objective, *constraints), named)
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
    return Goal(sense, scalar, tuple(_collect(constraints, named)))


def _any_constraint(constraints: tuple[Any, ...], named: Mapping[str, Any]) -> bool:
    return bool(constraints) or bool(named)


def _collect(
    constraints: tuple[Any, ...], named: Mapping[str, Any], word: str = "constraint"
) -> Iterator[Constraint]:
    unnamed = list(_flat(constraints))
    for position, one in enumerate(unnamed):
        yield from _named(f"{word}_{position}", one, word)
    for name, one in named.items():
        if isinstance(one, list | tuple):
            for position, part in enumerate(_flat(one)):
                yield from _named(f"{name}.{position}", part, word)
        else:
            yield from _named(name, one, word)


def _flat(constraints: Any) -> Iterator[Any]:
    for one in constraints:
        if isinstance(one, list | tuple):
            yield from _flat(one)
        else:
            yield one


def _named(name: str, one: Any, word: str) -> Iterator[Constraint]:
    if not isinstance(one, Constraint | Between):
        raise located(DeclarationError(_no_constraint(name, one, word)))
    parts = (one,) if isinstance(one, Constraint) else tuple(one)
    for part in parts:
        if not part.depends_on_variables:
            raise DeclarationError(
                located_at(
                    part,
                    f"no variable enters {name}, so nothing that is chosen can make it "
                    "hold.\n  Check it before the call, or declare it as an attribute "
                    "of the parameter (nonneg=, lower=, upper=).",
                )
            )
    named = one.named(name)
    yield from (named,) if isinstance(named, Constraint) else named


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


def _no_constraint(name: str, one: Any, word: str) -> str:
    if isinstance(one, bool):
        return (
            f"{name} is the plain value {one}: both sides were numbers.\n  "
            f"{_A[word].capitalize()} has a Variable, State or Control on one side."
        )
    if isinstance(one, Expression):
        return (
            f"{name} is an expression, {describe(one)}; {_A[word]} compares two, as "
            f"in {describe(one)} {_RELATIONS[word]} 0."
        )
    return f"{name} is a {type(one).__name__}; {_MADE_WITH[word]}."


def _refuse_tensors(
    verb: str, instead: str, given: tuple[Any, ...], named: Mapping[str, Any]
) -> None:
    """Say where to go to someone who took the verb for a function."""
    for one in (*given, *named.values()):
        is_function = callable(one) and not isinstance(one, Expression | Tensor)
        if is_function and not isinstance(one, nn.Parameter):
            raise located(DeclarationError(_for_functions(verb, instead, "function")))
    if given and all(isinstance(one, Tensor) for one in given):
        raise located(DeclarationError(_for_functions(verb, instead, "tensor")))


def _for_functions(verb: str, instead: str, what: str) -> str:
    return (
        f"{verb} ends a declaration and takes expressions, not a {what}.\n  For plain "
        f"functions and tensors there is optlayers.functional.{instead}."
    )
