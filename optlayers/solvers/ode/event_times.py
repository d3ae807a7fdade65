"""Derivatives of the time and the state at which an event was found.

t_e = t - (g(t, x) - sg g) / sg(dg/dt), x_e = x moved along the flow by t_e - t, where
sg stops derivatives: the values stay, and done twice, derivatives are right up to two.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from optlayers.errors import SingularError
from optlayers.implicit.moved_times import moved
from optlayers.programs.initial_value import Event, FieldFunction


class Crossing(NamedTuple):
    """Where an event was found.

    Attributes:
        rows: the samples in which it was, bool [B].
        time: t_e of these, and any time of the others, [B].
        state: x_e, [B, n], likewise.
    """

    rows: Tensor
    time: Tensor
    state: Tensor


def slope(
    event: Event, field: FieldFunction, time: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """dg/dt along the solution, [B], and how large its terms are, [B]; no graph."""
    with torch.no_grad():
        rate = field(time, state)
    # What inference mode has made cannot be differentiated; copies can.
    was_inference = torch.is_inference_mode_enabled()
    with torch.inference_mode(False), torch.enable_grad():
        t, x = time.detach().clone(), state.detach().clone()
        try:
            value = event.value(t.requires_grad_(), x.requires_grad_())
        except RuntimeError:
            if not was_inference:
                raise
            value = t.detach()
        if value.requires_grad:
            in_time, in_state = torch.autograd.grad(
                value.sum(), (t, x), allow_unused=True, materialize_grads=True
            )
            terms = in_state * rate.clone()
            return in_time + terms.sum(1), in_time.abs() + terms.abs().sum(1)
    return _difference(event, time, state, rate)


@torch.no_grad()
def _difference(
    event: Event, time: Tensor, state: Tensor, rate: Tensor
) -> tuple[Tensor, Tensor]:
    """The same by a forward difference, of what autograd does not see through."""
    ahead = torch.finfo(time.dtype).eps ** 0.5 * time.abs().clamp_min(1.0)
    later = event.value(time + ahead, torch.addcmul(state, ahead.unsqueeze(1), rate))
    change = (later - event.value(time, state)) / ahead
    return change, change.abs()


def differentiable(
    event: Event, name: str, field: FieldFunction, crossing: Crossing, least: Tensor
) -> Crossing:
    """The same crossing, with the derivative of its time.

    Args:
        event: which was found.
        name: of it in error messages.
        field: f, as it is before the event.
        crossing: its time has no graph, its state that of the steps.
        least: a rate of change of g that is none, [B].

    Raises:
        SingularError: later, when the derivative is taken of a crossing at which g does
            not change to first order.
    """
    rows, time, state = crossing
    change, terms = slope(event, field, time, state)
    # Rounding of the sum leaves so much of its terms.
    noise = 4 * torch.finfo(time.dtype).eps * terms
    flat = rows & ~(change.abs() > torch.maximum(noise, least))
    sound = rows & ~flat
    change = torch.where(sound, change, 1.0)
    at, place = time, state
    for _ in range(2):
        value = event.value(at, place)
        offset = torch.where(sound, (value - value.detach()) / change, 0.0)
        at = at - offset
        place = moved(field, time, state, at - time)
    if bool(flat.any()):
        at = _Flat.apply(at, state, flat, name, _first(flat, time))
        place = moved(field, time, state, at - time)
    return Crossing(rows, at, place)


def _first(flat: Tensor, time: Tensor) -> tuple[int, float]:
    """The first of some samples, and its time."""
    row = int(flat.to(torch.int8).argmax())
    return row, float(time[row])


class _Flat(torch.autograd.Function):
    """Identity in the time; an error where a derivative of flat rows is asked for."""

    @staticmethod
    def forward(
        ctx: Any,
        time: Tensor,
        state: Tensor,
        flat: Tensor,
        name: str,
        where: tuple[int, float],
    ) -> Tensor:
        ctx.name, ctx.where = name, where
        ctx.save_for_backward(flat)
        return time.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,), (flat,) = gradients, ctx.saved_tensors
        if bool((gradient[flat] != 0).any()):
            row, time = ctx.where
            raise SingularError(
                f"{ctx.name} touches zero without crossing it in sample {row} at t = "
                f"{time:.6g}: its rate of change along the solution is zero there, so "
                "the time of the event has no derivative. Detach what depends on it, "
                "or let the event function cross zero with a slope."
            )
        return gradient, None, None, None, None
