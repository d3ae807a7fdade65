"""The derivative of a solver's own iterations, to compare the implicit one with.

The steps that a solver took are taken again, as functions of the numbers of the
program: z_(k+1) = step(z_k, theta), so that memory grows with their number.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from optlayers.implicit.failed import with_zero_gradient
from optlayers.programs.root import RootProgram


class Taken(NamedTuple):
    """One step of a solver, without derivatives.

    Attributes:
        before, after: the states of the method around it.
        active: which samples took it, bool [B]; what is traced of the others is not
            used, but must be differentiable.
    """

    before: Any
    after: Any
    active: Tensor


@runtime_checkable
class Unrollable(Protocol):
    """A method, as of `iterate`, whose steps can be written as functions of theta."""

    def init(self, program: Any, start: Tensor) -> Any:
        """The state before the first step, at start [B, n]."""
        ...

    def step(self, program: Any, state: Any, active: Tensor) -> Any:
        """The state after one more step of the samples `active`, bool [B]."""
        ...

    def outcome(self, state: Any) -> Any:
        """Where the state stands: `point`, [B, n]."""
        ...

    def retrace(
        self, program: RootProgram, taken: Taken, point: Tensor, memory: Any
    ) -> tuple[Tensor, Any]:
        """The point after a step, differentiable in the point before and in theta.

        Args:
            program: differentiable in its tensors theta.
            taken: the step; decisions, such as a rejection, are read off it.
            point: z before the step, [B, n], differentiable in theta.
            memory: what the last call returned beside its point; None at first.
        """
        ...


def unroll(
    method: Unrollable, program: RootProgram, start: Tensor, steps: Tensor
) -> Tensor:
    """The points that a method finds, with the derivative of the steps to them.

    Differentiable any number of times. A sample that took no step has the derivative
    of its start: zero.

    Args:
        method: the solver that was used.
        program: differentiable in its tensors; of the same batch.
        start: where the search began, [B, n].
        steps: how many steps each sample takes, int64 [B].
    """
    # A leaf, as methods differentiate in the point itself too.
    point = start.detach().requires_grad_()
    memory = None
    if not bool(steps.any()):
        return with_zero_gradient(point, [program.residual(point)])
    with torch.no_grad():
        state = method.init(program, point.detach())
    for number in range(int(steps.max())):
        active = steps > number
        with torch.no_grad():
            after = method.step(program, state, active)
            value = method.outcome(after).point
        taken = Taken(state, after, active)
        moved, memory = method.retrace(program, taken, point, memory)
        # The solver's own value: else roundings of two computations would add up.
        moved = value + (moved - moved.detach())
        point = torch.where(active.unsqueeze(1), moved, point)
        state = after
    return point


def newton_step(
    program: RootProgram, taken: Taken, point: Tensor, damping: Tensor | float
) -> Tensor:
    """z - damping J^-1 F(z) of the samples that went there, z of the others, [B, n].

    Args:
        program: differentiable in its tensors.
        taken: the step; its states have a `point`.
        point: z, [B, n], differentiable in theta, as F and J are too.
        damping: the share of the step, [B, 1] or a number.
    """
    residual = program.residual(point)
    went = taken.active & (taken.after.point != taken.before.point).any(1)
    # What is not gone to may have no inverse.
    eye = torch.eye(program.size, dtype=point.dtype, device=point.device)
    jacobian = jacobian_of(residual, point)
    usable = torch.where(went.view(-1, 1, 1), jacobian, eye)
    step = torch.linalg.solve_ex(usable, residual.unsqueeze(2))[0].squeeze(2)
    moved = program.clamp(point - damping * step)
    return torch.where(went.unsqueeze(1), moved, point)


def jacobian_of(value: Tensor, point: Tensor) -> Tensor:
    """d value / d point of independent rows, [B, n, n], itself differentiable.

    Args:
        value: [B, n], computed from `point`.
        point: [B, n].
    """
    if not value.requires_grad:
        return value.new_zeros(*value.shape, point.shape[1])
    rows = [
        torch.autograd.grad(
            total, point, create_graph=True, materialize_grads=True, allow_unused=True
        )[0]
        for total in value.sum(0)
    ]
    return torch.stack(rows, 1)
