"""One row of the table: a declaration, the same problem in cvxpy, and numbers."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import cvxpy as cp
import numpy as np

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Entry:
    """A problem that cvxpylayers refuses and optlayers solves.

    Attributes:
        problem: the declaration; its docstring is the name of the row.
        area: where such problems come from.
        breaks: what breaks DPP, as cvxpy would write it.
        ours: the same in the declaration, word for word.
        by_hand: the problem and its variables in cvxpy, of Parameters or of numbers.
        draw: numbers for every parameter.
        steps: number of steps of a staged problem.
    """

    problem: Any
    area: str
    breaks: str
    ours: str
    by_hand: Callable[[Values], tuple[cp.Problem, dict[str, cp.Variable]]]
    draw: Callable[[np.random.Generator], dict[str, np.ndarray]]
    sizes: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.problem.__doc__.rstrip(".")

    @property
    def source(self) -> str:
        """The declaration's source on one line."""
        return " ".join(inspect.getsource(self.problem.declared.function).split())

    @property
    def row(self) -> str:
        """The row in the documentation."""
        return f"| {self.name} | {self.area} | `{self.breaks}` | `{self.ours}` |"

    def parameters(self, numbers: Mapping[str, np.ndarray]) -> dict[str, cp.Parameter]:
        """cvxpy's parameters, with the attributes that the declaration has."""
        fields = self.problem.declared.fields
        return {
            name: cp.Parameter(
                number.shape,
                nonneg=fields[name].nonneg,
                PSD=fields[name].psd,
            )
            for name, number in numbers.items()
        }


def table(entries: tuple[Entry, ...]) -> str:
    """The rows as they stand in the documentation."""
    head = "| problem | field | in cvxpy | in optlayers |\n|---|---|---|---|\n"
    return head + "\n".join(one.row for one in entries)
