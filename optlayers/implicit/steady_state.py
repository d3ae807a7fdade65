"""The derivative of a final value that has come to rest: f(t1, x) = 0.

By the implicit function theorem, whatever the way there: dx = -(df/dx)^-1 df.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from optlayers.errors import NotSupported, SolveError
from optlayers.implicit.attach import attach
from optlayers.implicit.failed import replace_failed
from optlayers.programs.initial_value import InitialValueProgram
from optlayers.programs.root import RootProgram
from optlayers.solution import Solution, Status

# How far from rest a final value may be, relative to its size and to 1.
NEAR = 1e-4


def attach_steady_state(
    program: InitialValueProgram, solved: Solution, order: int
) -> Solution:
    """Give the last values the derivative of a steady state.

    The first value is the initial one, which has no influence on the last. Values in
    between have no derivative; a backward pass that asks for one raises.

    Args:
        program: of B samples, with all gradients.
        solved: without gradients.
        order: how often the values may be differentiated.

    Returns:
        A `Solution` in which samples that have not come to rest are `STALLED`; its
        `stats` have "distance" [B], from the steady state by one step of Newton's
        method, relative to the size of the state and to 1.
    """
    final, time = replace_failed((solved.value[:, -1], program.times[:, -1]), solved.ok)
    root = _root(program, time, final)
    operator = root.linearize(final)
    with torch.no_grad():
        move = operator.solve(root.residual(final))
        distance = (move.abs() / final.abs().clamp_min(1.0)).amax(1)
        distance = torch.where(operator.condition.isfinite(), distance, torch.inf)
        rests = distance <= NEAR
    status = torch.where(solved.ok & ~rests, int(Status.STALLED), solved.status)
    ok = status == Status.SOLVED
    final, time = replace_failed((solved.value[:, -1], program.times[:, -1]), ok)
    root = _root(program, time, final)
    with torch.enable_grad():
        point = attach(final, root, order, root.linearize(final)).point
        point = torch.where(ok.unsqueeze(1), point, solved.value[:, -1])
        value = _with_earlier(program, solved.value, point)
    stats = dict(solved.stats) | {"distance": distance}
    return replace(solved, value=value, status=status.to(torch.int8), stats=stats)


def _with_earlier(program: InitialValueProgram, value: Tensor, last: Tensor) -> Tensor:
    """Values [B, T, n] of which the last, [B, n], has its derivative."""
    if value.shape[1] == 1:
        return last.unsqueeze(1)
    first, between = program.initial.unsqueeze(1), value[:, 1:-1]
    if between.shape[1]:
        between = _OnTheWay.apply(between, program.times, program.initial, last)
    return torch.cat((first, between, last.unsqueeze(1)), 1)


class _OnTheWay(torch.autograd.Function):
    """Values before the last; an error where their derivative is asked for."""

    @staticmethod
    def forward(
        ctx: Any, value: Tensor, times: Tensor, initial: Tensor, last: Tensor
    ) -> Tensor:
        ctx.save_for_backward(times)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,), (times,) = gradients, ctx.saved_tensors
        asked = (gradient != 0).any(2).nonzero()
        if len(asked):
            i, k = asked[0].tolist()
            raise NotSupported(
                'gradient="steady_state" differentiates the last value alone, and the '
                f"gradient of sample {i} at save time {k + 1}, t = "
                f"{float(times[i, k + 1]):.6g}, is not zero. Read the last time only "
                '(x[..., -1, :]), detach the others, or use gradient="exact".'
            )
        state = torch.zeros_like(gradient[:, 0])
        return None, torch.zeros_like(times), state, state


def refuse_moving(solved: Solution, started: Solution) -> None:
    """Raise where samples arrived but have not come to rest.

    Args:
        solved: of `attach_steady_state`.
        started: what it was given.

    Raises:
        SolveError: names the first sample and its distance.
    """
    moving = (started.ok & ~solved.ok).nonzero()[:, 0].tolist()
    if not moving:
        return
    i = moving[0]
    raise SolveError(
        f'gradient="steady_state": {len(moving)} of {len(solved.status)} samples have '
        f"not come to rest at their last time; sample {i} is "
        f"{float(solved.stats['distance'][i]):.1e} of its size away from f(t1, x) = 0, "
        f'allowed are {NEAR:.0e}. Integrate longer, or use gradient="exact".'
    )


def _root(program: InitialValueProgram, time: Tensor, point: Tensor) -> RootProgram:
    batch, size = point.shape
    return RootProgram(lambda state: program.rate(time, state), batch, size)
