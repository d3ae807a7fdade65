"""The derivative through all steps in little memory: segments are computed again.

Of N steps about sqrt(N) states are kept; the graph of one segment exists at a time.
Source: A. Griewank, A. Walther, Algorithm 799: revolve (2000), for the idea.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from optlayers.implicit.closures import closures, leaves, products, with_copies
from optlayers.implicit.recorded import (
    Due,
    Stepping,
    Steps,
    between_stops,
    due_of_each,
    interpolated,
    record,
)
from optlayers.programs.initial_value import FieldFunction, InitialValueProgram
from optlayers.solution import Solution


def checkpointed(program: InitialValueProgram, solver: Stepping) -> Solution:
    """Integrate, with the derivatives of the steps, of any order, in little memory.

    The steps are chosen once, without a graph, and taken again twice: to make the
    solution, and segment by segment in the backward pass.

    Args:
        program: of B samples; times carry no gradient here.
        solver: whose steps are differentiated, exactly.

    Raises:
        NotSupported: what the field closes over cannot be found.
    """
    solved, steps = record(program, solver)
    batch, count = program.times.shape
    forward = program.increasing()
    state = program.initial
    ok = solved.ok.unsqueeze(1)
    if not bool(ok.all()):
        # Failed samples go along with one that did not fail, and drop out at the end.
        state = torch.where(ok, state, steps.states[:1].sum(0))
    found = closures(forward.rate, forward.times[:, 0], state.detach())
    with torch.enable_grad():
        carry, before = state, None
        parts, wanted = [program.initial], due_of_each(steps)
        order = [torch.arange(batch, device=state.device) * count]
        order += [one.save for one in wanted]
        for stepper, first, last in steps.chunks(max(1, isqrt(len(steps.times)))):
            if stepper is not before:
                carry = stepper.begin(forward.rate, steps.times[first], state)
                before = stepper
            segment = _Segment(forward, stepper, steps, wanted, first, last, found)
            state, carry, *saved = _Replay.apply(segment, state, carry, *found)
            parts += saved
        value = _placed(torch.cat(parts), torch.cat(order), solved.value)
        return replace(solved, value=torch.where(ok.unsqueeze(2), value, solved.value))


@dataclass(frozen=True, eq=False)
class _Segment:
    """The steps from `first` to before `last`, as a function of where they begin."""

    program: InitialValueProgram
    stepper: Any
    steps: Steps
    wanted: list[Due]
    first: int
    last: int
    closed_over: list[Tensor]

    def taken(
        self, rate: FieldFunction, state: Tensor, carry: Tensor
    ) -> tuple[Tensor, ...]:
        """The state and carry at the end, and the solution at save times within."""
        saved, stepper, stops = [], self.stepper, self.program.stops
        for i in range(self.first, self.last):
            time, size = self.steps.times[i], self.steps.sizes[i]
            field = between_stops(rate, stops, time, size)
            if stops is not None:
                carry = stepper.begin(field, time, state)
            step = stepper.step(field, time, size, state, carry)
            wanted = self.wanted[i]
            if len(wanted.save):
                step = stepper.complete(field, time, size, state, step)
                saved.append(interpolated(stepper, state, size, step, wanted))
            else:
                saved.append(state[:0])
            state, carry = step.state, step.carry
        return state, carry, *saved

    def again(
        self, inputs: Sequence[Tensor], weights: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        """The gradients in state, carry and closures.

        Args:
            inputs: these.
            weights: gradients of what `taken` returns.
        """
        is_last = not torch.is_grad_enabled()
        with torch.enable_grad():
            # Aliases: what one depends on must not count for the other.
            points = leaves(inputs) if is_last else [one.view_as(one) for one in inputs]
            copies = points[2:]
            rate = with_copies(self.program.rate, self.closed_over, copies)
            values = self.taken(rate, *points[:2])
            if is_last:
                return products(values, points, weights)
            return _products_with_graph(values, points, weights)


class _Replay(torch.autograd.Function):
    """A segment that keeps nothing but its beginning."""

    @staticmethod
    def forward(ctx: Any, segment: _Segment, *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.segment = segment
        ctx.save_for_backward(*inputs)
        return segment.taken(segment.program.rate, *inputs[:2])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return None, *ctx.segment.again(ctx.saved_tensors, gradients)


def _products_with_graph(
    values: Sequence[Tensor], points: Sequence[Tensor], weights: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """The same gradients as `products`, to be differentiated again."""
    pairs = zip(values, weights, strict=True)
    used = [(one, weight) for one, weight in pairs if one.requires_grad]
    inputs = [one for one in points if one.requires_grad]
    if not used:
        return tuple(torch.zeros_like(one) for one in points)
    values, weights = zip(*used, strict=True)
    found = torch.autograd.grad(
        values, inputs, weights, create_graph=True, allow_unused=True,
        materialize_grads=True,
    )  # fmt: skip
    found = iter(found)
    return tuple(
        next(found) if one.requires_grad else torch.zeros_like(one) for one in points
    )


def _placed(values: Tensor, order: Tensor, solution: Tensor) -> Tensor:
    """The solution, bitwise, with the derivatives of values [K, n] at places [K]."""
    flat = solution.reshape(-1, solution.shape[2])
    moved = values - values.detach()
    return flat.index_add(0, order, moved).view_as(solution)
