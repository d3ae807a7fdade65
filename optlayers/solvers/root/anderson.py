"""Anderson acceleration: the mixture of the last iterates whose residual is least.

Source: H. F. Walker, P. Ni, Anderson acceleration for fixed-point iterations (2011),
equation (1.2). The Gram matrix of the residuals gains one row a step.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from optlayers.implicit.unrolled import Taken
from optlayers.interfaces import Kind
from optlayers.programs.root import RootProgram
from optlayers.solution import Solution
from optlayers.solvers.iterative import Outcome, size_of
from optlayers.solvers.root.options import check_options, refuse_equations, solved_by


class AndersonState(NamedTuple):
    """The memory of every sample.

    Attributes:
        point, image: the newest iterate z and G(z), [B, n].
        images: the last images, [B, memory, n].
        residuals: G(z) - z of the same, [B, memory, n].
        gram: their products, [B, memory, memory].
        made: how many iterates were made.
    """

    point: Tensor
    image: Tensor
    images: Tensor
    residuals: Tensor
    gram: Tensor
    made: int


@dataclass(frozen=True, kw_only=True)
class Anderson:
    """One evaluation a step and a least-squares problem of `memory` unknowns.

    Attributes:
        max_steps: most steps.
        tolerance: largest entry of z - G(z) that counts as zero.
        memory: how many iterates are mixed.
        damping: the share of the images in the mixture, in (0, 1].
        ridge: added to the Gram matrix, relative to its largest entry.

    Raises:
        ParameterError: an option out of its range.
    """

    max_steps: int = 300
    tolerance: float = 1e-10
    memory: int = 6
    damping: float = 1.0
    ridge: float = 1e-14
    kind: ClassVar[Kind] = Kind.ROOT

    def __post_init__(self) -> None:
        check_options(self, "memory", "ridge", shares=["damping"])

    def refuses(self, program: RootProgram) -> str | None:
        """A system that is no fixed point."""
        return refuse_equations(program)

    def solve(self, program: RootProgram, start: Tensor | None = None) -> Solution:
        """Solve every sample; failures are statuses."""
        return solved_by(self, program, start)

    def init(self, program: RootProgram, start: Tensor) -> AndersonState:
        """A memory that holds the start alone."""
        batch, n = start.shape
        state = AndersonState(
            start, program.image(start), start.new_zeros(batch, self.memory, n),
            start.new_zeros(batch, self.memory, n),
            start.new_zeros(batch, self.memory, self.memory), 0,
        )  # fmt: skip
        return self._remembered(state)

    def step(
        self, program: RootProgram, state: AndersonState, active: Tensor
    ) -> AndersonState:
        """Mix, evaluate, remember."""
        known = min(state.made, self.memory)
        weights = self._weights(state.gram[:, :known, :known]).unsqueeze(1)
        point = torch.bmm(weights, state.images[:, :known]).squeeze(1)
        if self.damping != 1:
            mixed = torch.bmm(weights, state.residuals[:, :known]).squeeze(1)
            point = point - (1 - self.damping) * mixed
        point = program.clamp(point)
        return self._remembered(state._replace(point=point, image=program.image(point)))

    def outcome(self, state: AndersonState) -> Outcome:
        """The newest iterate."""
        return Outcome(state.point, size_of(state.point - state.image))

    def retrace(
        self,
        program: RootProgram,
        taken: Taken,
        point: Tensor,
        memory: tuple[tuple[Tensor, Tensor], ...] | None,
    ) -> tuple[Tensor, tuple[tuple[Tensor, Tensor], ...]]:
        """The same mixture, whose weights depend on theta too."""
        pair = point, program.differentiable_image(point)
        memory = (*(memory or ()), pair)[-self.memory :]
        images = torch.stack([image for _, image in memory], 1)
        residuals = images - torch.stack([one for one, _ in memory], 1)
        # The weights of samples that have arrived are quotients of roundings.
        rows = taken.active.view(-1, 1, 1)
        eye = torch.eye(len(memory), dtype=images.dtype, device=images.device)
        gram = torch.where(rows, torch.bmm(residuals, residuals.mT), eye)
        weights = self._weights(gram).unsqueeze(1)
        moved = torch.bmm(weights, images).squeeze(1)
        if self.damping != 1:
            mixed = torch.bmm(weights, residuals).squeeze(1)
            moved = moved - (1 - self.damping) * mixed
        return program.clamp(moved), memory

    def _weights(self, gram: Tensor) -> Tensor:
        """The alpha that make |sum alpha r| least, sum alpha = 1, [B, known]."""
        diagonal = gram.diagonal(dim1=1, dim2=2)
        # Unit diagonal first: residuals of one memory differ by many orders.
        scale = diagonal.clamp_min(torch.finfo(gram.dtype).tiny).rsqrt()
        scaled = gram * scale.unsqueeze(1) * scale.unsqueeze(2)
        eye = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
        ridge = max(self.ridge, 10 * torch.finfo(gram.dtype).eps)
        right = scale.unsqueeze(2)
        solved, _ = torch.linalg.solve_ex(scaled + ridge * eye, right)
        weights = solved.squeeze(2) * scale
        return weights / weights.sum(1, keepdim=True)

    def _remembered(self, state: AndersonState) -> AndersonState:
        """The newest pair in the place of the oldest, and its products with all."""
        place = state.made % self.memory
        residual = state.image - state.point
        state.images[:, place] = state.image
        state.residuals[:, place] = residual
        products = torch.bmm(state.residuals, residual.unsqueeze(2)).squeeze(2)
        state.gram[:, place] = products
        state.gram[:, :, place] = products
        return state._replace(made=state.made + 1)
