"""Torch functions and modules called on expressions: arguments, and shape of results.

Shapes come from torch itself, on tensors without storage (FakeTensorMode).
"""

import copy
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, update_wrapper
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_map

from optlayers.errors import DeclarationError, ShapeError
from optlayers.modeling.algebra import Algebra
from optlayers.modeling.inference import located, shape_error
from optlayers.modeling.tracing import paused

if TYPE_CHECKING:
    from optlayers.modeling.expressions import Expression


@dataclass(frozen=True)
class Slot:
    """Where an argument of the node stands in the call's own arguments."""

    position: int


def fill(template: Any, values: Sequence[Any]) -> Any:
    """The call's own arguments, with values in the place of slots."""
    if isinstance(template, Slot):
        return values[template.position]
    if isinstance(template, list | tuple):
        return type(template)([fill(one, values) for one in template])
    if isinstance(template, dict):
        return {name: fill(one, values) for name, one in template.items()}
    return template


def _take(template: Any, taken: list[Any]) -> Any:
    """The template of a call's arguments; its tensors and expressions go to `taken`."""
    if isinstance(template, Tensor | Algebra):
        for position, known in enumerate(taken):
            if known is template:
                return Slot(position)
        taken.append(template)
        return Slot(len(taken) - 1)
    if isinstance(template, list | tuple) and type(template) in (list, tuple):
        return type(template)([_take(one, taken) for one in template])
    if isinstance(template, dict):
        return {key: _take(one, taken) for key, one in template.items()}
    return template


# ---- functions of batches ------------------------------------------------------------


class BatchFunction:
    """A function of batches, called with one sample as a batch of one.

    Attributes:
        function: takes tensors [B, *shape] and returns such.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        update_wrapper(self, function)
        self.function = function

    def __call__(self, *values: Any, **named: Any) -> Any:
        """What one sample becomes."""
        return of_one_sample(self.function, values, named)


class BatchModule(nn.Module):
    """A module of batches, called with one sample as a batch of one.

    Attributes:
        module: takes tensors [B, *shape] and returns such.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *values: Any, **named: Any) -> Any:
        """What one sample becomes."""
        return of_one_sample(self.module, values, named)


def of_one_sample(
    function: Callable[..., Any], values: Any, named: Any, rows: int = 1
) -> Any:
    """What a function of batches makes of one sample.

    Args:
        function: takes and returns tensors with the batch axis in front.
        values: its arguments for one sample.
        named: its named arguments.
        rows: how often the sample is repeated.

    Raises:
        ShapeError: a result has no batch axis in front.
    """

    def repeated(value: Any) -> Any:
        is_tensor = isinstance(value, Tensor)
        return value.expand(rows, *value.shape) if is_tensor else value

    def first(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if value.shape[:1] != (rows,):
            raise ShapeError(
                f"it returns {list(value.shape)} for a batch of {rows} samples, and "
                "ol.smooth takes functions of batches: [B, ...] in and out"
            )
        return value[0]

    values, named = tree_map(repeated, (tuple(values), dict(named)))
    return tree_map(first, function(*values, **named))


# ---- a call recorded -----------------------------------------------------------------


@dataclass(frozen=True)
class Likeness:
    """What is known of a tensor without its values.

    Attributes:
        shape: of one sample.
        dtype: a floating one stands for whichever the values have.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True, eq=False)
class Call:
    """A call recorded once.

    Attributes:
        arguments: the expressions among its arguments, constants included.
        options: {"arguments", "keywords"}, its own arguments with slots for these.
        returned: what it returns, with a `Likeness` for each tensor; a list for
            several.
    """

    arguments: tuple["Expression", ...]
    options: dict[str, Any]
    returned: Any


def record(
    function: Callable[..., Any],
    values: tuple[Any, ...],
    named: dict[str, Any],
    as_argument: Callable[[Any], "Expression"],
) -> Call:
    """Record a torch function or module called on expressions.

    Raises:
        ShapeError: torch refuses arguments of these shapes.
        DeclarationError: it returns something that is no tensor.
    """
    taken: list[Any] = []
    template = (_take(values, taken), _take(named, taken))
    nodes = tuple(as_argument(one) for one in taken)
    dtype, device = torch.get_default_dtype(), None
    if isinstance(function, nn.Module):
        dtype, device = _home(function)
    shown = _name(function)
    try:
        returned = _try_call(function, template, nodes, dtype, device)
    except ShapeError as reason:
        refused = shape_error(shown, nodes, str(reason))
        raise ShapeError(f"{refused}{_of_batches(function)}") from None
    except DeclarationError as reason:
        raise located(DeclarationError(f"{shown} {reason}")) from None
    return Call(nodes, {"arguments": template[0], "keywords": template[1]}, returned)


def _try_call(
    function: Callable[..., Any],
    template: tuple[Any, Any],
    nodes: Sequence["Expression"],
    dtype: torch.dtype,
    device: torch.device | None,
) -> Any:
    with paused(), torch.no_grad(), _quietly(), _fake_mode():
        if isinstance(function, nn.Module) and any(True for _ in function.buffers()):
            function = _without_effects(function)
        values = [
            torch.empty(one.shape, dtype=_dtype_of(one, dtype), device=device)
            for one in nodes
        ]
        arguments, keywords = fill(template[0], values), fill(template[1], values)
        try:
            returned = _tried(function, arguments, keywords)
        except (RuntimeError, ValueError, TypeError, IndexError) as reason:
            raise ShapeError(_first_sentence(reason)) from None
    return _likeness(returned)


def _tried(function: Callable[..., Any], values: Any, named: Any) -> Any:
    # Of two samples, as a missing batch axis of size one would not be missed.
    if isinstance(function, BatchFunction):
        return of_one_sample(function.function, values, named, rows=2)
    if isinstance(function, BatchModule):
        return of_one_sample(function.module, values, named, rows=2)
    return function(*values, **named)


def _of_batches(function: Callable[..., Any]) -> str:
    """What to do with a module that has no meaning for one sample; "" for others."""
    if not isinstance(function, nn.Module):
        return ""
    if not any(isinstance(one, _BatchNorm) for one in function.modules()):
        return ""
    return (
        "\n  A batch norm takes batches: write ol.smooth(module)(x), which calls it "
        "with [B, ...], after module.eval(); in training it couples the samples, and "
        "a layer solves each by itself."
    )


def _name(function: Callable[..., Any]) -> str:
    if isinstance(function, BatchModule):
        function = function.module
    return getattr(function, "__name__", type(function).__name__)


def _without_effects(module: nn.Module) -> nn.Module:
    """The module over buffers without values, so that a trial changes none of its own.

    In training, a batch norm writes what it sees even where inputs have no values.
    """
    apart = {id(one): torch.empty_like(one) for one in module.buffers()}
    shared = {id(one): one for one in module.parameters()}
    return copy.deepcopy(module, {**shared, **apart})


def _dtype_of(node: "Expression", floating: torch.dtype) -> torch.dtype:
    while node.name == "index":
        (node,) = node.arguments
    known = floating
    if node.name == "constant":
        known = node.options["value"].dtype
    elif node.name in ("torch", "module"):
        known = node.options["dtype"]
    return floating if known.is_floating_point else known


def _home(module: nn.Module) -> tuple[torch.dtype, torch.device | None]:
    """Dtype and device in which a module expects its arguments."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            return tensor.dtype, tensor.device
    return torch.get_default_dtype(), None


def _likeness(returned: Any) -> Any:
    if isinstance(returned, Tensor):
        return Likeness(tuple(returned.shape), returned.dtype)
    if isinstance(returned, tuple | list):
        return [_likeness(one) for one in returned]
    if returned is None or isinstance(returned, bool | int | float | str | torch.dtype):
        return returned
    raise DeclarationError(
        f"returns a {type(returned).__name__}; inside a declaration only tensors "
        "and tuples of tensors can be returned."
    )


def _first_sentence(reason: Exception) -> str:
    lines = [line.strip() for line in str(reason).splitlines() if line.strip()]
    if lines and "got " in lines[-1] and "failed in executing" in lines[0]:
        return lines[-1].rstrip(".") + "."
    return (lines[0] if lines else type(reason).__name__).rstrip(".") + "."


@lru_cache(maxsize=1)
def _mode_class() -> type:
    # Its import costs a second that most declarations never need.
    from torch._subclasses.fake_tensor import FakeTensorMode

    return FakeTensorMode


def _fake_mode() -> Any:
    logging.getLogger("torch._subclasses.fake_tensor").addFilter(_is_not_ours)
    return _mode_class()(allow_non_fake_inputs=True)


@contextmanager
def _quietly() -> Iterator[None]:
    _trying.is_on = True
    try:
        yield
    finally:
        _trying.is_on = False


def _is_not_ours(_: logging.LogRecord) -> bool:
    """Torch logs every shape it refuses; ours become errors of the user's file."""
    return not getattr(_trying, "is_on", False)


_trying = threading.local()
