"""Picard iteration z <- (1 - beta) z + beta G(z), for maps that contract.

Source: S. Banach (1922); damping by M. A. Krasnoselskii (1955).
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from optlayers.implicit.unrolled import Taken
from optlayers.interfaces import Kind
from optlayers.programs.root import RootProgram
from optlayers.solution import Solution
from optlayers.solvers.iterative import Outcome, size_of
from optlayers.solvers.root.options import check_options, refuse_equations, solved_by


class PicardState(NamedTuple):
    """The iterate z and its image G(z), [B, n] each."""

    point: Tensor
    image: Tensor


@dataclass(frozen=True, kw_only=True)
class FixedPoint:
    """One evaluation a step and no linear algebra; linear convergence.

    Attributes:
        max_steps: most steps.
        tolerance: largest entry of z - G(z) that counts as zero.
        damping: beta, the share of the image in the next iterate, in (0, 1].
        check_every: steps between two looks at convergence.

    Raises:
        ParameterError: an option out of its range.
    """

    max_steps: int = 1000
    tolerance: float = 1e-10
    damping: float = 1.0
    check_every: int = 4
    kind: ClassVar[Kind] = Kind.ROOT

    def __post_init__(self) -> None:
        check_options(self, "check_every", shares=["damping"])

    def refuses(self, program: RootProgram) -> str | None:
        """A system that is no fixed point."""
        return refuse_equations(program)

    def solve(self, program: RootProgram, start: Tensor | None = None) -> Solution:
        """Solve every sample; failures are statuses."""
        return solved_by(self, program, start, self.check_every)

    def init(self, program: RootProgram, start: Tensor) -> PicardState:
        """The start and its image."""
        return PicardState(start, program.image(start))

    def step(
        self, program: RootProgram, state: PicardState, active: Tensor
    ) -> PicardState:
        """One evaluation of the map."""
        point = self._moved(program, state.point, state.image)
        return PicardState(point, program.image(point))

    def outcome(self, state: PicardState) -> Outcome:
        """The iterate; its residual is z - G(z)."""
        return Outcome(state.point, size_of(state.point - state.image))

    def retrace(
        self, program: RootProgram, taken: Taken, point: Tensor, memory: Any
    ) -> tuple[Tensor, None]:
        """The same step, differentiable."""
        return self._moved(program, point, program.differentiable_image(point)), None

    def _moved(self, program: RootProgram, point: Tensor, image: Tensor) -> Tensor:
        if self.damping != 1:
            image = torch.lerp(point, image, self.damping)
        return program.clamp(image)
