"""Names for the objects of a cvxpy problem: given, their own, or counted."""

import keyword
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import cvxpy as cp
from cvxpy.settings import PARAM_PREFIX, VAR_PREFIX

from optlayers.errors import DeclarationError
from optlayers.modeling.fields import RESERVED

Kind = Literal["parameters", "variables"]
Leaf = cp.Variable | cp.Parameter
Given = Mapping[str, Leaf] | Sequence[Leaf] | None

_LETTERS: Mapping[Kind, str] = {"parameters": "p", "variables": "x"}
_TYPES: Mapping[Kind, type] = {"parameters": cp.Parameter, "variables": cp.Variable}


def name_leaves(
    problem: cp.Problem, parameters: Given, variables: Given
) -> dict[str, Leaf]:
    """The variables and parameters of a problem by name, variables first.

    Given names come first, then an object's own name if its author gave it one that is
    a Python name, then x0, x1, ... and p0, p1, ...

    Args:
        problem: the cvxpy problem.
        parameters: objects by name; or all of them, in the order a call gives them.
        variables: objects by name; or objects in the order of the results.

    Raises:
        DeclarationError: an object that is not in the problem or is given twice, a
            missing parameter, two objects of one name, or a name that is taken.
    """
    chosen: dict[Kind, list[tuple[str | None, Leaf]]] = {
        "variables": _ordered(problem.variables(), variables, "variables"),
        "parameters": _ordered(problem.parameters(), parameters, "parameters"),
    }
    if parameters is not None and not isinstance(parameters, Mapping):
        remedy = "list every parameter of the problem, or leave the argument out"
        refuse_missing(problem, parameters, remedy)
    named: list[tuple[str, Leaf]] = []
    everything = [*chosen["variables"], *chosen["parameters"]]
    taken = {name for name, _ in everything if name is not None}
    for kind, leaves in chosen.items():
        counted = _counted(_LETTERS[kind], taken)
        named += [
            (next(counted) if name is None else name, leaf) for name, leaf in leaves
        ]
    _check(named)
    return dict(named)


def own_name(leaf: Leaf) -> str | None:
    """The name its author gave it, if it is a Python name; else None."""
    name = leaf.name()
    prefix = VAR_PREFIX if isinstance(leaf, cp.Variable) else PARAM_PREFIX
    if name == f"{prefix}{leaf.id}":
        return None
    return name if _is_name(name) else None


def describe_leaf(leaf: Leaf) -> str:
    """How messages call a variable or parameter of cvxpy."""
    word = "variable" if isinstance(leaf, cp.Variable) else "parameter"
    return f"cvxpy {word} {leaf.name()} {list(leaf.shape)}"


def _ordered(
    present: Iterable[Leaf], given: Given, kind: Kind
) -> list[tuple[str | None, Leaf]]:
    """Those given first, then the rest in the problem's own order."""
    known = {one.id: one for one in present}
    found: dict[int, tuple[str | None, Leaf]] = {}
    for name, leaf in _pairs(given):
        if not isinstance(leaf, _TYPES[kind]) or leaf.id not in known:
            raise DeclarationError(_not_there(name, leaf, known.values(), kind))
        if leaf.id in found:
            raise DeclarationError(f"{describe_leaf(leaf)} is listed twice in {kind}=.")
        if name is not None and not _is_name(name):
            raise DeclarationError(
                f"{kind}={{{name!r}: ...}}: a name is a Python name, like 'A'."
            )
        found[leaf.id] = (own_name(leaf) if name is None else name, leaf)
    rest = [(own_name(one), one) for one in known.values() if one.id not in found]
    return [*found.values(), *rest]


def _pairs(given: Given) -> Iterator[tuple[str | None, Any]]:
    if isinstance(given, Mapping):
        yield from given.items()
    elif isinstance(given, cp.Expression):
        yield None, given
    else:
        yield from ((None, one) for one in given or ())


def _counted(letter: str, taken: set[str]) -> Iterator[str]:
    number = 0
    while True:
        if f"{letter}{number}" not in taken:
            yield f"{letter}{number}"
        number += 1


def refuse_missing(problem: cp.Problem, given: Sequence[Leaf], remedy: str) -> None:
    """Refuse a list of parameters that lacks one of the problem.

    Args:
        problem: the cvxpy problem.
        given: the list.
        remedy: what to do about it.

    Raises:
        DeclarationError: one is missing; names all of those.
    """
    listed = {one.id for _, one in _pairs(given)}
    missing = [one for one in problem.parameters() if one.id not in listed]
    if missing:
        raise DeclarationError(
            f"parameters=[...] lacks {', '.join(map(describe_leaf, missing))}; "
            f"{remedy}."
        )


def _check(named: Sequence[tuple[str, Leaf]]) -> None:
    seen: dict[str, Leaf] = {}
    for name, leaf in named:
        word = "variables" if isinstance(leaf, cp.Variable) else "parameters"
        remedy = f"Name it with {word}={{'another_name': ...}}."
        if name in RESERVED:
            raise DeclarationError(
                f"{describe_leaf(leaf)} takes a reserved name; options and results of "
                f"layers are {', '.join(sorted(RESERVED))}. {remedy}"
            )
        if name in seen:
            raise DeclarationError(
                f"{describe_leaf(seen[name])} and {describe_leaf(leaf)} are both named "
                f"{name}. {remedy}"
            )
        seen[name] = leaf


def _not_there(name: str | None, leaf: Any, known: Iterable[Leaf], kind: Kind) -> str:
    label = f"{kind}=" if name is None else f"{kind}={{{name!r}: ...}}"
    there = ", ".join(map(describe_leaf, known)) or "none"
    if not isinstance(leaf, cp.Variable | cp.Parameter):
        what = f"{leaf!r} is no cvxpy {kind[:-1]}"
    elif not isinstance(leaf, _TYPES[kind]):
        what = f"{describe_leaf(leaf)} is no {kind[:-1]}"
    else:
        what = f"{describe_leaf(leaf)} is not in the problem"
    return f"{label}: {what}; there are {there}."


def _is_name(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name)
