"""What a declaration returns, and how what it states is collected under names."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from optlayers.errors import DeclarationError
from optlayers.modeling.constraints import Between, Constraint
from optlayers.modeling.dynamics import EventDeclaration
from optlayers.modeling.expressions import Expression
from optlayers.modeling.inference import describe, located, located_at

Sense = Literal["minimize", "maximize", "solve", "integrate"]

# What a declaration is that optimizes nothing, by its verb.
NOT_OPTIMIZED = {
    "solve": "a system of equations",
    "integrate": "a differential equation",
}

# The relation that an example of each shows.
_RELATIONS = {"constraint": "<=", "equation": "=="}
_WITH_ARTICLE = {"constraint": "a constraint", "equation": "an equation"}
_MADE_WITH = {
    "constraint": "a constraint is made with ==, <=, >=, <<, >> or ol.in_cone",
    "equation": "an equation is made with ==",
}


@dataclass(frozen=True, eq=False)
class Goal:
    """What a declaration returns.

    Attributes:
        sense: minimize or maximize; solve or integrate, where nothing is optimized.
        objective: scalar, not staged; zero where nothing is optimized.
        constraints: each with its name; equations of solve and integrate.
        events: of integrate, each with its name.
    """

    sense: Sense
    objective: Expression
    constraints: tuple[Constraint, ...]
    events: tuple[EventDeclaration, ...] = ()


def collected(
    unnamed: Iterable[Any], named: Mapping[str, Any], word: str = "constraint"
) -> Iterator[Constraint]:
    """Constraints under their names, two for each `ol.between`.

    Args:
        unnamed: constraints, and lists of them.
        named: the same by name.
        word: what they are called: "constraint" or "equation".

    Raises:
        DeclarationError: something that is no constraint, or one of data alone.
    """
    for name, one in labelled(unnamed, named, word):
        yield from _checked(name, one, word)


def labelled(
    unnamed: Iterable[Any], named: Mapping[str, Any], word: str
) -> Iterator[tuple[str, Any]]:
    """Everything with its name: `word_0`, ...; its keyword; `keyword.0` of a list."""
    for position, one in enumerate(flattened(unnamed)):
        yield f"{word}_{position}", one
    for name, one in named.items():
        if isinstance(one, list | tuple):
            for position, part in enumerate(flattened(one)):
                yield f"{name}.{position}", part
        else:
            yield name, one


def flattened(given: Iterable[Any]) -> Iterator[Any]:
    """The entries of lists in lists."""
    for one in given:
        if isinstance(one, list | tuple):
            yield from flattened(one)
        else:
            yield one


def no_constraint(name: str, one: Any, word: str) -> str:
    """Why something is no constraint or equation, and how one is made."""
    what = _WITH_ARTICLE[word]
    if isinstance(one, bool):
        return (
            f"{name} is the plain value {one}: both sides were numbers.\n  "
            f"{what.capitalize()} has a Variable, State or Control on one side."
        )
    if isinstance(one, Expression):
        return (
            f"{name} is an expression, {describe(one)}; {what} compares two, as "
            f"in {describe(one)} {_RELATIONS[word]} 0."
        )
    if isinstance(one, EventDeclaration):
        return f"{name} is an event, which is told to ol.integrate(...); drop it."
    return f"{name} is a {type(one).__name__}; {_MADE_WITH[word]}."


def refuse_tensors(
    verb: str, instead: str, given: tuple[Any, ...], named: Mapping[str, Any]
) -> None:
    """Say where to go to someone who took the verb for a function.

    Raises:
        DeclarationError: a function, or tensors alone.
    """
    for one in (*given, *named.values()):
        is_function = callable(one) and not isinstance(one, Expression | Tensor)
        if is_function and not isinstance(one, nn.Parameter):
            raise located(DeclarationError(_for_functions(verb, instead, "function")))
    if given and all(isinstance(one, Tensor) for one in given):
        raise located(DeclarationError(_for_functions(verb, instead, "tensor")))


def _checked(name: str, one: Any, word: str) -> Iterator[Constraint]:
    if not isinstance(one, Constraint | Between):
        raise located(DeclarationError(no_constraint(name, one, word)))
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


def _for_functions(verb: str, instead: str, what: str) -> str:
    return (
        f"{verb} ends a declaration and takes expressions, not a {what}.\n  For plain "
        f"functions and tensors there is optlayers.functional.{instead}."
    )
