"""The body of a declaration while it runs: what is called on what is not known yet.

A module called on expressions is recorded whole, and a torch function of an
nn.Parameter is recorded rather than computed. `nn.Module.__call__` is replaced only
while some body runs, and acts only in that body's thread.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from optlayers.modeling.algebra import Algebra
from optlayers.modeling.capture import Captures
from optlayers.modeling.remedies import refused_ufunc

Record = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]


@dataclass(frozen=True)
class Body:
    """What a running body does with what it meets.

    Attributes:
        captures: names of parameters and modules.
        call_module: builds the node of a module called on expressions.
        call_torch: builds the node of a torch function.
    """

    captures: Captures
    call_module: Record
    call_torch: Record


_running = threading.local()
_lock = threading.Lock()
_open_bodies = 0
_plain_call = nn.Module.__call__


@contextmanager
def tracing(body: Body) -> Iterator[None]:
    """Run a body: calls on expressions and of parameters go to its recorders."""
    before = _body()
    _running.body = body
    _patch()
    try:
        with _LearnedFunctions():
            yield
    except TypeError as reason:
        # So says numpy of every `np.sin(x)`, whatever the function.
        if "__array_ufunc__=None" not in str(reason):
            raise
        raise refused_ufunc(reason) from None
    finally:
        _unpatch()
        _running.body = before


def is_running() -> bool:
    """Whether a body is running in this thread."""
    return _body() is not None


def captured_name(value: nn.Parameter | nn.Module) -> str:
    """The name under which a parameter or module is registered."""
    body = _body()
    if body is None:
        return type(value).__name__.lower()
    return body.captures.name_of(value)


@contextmanager
def paused() -> Iterator[None]:
    """Let functions and modules run as they are, to learn what they return."""
    before = _body()
    _running.body = None
    try:
        yield
    finally:
        _running.body = before


# Asking a parameter for these reads no value and takes no gradient.
_HARMLESS = frozenset(
    (
        *("size", "dim", "ndimension", "numel", "nelement", "stride", "__len__"),
        *("detach", "is_floating_point", "is_complex", "is_contiguous", "__hash__"),
        *("requires_grad_", "register_hook", "__repr__", "data_ptr", "__set__"),
    )
)


class _LearnedFunctions(TorchFunctionMode):
    """Torch functions of an nn.Parameter become nodes: it will change in training."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        body, named = _body(), dict(kwargs or {})
        if body is None or not _has_parameter((args, list(named.values()))):
            return func(*args, **named)
        if func.__name__ == "__get__" and func.__self__.__name__ in ("T", "mT"):
            return body.call_torch(torch.transpose, (args[0], -1, -2), {})
        if func.__name__ == "__get__" or func.__name__ in _HARMLESS:
            return func(*args, **named)
        return body.call_torch(func, tuple(args), named)


def _has_parameter(values: Any) -> bool:
    if isinstance(values, list | tuple):
        return any(_has_parameter(one) for one in values)
    return isinstance(values, nn.Parameter)


def _call(module: nn.Module, *values: Any, **named: Any) -> Any:
    body = _body()
    if body is not None and any(
        isinstance(one, Algebra) for one in (*values, *named.values())
    ):
        return body.call_module(module, values, named)
    return _plain_call(module, *values, **named)


def _body() -> Body | None:
    return getattr(_running, "body", None)


def _patch() -> None:
    global _open_bodies, _plain_call
    with _lock:
        if _open_bodies == 0:
            _plain_call = nn.Module.__call__
            nn.Module.__call__ = _call
        _open_bodies += 1


def _unpatch() -> None:
    global _open_bodies
    with _lock:
        _open_bodies -= 1
        if _open_bodies == 0:
            nn.Module.__call__ = _plain_call
