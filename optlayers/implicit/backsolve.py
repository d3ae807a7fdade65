"""The derivative by the adjoint equation, integrated backward, in little memory.

lambda' = -(df/dx)' lambda, with a jump by the gradient of each save; the gradient of a
parameter p is the integral of lambda' df/dp.
Source: L. S. Pontryagin et al. (1962); R. T. Q. Chen et al., Neural ODE (2018).
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from optlayers.errors import SolveError, SolverRefused
from optlayers.implicit.closures import closures, leaves, products, with_copies
from optlayers.implicit.failed import replace_failed
from optlayers.implicit.guard import limit_derivatives, seal
from optlayers.implicit.path import Path
from optlayers.implicit.recorded import (
    Stepping,
    Steps,
    between_stops,
    over_steps,
    record,
    within,
)
from optlayers.programs.initial_value import FieldFunction, InitialValueProgram
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
    that chooses them. The gradient is as accurate as this second integration. Fields
    that contract strongly forward are unstable backward; so where an implicit method
    has made steps, their states are kept, and lambda alone, which then contracts, is
    integrated: memory grows with the steps, but holds no graph.

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


class States(Protocol):
    """How the way back knows x."""

    def begin(self, k: int, adjoint: Tensor) -> Tensor:
        """What is integrated backward, at save time k, from lambda [B, n] there."""
        ...

    def apart(self, time: Tensor, packed: Tensor) -> tuple[Tensor, Tensor]:
        """x and lambda, each [M, n], at the time -t, [M]."""
        ...

    def rates(self, forward: Tensor, product: Tensor) -> Tensor:
        """The rates of what is integrated, from f and (df/dx)' lambda, [M, n]."""
        ...


class _Joined(NamedTuple):
    """x is integrated backward, together with lambda; it begins anew at each save.

    Attributes:
        values: the solution at save times, [B, T, n].
    """

    values: Tensor

    def begin(self, k: int, adjoint: Tensor) -> Tensor:
        return torch.cat((self.values[:, k], adjoint), 1)

    def apart(self, time: Tensor, packed: Tensor) -> tuple[Tensor, Tensor]:
        size = packed.shape[1] // 2
        return packed[:, :size], packed[:, size:]

    def rates(self, forward: Tensor, product: Tensor) -> Tensor:
        return torch.cat((-forward, product), 1)


class _Looked(NamedTuple):
    """x is looked up, and lambda alone is integrated.

    Attributes:
        path: of x.
    """

    path: Path

    def begin(self, k: int, adjoint: Tensor) -> Tensor:
        return adjoint

    def apart(self, time: Tensor, packed: Tensor) -> tuple[Tensor, Tensor]:
        return self.path.at(-time), packed

    def rates(self, forward: Tensor, product: Tensor) -> Tensor:
        return product


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
        states: States = _Joined(self.values)
        if self.steps is not None:
            states = _Looked(Path(self.program, self.steps))
        # The equation is linear in lambda; of size one it suits the tolerances.
        scale = gradient.abs().amax((1, 2), keepdim=True)
        scale = torch.where(scale > 0, scale, 1.0)
        jumps = (gradient / scale).unbind(1)
        scale = scale[:, 0]
        adjoint = jumps[-1]
        sums = [torch.zeros_like(one) for one in self.closed_over]
        for k in range(len(jumps) - 1, 0, -1):
            adjoint = self._segment(states, k, adjoint, scale, sums) + jumps[k - 1]
        return adjoint * scale, sums

    def _segment(
        self, states: States, k: int, adjoint: Tensor, scale: Tensor, sums: list[Tensor]
    ) -> Tensor:
        """lambda at save time k - 1, before its jump, from lambda at k."""
        stops = self.program.stops
        program = InitialValueProgram(
            _adjoint_field(self.program.rate, states),
            states.begin(k, adjoint),
            -self.times[:, [k, k - 1]],
            stops=None if stops is None else -stops.flip(1),
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
        if not bool(solved.ok.all()):
            _refuse(solved, self.times, k)
        return solved.value[:, -1, -adjoint.shape[1] :].contiguous()

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
        adjoint_field = between_stops(
            _adjoint_field(field, states), self.program.stops, time, length
        )
        inner = within(stepper, adjoint_field, time, length, state, NODES)
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


def _adjoint_field(field: FieldFunction, states: States) -> FieldFunction:
    """The rates of what is integrated, [B, n] or [B, 2 n], in the time -t.

    They carry a graph where a derivative is taken of them: of implicit methods the
    order, or the convergence of the stages, rests on their Jacobian.
    """

    def rate(time: Tensor, packed: Tensor) -> Tensor:
        follows = torch.is_grad_enabled() and (
            packed.requires_grad or time.requires_grad
        )
        with torch.enable_grad():
            point, adjoint = states.apart(time, packed)
            if not (follows and point.requires_grad):
                point = point.detach().requires_grad_()
            forward = field(-time, point)
            product = torch.zeros_like(point)
            if forward.requires_grad:
                (product,) = torch.autograd.grad(
                    forward, point, adjoint, allow_unused=True,
                    materialize_grads=True, create_graph=follows,
                )  # fmt: skip
        if not follows:
            forward = forward.detach()
        return states.rates(forward, product)

    return rate


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


def _refuse(solved: Solution, times: Tensor, k: int) -> None:
    i = int((~solved.ok).nonzero()[0, 0])
    raise SolveError(
        f'gradient="backsolve": the way back from t = {float(times[i, k]):.6g} stopped '
        f"in sample {i} at t = {-float(solved.stats['time'][i]):.6g}: backward in time "
        "the field is unstable or stiff. Use a solver for stiff problems, such as "
        '"rodas5p", which need not go back to earlier states, more save times, or '
        'gradient="exact" or "checkpoint".'
    )
