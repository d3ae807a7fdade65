"""What makes a diagonally implicit method a solver: the root solver of its stages."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch

from optlayers import registry
from optlayers.errors import ParameterError
from optlayers.interfaces import Kind, Solver
from optlayers.solvers.ode.esdirk import DiagonallyImplicit, ImplicitTableau
from optlayers.solvers.ode.solver import SteppingSolver
from optlayers.solvers.root.fixed_point import FixedPoint

# The error of a stage as a share of the allowed error of a step.
STAGE_TOLERANCE = 0.01
# More steps than this mean that the Jacobian is too old or the step too long; a fixed
# step cannot be shorter.
STAGE_STEPS = 10
FIXED_STAGE_STEPS = 100
# Fixed steps may be far more accurate than tolerances that do not choose them.
FIXED_TOLERANCE = 1e-10


@dataclass(frozen=True, kw_only=True)
class ImplicitSolver(SteppingSolver):
    """A solver whose stages are found by a root solver; each method adds its tableau.

    A step whose stages are not found is rejected.

    Attributes:
        stage_solver: a registered name of kind "root", or an instance, whose tolerance
            is a share of the allowed error of a step. The unknowns are scaled by that
            error, and the equations solved with the Jacobian at the beginning of the
            step: their fixed-point iteration, which None takes, is the simplified
            Newton method.

    Raises:
        ParameterError: an option out of its range.
    """

    tableau: ClassVar[ImplicitTableau]
    stage_solver: Solver | str | None = None

    def __post_init__(self) -> None:
        kind = getattr(self.stage_solver, "kind", Kind.ROOT)
        if kind != Kind.ROOT:
            raise ParameterError(
                f"{type(self).__name__}(stage_solver={self.stage_solver!r}): this is a "
                f'solver of kind "{Kind(kind).value}"; stages need one of kind "root".'
            )
        super().__post_init__()

    @cached_property
    def stepper(self) -> DiagonallyImplicit:  # pyright: ignore
        """The method with its root solver."""
        root, most, steps = self.stage_solver, torch.inf, STAGE_STEPS
        if not self.control.is_adaptive:
            most, steps = FIXED_TOLERANCE, FIXED_STAGE_STEPS
        given: dict[str, Any] = {"tolerance": STAGE_TOLERANCE, "max_steps": steps}
        if root is None:
            root = FixedPoint(**given, check_every=1)
        elif isinstance(root, str):
            root = registry.create("root", root, **given)
        return DiagonallyImplicit(
            self.tableau, root, min(self.rtol, most), min(self.absolute, most)
        )
