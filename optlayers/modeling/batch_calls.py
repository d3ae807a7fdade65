"""Torch functions and modules that take a batch in front as they take a sample.

What is not listed here is called sample by sample, under vmap.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from optlayers.geometry.groups import GROUPS
from optlayers.modeling.atoms import signals
from optlayers.modeling.atoms.batch_rules import (
    BatchCall,
    Node,
    elementwise,
    on_aligned,
    on_repeated,
)
from optlayers.modeling.foreign import Slot, fill

Template = tuple[Any, Any]


def batched_call(
    function: Callable[..., Any], template: Template, node: Node
) -> BatchCall | None:
    """A torch function for a batch, or None where it must be mapped.

    Args:
        function: of torch.
        template: its positional and named arguments, with slots.
        node: the call, as a function of the operands alone.
    """
    rule = _RULES.get(function)
    return None if rule is None else rule(function, template, node)


def _entry_by_entry(_: Any, template: Template, node: Node) -> BatchCall | None:
    values = (*template[0], *template[1].values())
    return elementwise(node) if all(map(_is_plain, values)) else None


def _is_plain(value: Any) -> bool:
    return isinstance(value, Slot | bool | int | float | str | None)


def _along_axis(
    function: Callable[..., Any], template: Template, node: Node
) -> BatchCall | None:
    """Of one operand and an axis, which is counted from the end once it is batched."""
    positional, named = template
    given = {**dict(zip(("", "dim"), positional, strict=False)), **named}
    if given.pop("", None) != Slot(0) or len(positional) > 2 or not node.ndim:
        return None
    dim = given.get("dim")
    if not isinstance(dim, int):
        return None
    given["dim"] = dim if dim < 0 else dim - node.ndim
    return partial(function, **given)


def _with_batch_axis(_: Any, __: Template, node: Node) -> BatchCall:
    """Of functions that take a batch in front of all their operands."""
    return on_repeated(node, lambda tensors: node.function(*tensors))


def _of_poses(function: Any, template: Template, node: Node) -> BatchCall | None:
    """Of poses or tangents on the last axes; a batch stands in front of them."""
    return function if template == ((Slot(0),), {}) else None


def _action(function: Any, template: Template, node: Node) -> BatchCall | None:
    """Of poses [*k, n, n] on points [*m, d], whose leading axes broadcast."""
    if template != ((Slot(0), Slot(1)), {}):
        return None
    poses, points = node.shapes
    leading = (poses[:-2], points[:-1])
    return on_aligned(function, leading, node.batched, max(map(len, leading)))


def filled(function: Callable[..., Any], template: Template) -> Callable[..., Any]:
    """The function of a call's operands alone."""
    positional, named = template

    def call(*operands: Any) -> Any:
        return function(*fill(positional, operands), **fill(named, operands))

    return call


_NAMES = {
    _entry_by_entry: (
        "sin cos tan asin acos atan arcsin arccos arctan sinh cosh tanh asinh acosh "
        "atanh arcsinh arccosh arctanh sigmoid expit exp2 expm1 log2 log10 logit erf "
        "erfc erfinv lgamma digamma sinc sign sgn floor ceil round trunc frac deg2rad "
        "rad2deg nan_to_num heaviside hardtanh leaky_relu elu selu celu gelu silu mish "
        "softsign logsigmoid hardsigmoid hardswish relu6 tanhshrink softshrink "
        "hardshrink where atan2 arctan2 hypot logaddexp logaddexp2 copysign fmod "
        "remainder floor_divide lerp addcmul addcdiv xlogy gt lt ge le eq ne greater "
        "less greater_equal less_equal not_equal logical_and logical_or logical_xor "
        "logical_not isfinite isnan detach clone pow abs exp log log1p sqrt rsqrt "
        "square neg add sub mul div maximum minimum clamp relu softplus"
    ),
    _along_axis: "softmax log_softmax softmin",
}


def _holders_of(name: str) -> list[Any]:
    places = (torch, torch.Tensor, nn.functional, torch.special)
    return [getattr(place, name) for place in places if hasattr(place, name)]


BatchRule = Callable[[Any, Template, Node], BatchCall | None]
_OF_POSES: Mapping[Any, BatchRule] = {
    function: _of_poses
    for group in GROUPS
    for function in (group.exp, group.log, group.inverse, group.adjoint)
}
_RULES: Mapping[Any, BatchRule] = {
    function: rule
    for rule, names in _NAMES.items()
    for name in names.split()
    for function in _holders_of(name)
} | {
    **dict.fromkeys((signals.hold, signals.interpolate), _with_batch_axis),
    **_OF_POSES,
    **{group.act: _action for group in GROUPS},
}


# ---- modules ---------------------------------------------------------------------


def acts_on_last_axes(module: nn.Module) -> bool:
    """Whether a module does with [B, *shape] what it does with each [*shape].

    Subclasses may do anything, so the class itself has to be a known one.
    """
    kind = type(module)
    if kind is nn.Sequential:
        return all(map(acts_on_last_axes, module.children()))
    if issubclass(kind, nn.Dropout):
        return kind is nn.Dropout and not module.training
    if isinstance(module, nn.Softmax | nn.LogSoftmax):
        return kind in _SOFTMAX and module.dim is not None and module.dim < 0
    return kind in _OF_LAST_AXES


_SOFTMAX = frozenset((nn.Softmax, nn.LogSoftmax))
_OF_LAST_AXES = frozenset(
    getattr(nn, name)
    for name in (
        "Linear Identity LayerNorm RMSNorm ReLU ReLU6 Tanh Sigmoid GELU SiLU ELU SELU "
        "CELU LeakyReLU Softplus Softsign Hardtanh Hardsigmoid Hardswish LogSigmoid "
        "Mish Tanhshrink Softshrink Hardshrink Threshold"
    ).split()
)
