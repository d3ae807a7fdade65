"""Newton's method, damped by the natural test, with reuse of the Jacobian.

Source: P. Deuflhard, Newton Methods for Nonlinear Problems (2004), algorithm NLEQ-ERR:
a step is judged by the size of the next correction with the same Jacobian, which does
not change when the equations are scaled or mixed.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from optlayers.implicit.unrolled import Taken, jacobian_of
from optlayers.interfaces import Kind
from optlayers.programs.root import Evaluation, RootProgram
from optlayers.solution import Solution, Status
from optlayers.solvers.iterative import RUNNING, Outcome, size_of
from optlayers.solvers.root.options import check_options, solved_by

# The Jacobian is kept where few undamped steps with it, which shrink the residual as
# much as the last one did, would be enough: one, and another for every REUSE_SIZE
# unknowns, as a Jacobian costs as much as that many more evaluations. The choice is
# each sample's own, so that no answer depends on the company it is solved in.
REUSE_CONTRACTION = 0.1
REUSE_SIZE = 4


class NewtonState(NamedTuple):
    """Where every sample stands.

    Attributes:
        point, residual: z and F(z), [B, n].
        inverse: J^-1 at the point where J was last computed, [B, n, n].
        step: J^-1 F(z), which is subtracted, [B, n].
        length: its scaled size, [B].
        damping: the share of it to try next, [B].
        fault: a status where the method gives up, int8 [B].
    """

    point: Tensor
    residual: Tensor
    inverse: Tensor
    step: Tensor
    length: Tensor
    damping: Tensor
    fault: Tensor


@dataclass(frozen=True, kw_only=True)
class Newton:
    """Damped Newton method with dense Jacobians, quadratically convergent.

    Attributes:
        max_steps: most trial steps, accepted or not.
        tolerance: largest entry of the residual that counts as zero.
        min_damping: a step that must be shortened below this share has stalled.

    Raises:
        ParameterError: an option out of its range.
    """

    max_steps: int = 100
    tolerance: float = 1e-10
    min_damping: float = 1e-8
    kind: ClassVar[Kind] = Kind.ROOT

    def __post_init__(self) -> None:
        check_options(self, "min_damping")

    def refuses(self, program: RootProgram) -> str | None:
        """Nothing: any square system will do."""
        return None

    def solve(self, program: RootProgram, start: Tensor | None = None) -> Solution:
        """Solve every sample; failures are statuses."""
        return solved_by(self, program, start)

    def init(self, program: RootProgram, start: Tensor) -> NewtonState:
        """Value, Jacobian and first correction at the start."""
        point = program.clamp(start)
        ones = point.new_ones(len(point))
        fault = torch.full_like(ones, RUNNING, dtype=torch.int8)
        found = program.evaluate(point)
        inverse = _inverse(found.jacobian())
        step = _times(inverse, found.residual)
        length = _length(step, _scale(point))
        return NewtonState(point, found.residual, inverse, step, length, ones, fault)

    def step(
        self, program: RootProgram, state: NewtonState, active: Tensor
    ) -> NewtonState:
        """One trial step; a new Jacobian where an accepted step asks for one."""
        damping = state.damping
        trial = state.point - damping.unsqueeze(1) * state.step
        found = program.evaluate(program.clamp(trial))
        residual, scale = found.residual, _scale(state.point)
        correction = _times(state.inverse, residual)
        length = _length(correction, scale)
        contraction = length / state.length
        size = size_of(residual)
        is_solved = size <= self.tolerance
        # The restricted natural test; NaN fails it.
        accepted = (contraction <= 1 - damping / 4) | is_solved
        reusable = (contraction <= REUSE_CONTRACTION) & (damping == 1)
        steps = 1 + program.size // REUSE_SIZE
        reusable = reusable & (contraction**steps * size <= self.tolerance)
        wanting = active & accepted & ~(reusable | is_solved)
        new = NewtonState(
            found.point.detach(), residual, state.inverse, correction, length,
            torch.ones_like(damping), state.fault,
        )  # fmt: skip
        if wanting.any():
            new = _renewed(state, new, found, wanting, 10 * self.min_damping)
        if not (accepted | ~active).all():
            bend = _length(correction - (1 - damping).unsqueeze(1) * state.step, scale)
            new = self._shortened(state, new, active, accepted, bend)
        return new

    def outcome(self, state: NewtonState) -> Outcome:
        """The last accepted point."""
        return Outcome(state.point, size_of(state.residual), state.fault)

    def retrace(
        self,
        program: RootProgram,
        taken: Taken,
        point: Tensor,
        memory: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The same step, whose Jacobian depends on theta too; its damping does not."""
        before: NewtonState = taken.before
        residual = program.residual(point)
        if memory is None:
            jacobian = jacobian_of(residual, point)
        else:
            jacobian, used = memory
            is_new = (before.inverse != used).flatten(1).any(1)
            if is_new.any():
                fresh = jacobian_of(residual, point)
                jacobian = torch.where(is_new.view(-1, 1, 1), fresh, jacobian)
        went = taken.active & (taken.after.point != before.point).any(1)
        # What is not gone to may have no inverse.
        eye = torch.eye(program.size, dtype=point.dtype, device=point.device)
        usable = torch.where(went.view(-1, 1, 1), jacobian, eye)
        step = torch.linalg.solve_ex(usable, residual.unsqueeze(2))[0].squeeze(2)
        moved = program.clamp(point - before.damping.unsqueeze(1) * step)
        moved = torch.where(went.unsqueeze(1), moved, point)
        return moved, (jacobian, before.inverse)

    def _shortened(
        self,
        state: NewtonState,
        new: NewtonState,
        active: Tensor,
        accepted: Tensor,
        bend: Tensor,
    ) -> NewtonState:
        """Rejected samples stay where they were, to try a smaller share."""
        damping = state.damping
        foreseen = 0.5 * state.length * damping.square() / bend
        shorter = torch.fmin(foreseen, damping / 2).clamp_min(damping / 10)
        shorter = torch.where(shorter.isfinite(), shorter, damping / 10)
        # Without a finite correction the Jacobian is singular or not finite.
        is_lost = (shorter < self.min_damping) | ~state.length.isfinite()
        stalled = active & ~accepted & is_lost
        fault = torch.where(stalled, int(Status.STALLED), state.fault).to(torch.int8)
        merged = _merged(accepted, new, state)
        damping = torch.where(accepted, new.damping, shorter)
        return merged._replace(damping=damping, fault=fault)


def _renewed(
    state: NewtonState,
    new: NewtonState,
    found: Evaluation,
    wanting: Tensor,
    least: float,
) -> NewtonState:
    """Some samples with the Jacobian at their new point, and the damping foreseen."""
    inverse = _inverse(found.jacobian())
    step = _times(inverse, new.residual)
    scale = _scale(new.point)
    length = _length(step, scale)
    change = _length(new.step - step, scale)
    longer = state.length * new.length * state.damping / (change * length)
    longer = longer.nan_to_num(nan=1.0).clamp(min(1.0, least), 1.0)
    fresh = new._replace(inverse=inverse, step=step, length=length, damping=longer)
    return fresh if wanting.all() else _merged(wanting, fresh, new)


def _merged(chosen: Tensor, first: NewtonState, second: NewtonState) -> NewtonState:
    """The chosen samples of the first, the others of the second."""

    def merge(one: Tensor, other: Tensor) -> Tensor:
        rows = chosen.view(-1, *[1] * (one.ndim - 1))
        return one if one is other else torch.where(rows, one, other)

    return NewtonState(*map(merge, first, second))


def _inverse(jacobian: Tensor) -> Tensor:
    """J^-1, [B, n, n]; not finite, or useless, where J is singular."""
    size = jacobian.shape[1]
    if size == 1:
        return 1 / jacobian
    if size == 2:
        # Cramer's rule takes a third of the time of a batch of factorizations.
        (a, b), (c, d) = (row.unbind(1) for row in jacobian.unbind(1))
        adjugate = torch.stack([d, -b, -c, a], 1)
        return (adjugate / (a * d - b * c).unsqueeze(1)).view_as(jacobian)
    return torch.linalg.inv_ex(jacobian)[0]


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    return torch.bmm(matrix, vector.unsqueeze(2)).squeeze(2)


def _scale(point: Tensor) -> Tensor:
    return point.abs().clamp_min(1.0)


def _length(step: Tensor, scale: Tensor) -> Tensor:
    """The size of a step relative to that of the point, [B]."""
    return torch.linalg.vector_norm(step / scale, dim=1)
