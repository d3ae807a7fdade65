"""The body of a declaration while it runs: what it captures, and calls of modules.

A module called on expressions is recorded whole. `nn.Module.__call__` is replaced only
while some body runs, and acts only in that body's thread.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from optlayers.modeling.algebra import Algebra
from optlayers.modeling.capture import Captures

Record = Callable[[nn.Module, tuple, dict[str, Any]], Any]

_running = threading.local()
_lock = threading.Lock()
_open_bodies = 0
_plain_call = nn.Module.__call__


@contextmanager
def tracing(captures: Captures, record: Record) -> Iterator[Captures]:
    """Run a body: parameters are named by `captures`, module calls go to `record`."""
    before = getattr(_running, "body", None)
    _running.body = (captures, record)
    _patch()
    try:
        yield captures
    finally:
        _unpatch()
        _running.body = before


def captured_name(value: nn.Parameter | nn.Module) -> str:
    """The name under which a parameter or module is registered."""
    body = getattr(_running, "body", None)
    if body is None:
        return type(value).__name__.lower()
    return body[0].name_of(value)


@contextmanager
def paused() -> Iterator[None]:
    """Let modules run as they are, to learn the shape of what they return."""
    before = getattr(_running, "body", None)
    _running.body = None
    try:
        yield
    finally:
        _running.body = before


def _call(module: nn.Module, *values: Any, **named: Any) -> Any:
    body = getattr(_running, "body", None)
    if body is not None and any(
        isinstance(one, Algebra) for one in (*values, *named.values())
    ):
        return body[1](module, values, named)
    return _plain_call(module, *values, **named)


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
