"""The three protocols of the house: Program, Solver, Adjoint.

A program knows its residual F and linearization; a solver finds z with F(z) = 0 and
knows nothing of gradients; implicit differentiation joins them.
"""

from enum import Enum
from typing import ClassVar, Protocol, TypeVar, runtime_checkable

from torch import Tensor

from optlayers.linalg.operators import Operator
from optlayers.solution import Solution


class Kind(str, Enum):
    """The four kinds of implicit layer."""

    CONVEX = "convex"
    ROOT = "root"
    MINIMIZE = "minimize"
    ODE = "ode"


@runtime_checkable
class Program(Protocol):
    """Frozen data of a batch of problems, with exactly one batch axis B."""

    kind: ClassVar[Kind]

    @property
    def batch_size(self) -> int:
        """The number of samples B."""
        ...


@runtime_checkable
class ImplicitProgram(Program, Protocol):
    """A program whose solution is a point z with residual(z) = 0."""

    @property
    def highest_order(self) -> int | None:
        """How often the residual may be differentiated; None if there is no limit."""
        ...

    def residual(self, point: Tensor) -> Tensor:
        """F(z), [B, n] -> [B, n], zero exactly at a solution; differentiable torch."""
        ...

    def linearize(self, point: Tensor) -> Operator:
        """dF/dz at `point`, as an operator."""
        ...


P = TypeVar("P", bound=Program, contravariant=True)


@runtime_checkable
class Solver(Protocol[P]):
    """Finds solutions. Never differentiates, never sees the DSL, never prints."""

    kind: ClassVar[Kind]

    def refuses(self, program: P) -> str | None:
        """One sentence on why this program cannot be solved, or None."""
        ...

    def solve(self, program: P, start: Tensor | None = None) -> Solution:
        """Solve every sample of the batch; failures are statuses, never exceptions."""
        ...


class Adjoint(Protocol):
    """How the derivative of a solution is taken."""

    def attach(self, value: Tensor, program: Program, order: int) -> Tensor:
        """Return `value`, bitwise, with its derivative attached."""
        ...
