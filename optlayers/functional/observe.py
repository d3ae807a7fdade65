"""A solver of which someone watches the steps, or keeps them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from optlayers.errors import ParameterError
from optlayers.functional.options import SolveOptions
from optlayers.interfaces import Kind
from optlayers.programs.initial_value import InitialValueProgram
from optlayers.solution import Solution
from optlayers.solvers.ode.drive import Walk


@runtime_checkable
class WalkingSolver(Protocol):
    """A solver that takes its steps one at a time."""

    kind: Any

    @property
    def stepper(self) -> Any:
        """Its method."""
        ...

    @property
    def is_for_stiff(self) -> bool:
        """Whether its method is implicit, or may be handed over to one that is."""
        ...

    def refuses(self, program: InitialValueProgram) -> str | None:
        """One sentence on why not, or None."""
        ...

    def walk(
        self,
        program: InitialValueProgram,
        *,
        records: bool = False,
        dense: bool = False,
    ) -> Walk:
        """The integration at its beginning."""
        ...


@dataclass(frozen=True)
class Observed:
    """The same solver, with somebody beside it.

    Attributes:
        solver: which takes the steps.
        watch: called with the walk after each step.
        dense: whether solutions can tell their values at any time.
    """

    solver: WalkingSolver
    watch: Callable[[Walk], None] | None = None
    dense: bool = False
    kind = Kind.ODE

    @property
    def stepper(self) -> Any:
        """The method of the solver."""
        return self.solver.stepper

    @property
    def is_for_stiff(self) -> bool:
        """Whether the solver is."""
        return self.solver.is_for_stiff

    def refuses(self, program: InitialValueProgram) -> str | None:
        """What the solver refuses."""
        return self.solver.refuses(program)

    def walk(
        self,
        program: InitialValueProgram,
        *,
        records: bool = False,
        dense: bool = False,
    ) -> Walk:
        """The integration at its beginning, watched."""
        walk = self.solver.walk(program, records=records, dense=dense or self.dense)
        walk.watch = self.watch
        return walk

    def solve(
        self, program: InitialValueProgram, start: Tensor | None = None
    ) -> Solution:
        """Integrate every sample; failures are statuses."""
        walk = self.walk(program)
        while walk.is_running:
            walk.advance()
        return self.told(walk)

    def told(self, walk: Walk) -> Solution:
        """The solution of a walk."""
        return replace(walk.solution(), dense=walk.at if self.dense else None)


def observed(solver: Any, watch: Callable[[Walk], None] | None, *, dense: bool) -> Any:
    """The solver with somebody beside it, or itself if there is nobody.

    Args:
        solver: of kind "ode".
        watch: called with the walk after each step, or None.
        dense: whether solutions can tell their values at any time.

    Raises:
        ParameterError: its steps cannot be watched.
    """
    if watch is None and not dense:
        return solver
    return Observed(walking(solver), watch, dense)


def walking(solver: Any) -> WalkingSolver:
    """The solver, if its steps can be watched.

    Raises:
        ParameterError: it solves all at once.
    """
    if not isinstance(solver, WalkingSolver):
        raise ParameterError(
            f"{type(solver).__name__} does not take its steps one at a time: "
            "dense=True, progress=True and functional.integration need a solver that "
            'does, such as solver="dopri5".'
        )
    return solver


def with_kept_steps(options: SolveOptions) -> SolveOptions:
    """The options, of which the gradient is that of the steps that are kept.

    Raises:
        ParameterError: another gradient.
    """
    if options.gradient not in ("exact", "direct"):
        raise ParameterError(
            f'gradient="{options.gradient}" keeps no steps to be differentiated; '
            'use gradient="direct" with dense=True and functional.integration.'
        )
    return options.replace(gradient="direct")
