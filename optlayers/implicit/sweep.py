"""The derivative of small systems: all steps at once, then one linear recursion.

lambda_i = c_i + Phi_i' lambda_(i+1), Phi_i = dX_(i+1)/dX_i, c_i that of saves in step i
"""

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from optlayers.implicit.guard import limit_derivatives, seal
from optlayers.implicit.recorded import (
    Due,
    Stepping,
    Steps,
    between_stops,
    due,
    interpolated,
    over_steps,
    record,
)
from optlayers.programs.initial_value import InitialValueProgram
from optlayers.solution import Solution

# Numbers in the states of the steps that are evaluated together: their stages and
# graphs should stay in the cache.
TOGETHER = 2**14


def sweep(program: InitialValueProgram, solver: Stepping) -> Solution:
    """Integrate, with a derivative of order 1 by a sweep over all steps.

    Every step is evaluated again from its stored state, many in one batch, so that
    closures get their gradients as from any torch code; the n columns of each step's
    transition matrix take n products. Memory grows with the number of steps.

    Args:
        program: of B samples; times carry no gradient here.
        solver: whose steps are differentiated, exactly.

    Raises:
        OrderError: later, when a second derivative is taken.
    """
    solved, steps = record(program, solver)
    length = max(1, TOGETHER // max(1, program.initial.numel()))
    forward = program.increasing()
    with torch.enable_grad():
        parts = [_part(forward, steps, *one) for one in steps.chunks(length)]
        ends = [one.after for one in parts]
        saved = [one.saved for one in parts]
        value = _Sweep.apply(solved.value, parts, program.initial, *ends, *saved)
        assert isinstance(value, Tensor)
        return replace(solved, value=limit_derivatives(value, 1))


class _Part(NamedTuple):
    """Some steps, evaluated together.

    Attributes:
        before: X_i, [M, n], where derivatives end.
        after: X_(i+1), [M, n].
        saved: the solution at save times within, [K, n].
        wanted: which these are.
    """

    before: Tensor
    after: Tensor
    saved: Tensor
    wanted: Due


def _part(
    program: InitialValueProgram, steps: Steps, stepper: Any, first: int, last: int
) -> _Part:
    """The steps from `first` to before `last`."""
    time = steps.times[first:last].reshape(-1)
    size = steps.sizes[first:last].reshape(-1)
    lifted = over_steps(program.rate, program.batch_size)
    lifted = between_stops(lifted, program.stops, time, size)
    states = steps.states[first:last].flatten(0, 1)
    before = _End.apply(states.requires_grad_())
    assert isinstance(before, Tensor)
    carry = stepper.begin(lifted, time, before)
    step = stepper.step(lifted, time, size, before, carry)
    wanted = due(steps, first, last)
    if len(wanted.save):
        step = stepper.complete(lifted, time, size, before, step)
    saved = interpolated(stepper, before, size, step, wanted)
    return _Part(before, step.state, saved, wanted)


class _End(torch.autograd.Function):
    """Identity that gradients reach and do not pass: no leaf collects them."""

    @staticmethod
    def forward(ctx: Any, state: Tensor) -> Tensor:
        return state.view_as(state)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> None:
        return None


class _Sweep(torch.autograd.Function):
    """The values of a solution as a function of its start, and of every step's result.

    The gradient of a step's result is lambda of its end; autograd carries it from there
    into whatever the field closes over.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor, parts: list[_Part], *inputs: Tensor) -> Tensor:
        ctx.befores = [one.before for one in parts]
        ctx.wanted = [one.wanted for one in parts]
        ctx.save_for_backward(*inputs)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        initial, *results = ctx.saved_tensors
        count = len(ctx.befores)
        ends, saved = results[:count], results[count:]
        with torch.no_grad():
            gradient = gradients[0].detach()
            flat = gradient.reshape(-1, gradient.shape[2])
            of_saved = [flat.index_select(0, one.save) for one in ctx.wanted]
            matrices, sources = [], []
            for before, end, save, of_save in zip(
                ctx.befores, ends, saved, of_saved, strict=True
            ):
                matrices.append(
                    _transitions(end, before).unflatten(0, (-1, *initial.shape[:1]))
                )
                sources.append(_product(save, before, of_save).view(-1, *initial.shape))
            adjoints = _recursion(matrices, sources, initial)
            of_start = adjoints[0] + gradient[:, 0]
            of_ends, first = [], 1
            for end in ends:
                last = first + len(end) // max(1, len(initial))
                of_ends.append(adjoints[first:last].flatten(0, 1))
                first = last
        if torch.is_grad_enabled():
            # Nothing that is made here knows its own derivative.
            sealed = [
                seal(one, (gradients[0], *ctx.saved_tensors))
                for one in (of_start, *of_ends, *of_saved)
            ]
            return None, None, *sealed
        return None, None, of_start, *of_ends, *of_saved


def _transitions(after: Tensor, before: Tensor) -> Tensor:
    """dX_(i+1)/dX_i of M steps, [M, n, n]."""
    size = before.shape[1]
    rows = []
    for k in range(size):
        unit = torch.zeros_like(after)
        unit[:, k] = 1
        rows.append(_product(after, before, unit))
    return torch.stack(rows, 1) if rows else before.new_empty(len(before), 0, 0)


def _product(value: Tensor, point: Tensor, weight: Tensor) -> Tensor:
    """The gradient of the sum of value * weight at the point; the graph is kept."""
    (gradient,) = torch.autograd.grad(
        value, point, weight, retain_graph=True, allow_unused=True,
        materialize_grads=True,
    )  # fmt: skip
    return gradient


def _recursion(matrices: list[Tensor], sources: list[Tensor], like: Tensor) -> Tensor:
    """lambda_0 to lambda_N, [N + 1, B, n], from zero behind the last step."""
    row = torch.zeros_like(like).unsqueeze(1)
    rows = [row]
    for matrix, source in zip(reversed(matrices), reversed(sources), strict=True):
        for phi, c in zip(
            reversed(matrix.unbind(0)), reversed(source.unsqueeze(2).unbind(0)),
            strict=True,
        ):  # fmt: skip
            row = torch.baddbmm(c, row, phi)
            rows.append(row)
    return torch.stack(rows[::-1]).squeeze(2)
