"""The derivative by the adjoint equation, integrated backward, in little memory.

lambda' = -(df/dx)' lambda, with a jump by the gradient of each save; the gradient of a
parameter p is the integral of lambda' df/dp.
Source: L. S. Pontryagin et al. (1962); R. T. Q. Chen et al., Neural ODE (2018).
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from optlayers.errors import SolveError, SolverRefused
from optlayers.implicit.adjoint_states import (
    JoinedStates,
    LookedUpStates,
    States,
    adjoint_field,
)
from optlayers.implicit.closures import closures, leaves, products, with_copies
from optlayers.implicit.failed import replace_failed
from optlayers.implicit.guard import limit_derivatives, seal
from optlayers.implicit.recorded import (
    Stepping,
    Steps,
    between_stops,
    over_steps,
    record,
    within,
)
from optlayers.programs.initial_value import InitialValueProgram
from optlayers.solution import Solution

# Steps whose share of the integrals over parameters is taken at once.
TOGETHER = 64
# Nodes and weights of the Gauss-Legendre rule of order 6 on [0, 1].
NODES = (0.5 - 0.15**0.5, 0.5, 0.5 + 0.15**0.5)
WEIGHTS = (5 / 18, 8 / 18, 5 / 18)


def backsolve(program: InitialValueProgram, solver: Stepping) -> Solution:
    """Integrate, with the derivative of order 1 of the solution itself, not its steps.

    The state is integrated backward together with lambda, between save times, each
    sample with its own steps; the integrals over parameters are not part of the error
    that chooses them. The gradient is as accurate as this second integration.

    Fields that contract strongly forward are unstable backward. So where an implicit
    method has made steps, their states are kept, and lambda alone, which then
    contracts, is integrated: memory grows with the steps, but holds no graph. Where
    states come back elsewhere than they were, the same is done between two save times
    at a time, after these steps have been taken once more.

    Args:
        program: of B samples; times carry no gradient here.
        solver: for both ways.

    Raises:
        NotSupported: what the field closes over cannot be found.
        SolveError: later, where the way back fails.
        SolverRefused: later, where the solver does not take the adjoint equation.
        OrderError: later, when a second derivative is taken.
    """
    solved, steps = _solved(program, solver)
    forward = program.increasing()
    values, times = replace_failed((solved.value, forward.times), solved.ok)
    found = closures(forward.rate, times[:, 0], values[:, 0])
    way = _Way(forward, solver, values, times.detach(), tuple(found), steps)
    with torch.enable_grad():
        value = _Backsolve.apply(solved.value, way, program.initial, *found)
        assert isinstance(value, Tensor)
        return replace(solved, value=limit_derivatives(value, 1))


def _solved(
    program: InitialValueProgram, solver: Stepping
) -> tuple[Solution, Steps | None]:
    """The solution, and the steps that led to it if an implicit method made any."""
    if solver.is_for_stiff:
        solved, steps = record(program, solver)
        is_stiff = any(stepper.is_implicit for _, stepper in steps.methods)
        return solved, steps if is_stiff and len(steps.times) else None
    with torch.no_grad():
        return solver.solve(program), None


class _Passed(NamedTuple):
    """What the way back from one save time to the one before has brought.

    Attributes:
        adjoint: lambda at its end, [B, n].
        shares: of the integrals over parameters.
        lost: which samples have not come back, bool [B].
        stopped: where they stand, [B].
    """

    adjoint: Tensor
    shares: list[Tensor]
    lost: Tensor
    stopped: Tensor

    def joined(self, other: "_Passed") -> "_Passed":
        """Both, of different samples."""
        shares = [a + b for a, b in zip(self.shares, other.shares, strict=True)]
        return other._replace(adjoint=self.adjoint + other.adjoint, shares=shares)


@dataclass(frozen=True, eq=False)
class _Way:
    """What the way back needs.

    Attributes:
        program: f and its stops, time running forward.
        solver: of the adjoint equation.
        values: the solution at save times, [B, T, n].
        times: [B, T], increasing.
        closed_over: tensors that f closes over.
        steps: the way there, to look states up; None if they go back with lambda.
    """

    program: InitialValueProgram
    solver: Stepping
    values: Tensor
    times: Tensor
    closed_over: tuple[Tensor, ...]
    steps: Steps | None

    def back(self, gradient: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Gradients of the initial value and of the closures.

        Args:
            gradient: of the values, [B, T, n].
        """
        # The equation is linear in lambda; of size one it suits the tolerances.
        scale = gradient.abs().amax((1, 2), keepdim=True)
        scale = torch.where(scale > 0, scale, 1.0)
        jumps = (gradient / scale).unbind(1)
        scale = scale[:, 0]
        adjoint = jumps[-1]
        sums = [torch.zeros_like(one) for one in self.closed_over]
        astray = torch.zeros_like(adjoint[:, 0], dtype=torch.bool)
        states: States = JoinedStates.of(self.program, self.values)
        if self.steps is not None:
            states = LookedUpStates.along(self.program, self.steps)
        for k in range(len(jumps) - 1, 0, -1):
            # A sample without an adjoint stands for one that failed, or rests.
            moves = (adjoint != 0).any(1)
            if bool(moves.any()):
                passed, astray = self._passed(states, k, adjoint, moves, astray, scale)
                adjoint = passed.adjoint
                sums = [a + b for a, b in zip(sums, passed.shares, strict=True)]
            adjoint = adjoint + jumps[k - 1]
        return adjoint * scale, sums

    def _passed(
        self,
        states: States,
        k: int,
        adjoint: Tensor,
        moves: Tensor,
        astray: Tensor,
        scale: Tensor,
    ) -> tuple[_Passed, Tensor]:
        """The way from save time k to k - 1, and which samples are astray by now.

        Args:
            states: of samples that have come back so far.
            k: from 1 on.
            adjoint: lambda at save time k, [B, n].
            moves: where it is not zero, bool [B].
            astray: samples whose states are to be looked up, bool [B]; where they have
                come back elsewhere once, they would again.
            scale: of the adjoint, [B, 1].
        """
        while True:
            passed = self._segment(states, k, adjoint, moves & ~astray, scale)
            if not bool(passed.lost.any()):
                break
            if isinstance(states, LookedUpStates):
                _refuse(passed, self.times, k)
            astray = astray | passed.lost
        rows = moves & astray
        if bool(rows.any()):
            looked = self._looked_again(k, rows)
            again = self._segment(looked, k, adjoint, rows, scale)
            if bool(again.lost.any()):
                _refuse(again, self.times, k)
            passed = passed.joined(again)
        return passed, astray

    def _looked_again(self, k: int, rows: Tensor) -> States:
        """States of some samples from save time k - 1 to k, by the same steps."""
        start = self.values[:, k - 1].contiguous()
        times = self._between(k - 1, k, rows)
        program = replace(self.program, initial=start, times=times)
        _, steps = record(program, self.solver)
        return LookedUpStates.along(program, steps)

    def _between(self, first: int, last: int, rows: Tensor) -> Tensor:
        """From one save time to another, [B, 2]; all but some samples rest."""
        times = self.times[:, [first, last]]
        return torch.where(rows.unsqueeze(1), times, times[:, :1])

    def _segment(
        self, states: States, k: int, adjoint: Tensor, rows: Tensor, scale: Tensor
    ) -> _Passed:
        """The way of some samples; lambda of the others becomes zero."""
        adjoint = torch.where(rows.unsqueeze(1), adjoint, 0.0)
        sums = [torch.zeros_like(one) for one in self.closed_over]
        if not bool(rows.any()):
            return _Passed(adjoint, sums, rows, self.times[:, k])
        program = InitialValueProgram(
            adjoint_field(self.program.rate, states),
            states.begin(k, adjoint),
            -self._between(k, k - 1, rows),
            stops=states.stops,
        )
        try:
            walk = self.solver.walk(program, records=bool(sums))
        except SolverRefused as reason:
            raise SolverRefused(
                'gradient="backsolve" integrates states and adjoints backward with '
                f'the same solver: {reason} Or use gradient="exact" or "checkpoint".'
            ) from None
        stepper = walk.method
        while walk.is_running:
            walk.advance()
            if sums and (walk.count % TOGETHER == 0 or walk.method is not stepper):
                self._add(states, stepper, walk.take_grid(), scale, sums)
                stepper = walk.method
        if sums:
            self._add(states, stepper, walk.take_grid(), scale, sums)
        solved = walk.solution()
        lost = (~solved.ok | states.are_astray(walk, k)) & rows
        last = solved.value[:, -1, -adjoint.shape[1] :].contiguous()
        return _Passed(last, sums, lost, -solved.stats["time"])

    def _add(
        self, states: States, stepper: Any, grid: Any, scale: Tensor, sums: list[Tensor]
    ) -> None:
        """The share of some steps in the integrals over parameters."""
        times, sizes, begins = grid
        count, batch = times.shape
        if not count:
            return
        field = over_steps(self.program.rate, batch)
        time, length, state = times.reshape(-1), sizes.reshape(-1), begins.flatten(0, 1)
        rates = between_stops(adjoint_field(field, states), states.stops, time, length)
        inner = within(stepper, rates, time, length, state, NODES)
        # Node by node: the samples must stay the last axis of the batch.
        inner = inner.transpose(0, 1).flatten(0, 1)
        time = (time + length * state.new_tensor(NODES).unsqueeze(1)).reshape(-1)
        weight = length * state.new_tensor(WEIGHTS).unsqueeze(1)
        weight = weight.view(-1, batch) * scale.squeeze(1)
        point, adjoint = states.apart(time, inner)
        weighted = weight.reshape(-1, 1) * adjoint
        copies = leaves(self.closed_over)
        apart = with_copies(self.program.rate, self.closed_over, copies)
        with torch.enable_grad():
            value = over_steps(apart, batch)(-time, point.contiguous())
        shares = products([value], copies, [weighted])
        for total, share in zip(sums, shares, strict=True):
            total += share


class _Backsolve(torch.autograd.Function):
    """The values of a solution as a function of its start and of closures."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, way: _Way, *inputs: Tensor) -> Tensor:
        ctx.way = way
        ctx.save_for_backward(*inputs)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        with torch.no_grad():
            start, sums = ctx.way.back(gradients[0].detach())
        if torch.is_grad_enabled():
            sources = (gradients[0], *ctx.saved_tensors)
            start, *sums = (seal(one, sources) for one in (start, *sums))
        return None, None, start, *sums


def _refuse(passed: _Passed, times: Tensor, k: int) -> None:
    i = int(passed.lost.nonzero()[0, 0])
    raise SolveError(
        f'gradient="backsolve": the way back from t = {float(times[i, k]):.6g} stopped '
        f"in sample {i} at t = {float(passed.stopped[i]):.6g}. Use a solver for stiff "
        'problems, such as "rodas5p", a smaller rtol, more max_steps, or '
        'gradient="exact" or "checkpoint".'
    )
