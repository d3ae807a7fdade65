"""The derivatives of a field f(t, x) in state and time, by autograd.

Rows are independent: one product with the transposed Jacobian is one of all samples.
"""

from contextlib import suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor

from optlayers.programs.initial_value import FieldFunction

# Up to this many states one product with the transposed Jacobian after the other is
# as fast as all at once.
LOOPED_ROWS = 3


class Linearization(NamedTuple):
    """f and its derivatives at one time and state of each sample.

    Attributes:
        rate: f, [B, n].
        jacobian: df/dx, [B, n, n].
        drift: df/dt, [B, n]; None where f is not seen to depend on t.
    """

    rate: Tensor
    jacobian: Tensor
    drift: Tensor | None


def linearization(
    field: FieldFunction, time: Tensor, state: Tensor, *, differentiable: bool = False
) -> Linearization:
    """f, df/dx and df/dt at [B] and [B, n].

    One evaluation and n products with the transposed Jacobian, each of all rows.

    Args:
        field: f.
        time: t, [B].
        state: x, [B, n].
        differentiable: whether the result carries a graph; f is differentiated once
            more than the result then.
    """
    if torch.compiler.is_compiling():
        return _traced(field, time, state)
    batch, size = state.shape
    with torch.enable_grad():
        if differentiable and (state.requires_grad or time.requires_grad):
            # What f closes over may depend on the very same tensors.
            point, at = _Aliases.apply(state, time)
        else:
            point = state.detach().requires_grad_()
            at = time.detach().requires_grad_()
        rate = field(at, point)
        rows = drift = None
        if rate.requires_grad and size:
            rows, drift = _derivatives(rate, point, at, differentiable)
    if rows is None:
        rows = state.new_zeros(batch, size, size)
    return Linearization(rate if differentiable else rate.detach(), rows, drift)


def _traced(field: FieldFunction, time: Tensor, state: Tensor) -> Linearization:
    """The same by `torch.func`, which a compiler can follow; df/dt is never None."""
    size = state.shape[1]
    found = torch.func.vjp(lambda x, t: field(t, x), state, time)
    rate, pull = found  # pyright: ignore[reportAssignmentType]
    unit = torch.eye(size, dtype=rate.dtype, device=rate.device)
    if size > LOOPED_ROWS:
        unit = unit.unsqueeze(1).expand(-1, *rate.shape)
        rows, drift = torch.func.vmap(pull)(unit)
        return Linearization(rate, rows.movedim(0, 1), drift.t())
    pairs = [pull(unit[k].expand_as(rate)) for k in range(size)]
    rows, drift = (torch.stack(parts, 1) for parts in zip(*pairs, strict=True))
    return Linearization(rate, rows, drift)


class _Aliases(torch.autograd.Function):
    """Both inputs as outputs of one node.

    A derivative in them visits only what was made after it: in a leaf, such as a time
    often is, it would visit all steps that led to the state.
    """

    @staticmethod
    def forward(ctx: Any, state: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        return state.view_as(state), time.view_as(time)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        return gradients  # pyright: ignore


def _derivatives(
    rate: Tensor, point: Tensor, time: Tensor, differentiable: bool
) -> tuple[Tensor | None, Tensor | None]:
    """df/dx [B, n, n] and df/dt [B, n]; None where there is no path."""
    size, inputs = rate.shape[1], (point, time)
    unit = torch.eye(size, dtype=rate.dtype, device=rate.device)
    unit = unit.unsqueeze(1).expand(-1, *rate.shape)
    if size > LOOPED_ROWS:
        with suppress(RuntimeError):  # an operator in f that cannot be mapped
            rows, drift = torch.autograd.grad(
                rate, inputs, unit, retain_graph=True, is_grads_batched=True,
                create_graph=differentiable, allow_unused=True,
            )  # fmt: skip
            return (
                None if rows is None else rows.movedim(0, 1),
                None if drift is None else drift.t(),
            )
    rows, drift = [], []
    for k, one in enumerate(unit.unbind()):
        row, slope = torch.autograd.grad(
            rate, inputs, one, create_graph=differentiable, allow_unused=True,
            retain_graph=differentiable or k + 1 < size,
        )  # fmt: skip
        rows.append(row)
        drift.append(slope)
    return _stacked(rows, point), _stacked(drift, time)


def _stacked(parts: list[Tensor | None], like: Tensor) -> Tensor | None:
    if all(one is None for one in parts):
        return None
    whole = [torch.zeros_like(like) if one is None else one for one in parts]
    return torch.stack(whole, 1)
