"""The table of problems: a declaration, the book's minimum, the book's constants."""

from collections.abc import Callable
from typing import Any, NamedTuple

import optlayers as ol


class Entry(NamedTuple):
    """One problem of the book.

    Attributes:
        problem: the declaration, whose starts are the book's.
        minimum: f*.
        constants: what the book writes for the parameters.
    """

    problem: Any
    minimum: float
    constants: dict[str, Any]


def table() -> tuple[dict[str, Entry], Callable[..., Any]]:
    """An empty table by name, and the decorator that enters declarations there."""
    entries: dict[str, Entry] = {}

    def minimum(value: float, **constants: Any) -> Callable[..., Any]:
        def enter(function: Callable[..., Any]) -> Any:
            problem = ol.problem(function)
            entries[function.__name__] = Entry(problem, value, constants)
            return problem

        return enter

    return entries, minimum
