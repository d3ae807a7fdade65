"""States moved along the flow by a time that is zero, for the sake of its derivative.

x(t + d) = x + d f(t + d/2, x + d/2 f(t, x)) + O(d^3): the explicit midpoint rule
"""

from dataclasses import replace

import torch
from torch import Tensor

from optlayers.implicit.failed import replace_failed
from optlayers.programs.initial_value import FieldFunction, InitialValueProgram
from optlayers.solution import Solution


def moved(field: FieldFunction, time: Tensor, state: Tensor, by: Tensor) -> Tensor:
    """The state, bitwise, with its first two derivatives in d.

    Args:
        field: f, finite at the state.
        time: t, [B].
        state: x, [B, n].
        by: d, zero in value, [B].
    """
    column = by.unsqueeze(1)
    middle = state + 0.5 * column * field(time, state)
    return state + column * field(time + 0.5 * by, middle)


def with_still_times(program: InitialValueProgram) -> InitialValueProgram:
    """The program on times without gradient: a change of t0 moves the initial value.

    The initial value is carried along the field from t0 to where t0 stands, which
    leaves the later solution what it is.
    """
    if not program.times.requires_grad:
        return program
    still = program.times.detach()
    start = still[:, 0]
    initial = program.initial
    ok = _is_finite(program.rate, start, initial) & still.isfinite().all(1)
    change, good, at = replace_failed((start - program.times[:, 0], initial, start), ok)
    shifted = moved(program.rate, at, good, change)
    initial = torch.where(ok.unsqueeze(1), shifted, initial)
    return replace(program, initial=initial, times=still)


def with_moved_saves(program: InitialValueProgram, solved: Solution) -> Solution:
    """The solution, whose values move with the times at which they are wanted.

    Args:
        program: with the times that carry gradients.
        solved: of the program with still times.
    """
    if not program.times.requires_grad:
        return solved
    still = program.times.detach()
    sign = torch.sign(still[:, -1:] - still[:, :1])
    # A sample that an event ended has not come to its later save times.
    reached = solved.stats["time"].unsqueeze(1)
    slack = 4 * torch.finfo(still.dtype).eps * still.abs().amax(1, keepdim=True)
    lives = sign * still <= sign * reached + slack
    change = torch.where(lives, program.times - still, 0.0)[:, 1:]
    value, at, change = replace_failed(
        (solved.value[:, 1:], still[:, 1:], change), solved.ok
    )

    def one_time(time: Tensor, state: Tensor, change: Tensor) -> Tensor:
        return moved(program.rate, time, state, change)

    try:
        value = torch.func.vmap(one_time, 1, 1)(at, value, change)
    except RuntimeError:  # an operation that cannot be mapped
        columns = zip(at.unbind(1), value.unbind(1), change.unbind(1), strict=True)
        value = torch.stack([one_time(*one) for one in columns], 1)
    # At t0 itself the solution is the initial value, whatever t0.
    first = program.initial.unsqueeze(1)
    value = torch.cat((first, value), 1)
    value = torch.where(solved.ok.view(-1, 1, 1), value, solved.value)
    return replace(solved, value=value)


@torch.no_grad()
def _is_finite(field: FieldFunction, time: Tensor, state: Tensor) -> Tensor:
    return (field(time, state) + state).isfinite().all(1)
