"""A limit on how often a tensor may be differentiated.

A tensor whose derivatives are right only up to some order carries this guard, so that
asking for one more is an error and never a silently wrong number.
"""

from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from optlayers.errors import OrderError


def limit_derivatives(value: Tensor, order: int) -> Tensor:
    """Return `value`, bitwise, to be differentiated at most `order` times.

    Inside `torch.compile`, which takes no `autograd.Function` with a `jvp` of its own,
    the derivative of order `order` + 1 is not finite instead of an error.

    Args:
        value: any tensor with a derivative.
        order: the highest derivative that is right, 1 or more.

    Raises:
        OrderError: later, when the derivative of order `order` + 1 is taken.
    """
    if torch.compiler.is_compiling():
        # Zero, and so are its first `order` derivatives: t^(order + 1/2) at t = 0.
        return value + (value - value.detach()).pow(order + 0.5)
    return _Limit.apply(value, _Wire.apply(value, order), order, order)


def _refuse(order: int) -> None:
    raise OrderError(
        f"an output made with order={order} was differentiated {order + 1} times. "
        f"Construct the layer, or call the function, with order={order + 1}."
    )


class _Wire(torch.autograd.Function):
    """Identity that knows nothing to pass on: whatever reaches it is one too many.

    It passes tangents, so that forward over anything still sees the dependence.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, order: int) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, ctx.order = inputs
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> None:
        if gradients[0] is not None:
            _refuse(ctx.order)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor | None:
        return None if tangents[0] is None else tangents[0].clone()


class _Limit(torch.autograd.Function):
    """Identity in `x`, whose derivative is again a `_Limit`, with `left` one smaller.

    `wire` depends on the point: it is saved, so that the derivative keeps a node that
    is reached once `left` is used up.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, wire: Tensor, left: int, order: int) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, wire, ctx.left, ctx.order = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(wire)
        ctx.save_for_forward(wire)

    @staticmethod
    def again(ctx: Any, derivative: Tensor | None) -> Tensor:
        (wire,) = ctx.saved_tensors
        if derivative is None:
            derivative = torch.zeros_like(wire)
        return _Limit.apply(derivative, wire, ctx.left - 1, ctx.order)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        if _is_last():
            return gradient, None, None, None
        if ctx.left:
            return _Limit.again(ctx, gradient), None, None, None
        return gradient, torch.zeros_like(ctx.saved_tensors[0]), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor | None:
        tangent, wire_tangent, *_ = tangents
        if ctx.left:
            return _Limit.again(ctx, tangent)
        if wire_tangent is not None:
            _refuse(ctx.order)
        return tangent


def _is_last() -> bool:
    """Whether nothing can differentiate the derivative being taken now."""
    return not torch.is_grad_enabled() and forward_ad._current_level < 0


# `apply` asks for the signature at each call; to find it takes half of a guard's time.
for _forward in (_Wire.forward, _Limit.forward):
    _forward.__signature__ = signature(_forward)  # pyright: ignore
