"""Newton's method, damped by the natural test; Broyden's update near a solution.

A step is judged by the size of the next correction with the same Jacobian, which does
not change when the equations are scaled or mixed. Source: P. Deuflhard, Newton Methods
for Nonlinear Problems (2004), algorithms NLEQ-ERR and, near a solution, QNERR.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from optlayers.implicit.unrolled import Taken, newton_step
from optlayers.interfaces import Kind
from optlayers.linalg.dense import times
from optlayers.programs.root import Evaluation, RootProgram
from optlayers.solution import Solution, Status
from optlayers.solvers.iterative import RUNNING, Outcome, size_of
from optlayers.solvers.root.options import check_options, solved_by

# Up to this ratio of a correction to the step before it, a sample keeps its Jacobian
# (QNERR's limit). The choice is each sample's own, so that no answer depends on the
# company it is solved in.
KEEP_CONTRACTION = 0.5
# The limit of a sample whose first Jacobian did not last. A batch of such makes one at
# nearly every step, for whichever samples ask; fewer steps then cost least.
RENEWED_CONTRACTION = 0.05
# So many updates are kept as pairs of vectors; the older are multiplied into H.
MOST_UPDATES = 8


class Update(NamedTuple):
    """The matrix I + after before', which multiplies H from the left; [B, n] each."""

    before: Tensor
    after: Tensor


class NewtonState(NamedTuple):
    """Where every sample stands. Lengths are of vectors divided by D, the scale.

    Attributes:
        point, residual: z and F(z), [B, n].
        size: the largest entry of F(z), [B].
        scale: D, the size of the entries of z where J was last computed, [B, n].
        inverse: H = D^-1 J^-1 there, [B, n, n].
        updates: corrections of H since then, oldest first.
        step: H F(z), [B, n]; D times it is subtracted.
        length: its length, [B].
        damping: the share of it to try next, [B].
        is_fresh: whether H is that of z, bool [B].
        keeping: up to which contraction H is kept, [B].
        fault: a status where the method gives up, int8 [B], or None.

    Where every sample has kept its Jacobian, `damping` and `is_fresh` are None: whole
    steps, and no H is that of z.
    """

    point: Tensor
    residual: Tensor
    size: Tensor
    scale: Tensor
    inverse: Tensor
    updates: tuple[Update, ...]
    step: Tensor
    length: Tensor
    damping: Tensor | None
    is_fresh: Tensor | None
    keeping: Tensor
    fault: Tensor | None


class Trial(NamedTuple):
    """A step that was tried from some state.

    Attributes:
        moved: the state with the point and residual of the trial.
        found: the evaluation there, if it can be differentiated.
        correction: H F there, [B, n].
        idle: samples that are finished, whose rows are free, bool [B].
        kept: these, and samples that keep their Jacobian, bool [B].
    """

    moved: NewtonState
    found: Evaluation | None
    correction: Tensor
    idle: Tensor
    kept: Tensor


@dataclass(frozen=True, kw_only=True)
class Newton:
    """Damped Newton method with few dense Jacobians, superlinearly convergent.

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
        check_options(self, shares=["min_damping"])

    def refuses(self, program: RootProgram) -> str | None:
        """Nothing: any square system will do."""
        return None

    def solve(self, program: RootProgram, start: Tensor | None = None) -> Solution:
        """Solve every sample; failures are statuses."""
        return solved_by(self, program, start)

    def init(self, program: RootProgram, start: Tensor) -> NewtonState:
        """Value, Jacobian and first correction at the start."""
        found = program.evaluate(program.clamp(start))
        point, residual = found.point.detach(), found.residual
        scale, inverse = _linearized(found)
        step = times(inverse, residual)
        length = _length(step)
        return NewtonState(
            point, residual, size_of(residual), scale, inverse, (), step, length,
            torch.ones_like(length), torch.ones_like(length, dtype=torch.bool),
            torch.full_like(length, KEEP_CONTRACTION), None,
        )  # fmt: skip

    def step(
        self, program: RootProgram, state: NewtonState, active: Tensor
    ) -> NewtonState:
        """One trial step; a new Jacobian where a sample asks for one."""
        damping, step = state.damping, state.step
        if damping is not None:
            step = step * damping.unsqueeze(1)
        aim = torch.addcmul(state.point, state.scale, step, value=-1)
        point = program.clamp(aim)
        # A Jacobian at the trial is likely to be wanted only where one was just made.
        found = None if damping is None else program.evaluate(point)
        if found is None:
            with torch.no_grad():
                residual = program.residual(point)
        else:
            residual = found.residual
        size = size_of(residual)
        idle = (size <= self.tolerance) | ~active
        new = state._replace(point=point, residual=residual, size=size)
        if idle.all():
            return new
        correction = _corrected(state, residual)
        kept = _length(correction) <= state.keeping * state.length
        if damping is not None:
            kept = kept & (damping == 1)
        if point is not aim:
            kept = kept & (point == aim).all(1)
        kept = kept | idle
        if kept.all():
            return _updated(new, correction, None)
        return self._revised(program, state, Trial(new, found, correction, idle, kept))

    def outcome(self, state: NewtonState) -> Outcome:
        """The last accepted point."""
        return Outcome(state.point, state.size, state.fault)

    def retrace(
        self, program: RootProgram, taken: Taken, point: Tensor, memory: Any
    ) -> tuple[Tensor, None]:
        """A step with the Jacobian of its own point, also where an older one was kept.

        The damping is held constant.
        """
        damping = taken.before.damping
        share = 1.0 if damping is None else damping.unsqueeze(1)
        return newton_step(program, taken, point, share), None

    def _revised(
        self, program: RootProgram, old: NewtonState, trial: Trial
    ) -> NewtonState:
        """Where not all samples keep their Jacobian: shorter steps, new Jacobians."""
        moved, found, correction, idle, kept = trial
        if old.damping is None or old.is_fresh is None:
            old = old._replace(
                damping=torch.ones_like(old.length), is_fresh=torch.zeros_like(idle)
            )
        assert old.damping is not None and old.is_fresh is not None
        # The restricted natural test; NaN fails it.
        limit = (1 - old.damping / 4) * old.length
        accepted = (_length(correction) <= limit) | idle
        rejected = ~accepted
        new = _updated(moved, correction, kept)
        if rejected.any():
            new = self._shortened(old, new, rejected, correction)
            found = None
        # A sample that fails with an older Jacobian gets one where it stands.
        renewing = ~kept & (accepted | ~old.is_fresh)
        new = new._replace(is_fresh=renewing | (rejected & old.is_fresh))
        if not renewing.any():
            return new
        if found is None:
            found = program.evaluate(new.point)
        if not accepted.all():
            old = old._replace(damping=old.damping.masked_fill(rejected, torch.inf))
        fresh = self._renewed(old, new, found, correction)
        if (renewing | idle).all():
            return fresh
        return _merged(renewing, fresh, _forgetful(new, renewing))

    def _shortened(
        self, old: NewtonState, new: NewtonState, rejected: Tensor, correction: Tensor
    ) -> NewtonState:
        """Rejected samples stay where they were, to try a smaller share."""
        damping = old.damping
        assert damping is not None and old.is_fresh is not None
        bend = _length(correction - (1 - damping).unsqueeze(1) * old.step)
        foreseen = 0.5 * old.length * damping.square() / bend
        shorter = torch.fmin(foreseen, damping / 2).clamp_min(damping / 10)
        shorter = torch.where(shorter.isfinite(), shorter, damping / 10)
        # Without a finite correction the Jacobian is singular or not finite.
        is_lost = (shorter < self.min_damping) | ~old.length.isfinite()
        stalled = rejected & old.is_fresh & is_lost
        fault = old.fault
        if fault is None:
            fault = torch.full_like(rejected, RUNNING, dtype=torch.int8)
        fault = fault.masked_fill(stalled, int(Status.STALLED))
        kept = old._replace(damping=shorter, updates=new.updates)
        return _merged(rejected, kept, new)._replace(fault=fault)

    def _renewed(
        self, old: NewtonState, new: NewtonState, found: Evaluation, correction: Tensor
    ) -> NewtonState:
        """Every sample with the Jacobian at its new point, and the damping foreseen."""
        assert old.damping is not None
        scale, inverse = _linearized(found)
        step = times(inverse, new.residual)
        length = _length(step)
        change = _length(correction * (old.scale / scale) - step)
        longer = old.damping * old.length * _length(correction) / (change * length)
        least = min(1.0, 10 * self.min_damping)
        return new._replace(
            scale=scale, inverse=inverse, updates=(), step=step, length=length,
            damping=longer.nan_to_num(nan=1.0).clamp(least, 1.0),
            keeping=torch.full_like(length, RENEWED_CONTRACTION),
        )  # fmt: skip


def _corrected(state: NewtonState, residual: Tensor) -> Tensor:
    """H F with the updates of H, [B, n]."""
    correction = times(state.inverse, residual)
    for before, after in state.updates:
        share = _dot(before, correction).unsqueeze(1)
        correction = torch.addcmul(correction, share, after)
    return correction


def _updated(new: NewtonState, correction: Tensor, kept: Tensor | None) -> NewtonState:
    """The next step with H updated by Broyden's good method, QNERR's recursion.

    Args:
        new: at the new point, still with the step that led there.
        correction: H F(z), not yet updated.
        kept: the samples that keep their H, bool [B]; None if all do. Others get H as
            it was.
    """
    before = new.step / new.length.square().unsqueeze(1)
    longer = 1 / (1 - _dot(before, correction))
    step = correction * longer.unsqueeze(1)
    update = Update(before, step)
    if kept is not None:
        rows = kept.unsqueeze(1)
        # Not `before` alone: a step that is not finite times zero is not zero.
        update = Update(*(torch.where(rows, one, 0.0) for one in update))
    inverse, updates = new.inverse, (*new.updates, update)
    if len(updates) > MOST_UPDATES:
        (first, last), *rest = updates
        row = torch.bmm(first.unsqueeze(1), inverse)
        inverse, updates = inverse + last.unsqueeze(2) * row, tuple(rest)
    return new._replace(
        inverse=inverse, updates=updates, step=step, length=_length(step),
        damping=None if kept is None else torch.ones_like(new.length), is_fresh=None,
    )  # fmt: skip


def _forgetful(state: NewtonState, rows: Tensor) -> NewtonState:
    """The state without the updates of some samples."""
    rows = rows.unsqueeze(1)
    updates = [Update(u.before.masked_fill(rows, 0.0), u.after) for u in state.updates]
    return state._replace(updates=tuple(updates))


def _merged(chosen: Tensor, first: NewtonState, second: NewtonState) -> NewtonState:
    """The chosen samples of the first; all else, updates too, of the second."""

    def merge(one: Any, other: Any) -> Any:
        if one is other or not isinstance(one, Tensor) or not isinstance(other, Tensor):
            return other
        rows = chosen.view(-1, *[1] * (one.ndim - 1))
        return torch.where(rows, one, other)

    return NewtonState(*map(merge, first, second))


def _linearized(found: Evaluation) -> tuple[Tensor, Tensor]:
    """D and D^-1 J^-1, [B, n] and [B, n, n]."""
    scale = found.point.detach().abs().clamp_min(1.0)
    return scale, _inverse(found.jacobian()) / scale.unsqueeze(2)


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
    return torch.linalg.inv_ex(jacobian.mT)[0].mT


def _dot(one: Tensor, other: Tensor) -> Tensor:
    # Of rows of 2 or 3 numbers, `sum` takes 2.5 times as long.
    return (one * other) @ one.new_ones(one.shape[1])


def _length(scaled: Tensor) -> Tensor:
    return torch.linalg.vector_norm(scaled, dim=1)
