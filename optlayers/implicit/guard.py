"""A limit on how often a tensor may be differentiated.

A tensor whose derivatives are right only up to some order carries this guard, so that
asking for one more is an error and never a silently wrong number.
"""

from collections.abc import Sequence
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
    return _Limit.apply(value, value, order, order)


def seal(value: Tensor, sources: Sequence[Tensor], order: int = 1) -> Tensor:
    """Return `value`, bitwise, whose derivative in any of the sources is an error.

    Args:
        value: a derivative of order `order` that was made without a graph.
        sources: all that it depends on, as far as they have derivatives.
        order: the highest derivative that is right.

    Raises:
        OrderError: later, when `value` is differentiated.
    """
    for one in sources:
        if one.requires_grad:
            value = _Sealed.apply(value, one, order)
    return value


class _Sealed(torch.autograd.Function):
    """Identity in `value`, which may not be differentiated in `source`."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, source: Tensor, order: int) -> Tensor:
        ctx.order = order
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None]:
        _refuse(ctx.order)
        return None, None, None


class _Trap(torch.autograd.Function):
    """Identity that no derivative may pass: whatever reaches it is one too many."""

    generate_vmap_rule = True

    @staticmethod
    def forward(point: Tensor, order: int) -> Tensor:
        return point.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, ctx.order = inputs
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[None, None]:
        if gradients[0] is not None:
            _refuse(ctx.order)
        return None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor | None:
        # Refused one step later, by the `_Limit` that holds this: a trap is also made
        # where a tangent is present that nobody asks for.
        return None if tangents[0] is None else tangents[0].clone()


class _Limit(torch.autograd.Function):
    """Identity in `x` that may be differentiated `left` more times in `point`.

    Its derivatives are again `_Limit`s, with `left` one smaller, that hold on to
    `point`: for autograd they depend on it, also where they are constant in it, so that
    the derivative one too many reaches the trap.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, point: Tensor, left: int, order: int) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, point, ctx.left, ctx.order = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(point)
        ctx.save_for_forward(point)

    @staticmethod
    def again(ctx: Any, derivative: Tensor | None) -> Tensor:
        (point,) = ctx.saved_tensors
        if derivative is None:
            derivative = torch.zeros_like(point)
        if ctx.left == 1:
            point = _Trap.apply(point, ctx.order)
        return _Limit.apply(derivative, point, ctx.left - 1, ctx.order)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        if not ctx.left:
            return gradient, torch.zeros_like(ctx.saved_tensors[0]), None, None
        if _is_last():
            return gradient, None, None, None
        # The outermost x is the point, which the first gradient reaches anyway.
        is_outermost = ctx.left == ctx.order
        in_point = None if is_outermost else _Limit.again(ctx, None)
        return _Limit.again(ctx, gradient), in_point, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor | None:
        tangent, point_tangent, *_ = tangents
        if ctx.left:
            return _Limit.again(ctx, tangent)
        if point_tangent is not None:
            _refuse(ctx.order)
        return tangent


def _refuse(order: int) -> None:
    raise OrderError(
        f"an output made with order={order} was differentiated {order + 1} times. "
        f"Construct the layer, or call the function, with order={order + 1}."
    )


def _is_last() -> bool:
    """Whether nothing can differentiate the derivative being taken now."""
    return not torch.is_grad_enabled() and forward_ad._current_level < 0


# `apply` asks for the signature at each call; to find it takes half of a guard's time.
for _forward in (_Trap.forward, _Limit.forward):
    _forward.__signature__ = signature(_forward)  # pyright: ignore
