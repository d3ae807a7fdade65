"""What `problem.explain()` returns: why a problem is routed so, and what it became."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from optlayers.compile.lowered import LoweredProgram
from optlayers.compile.reasons import Part
from optlayers.functional.plans import SolverChoice
from optlayers.interfaces import Kind
from optlayers.layers.explanation.html import html_of
from optlayers.layers.explanation.outline import outline_of
from optlayers.layers.explanation.text import text_of
from optlayers.layers.explanation.trees import tree_of

if TYPE_CHECKING:
    from rich.tree import Tree


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a problem of known sizes is what it is; print it, or show it in a notebook.

    Attributes:
        name: of the problem.
        kind: which kind of problem it is.
        why: one sentence on it.
        sizes: size of every dimension, and `steps` of a staged problem.
        is_geometric: whether the parts are those of the logarithms.
        parts: the reasons of the objective and of every constraint.
        program: the cone program it became; None if it is not convex.
        solvers: every solver of its kind, the one that is used first.
    """

    name: str
    kind: Kind
    why: str
    sizes: tuple[tuple[str, int], ...]
    is_geometric: bool
    parts: tuple[Part, ...]
    program: LoweredProgram | None
    solvers: tuple[SolverChoice, ...]

    def __str__(self) -> str:
        """Plain text, 88 columns wide."""
        return text_of(outline_of(self))

    def __rich__(self) -> "Tree":
        """A tree for a rich console."""
        return tree_of(outline_of(self))

    def _repr_html_(self) -> str:
        """HTML that folds, for notebooks; needs nothing from elsewhere."""
        return html_of(outline_of(self))
