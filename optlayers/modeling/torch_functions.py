"""Torch calls that are no terms: relations, strict relations, and writes in place."""

from collections.abc import Callable
from typing import Any

import torch

from optlayers.errors import DeclarationError

_RELATIONS = {"eq": "==", "le": "<=", "ge": ">="}
_STRICT = {"lt": "<", "gt": ">", "ne": "!="}
_IN_PLACE = ("__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__")


def relation(function: Callable[..., Any]) -> str | None:
    """The relation that an operator of tensors means (`tensor <= x`), if it is one.

    The functions torch.le, torch.eq, ... stay functions: they make masks.

    Raises:
        DeclarationError: a strict relation, which is no constraint.
    """
    if not _is_method(function):
        return None
    name = function.__name__
    if name in _STRICT:
        raise DeclarationError(
            f"{_STRICT[name]} has no closed feasible set; for a constraint write <=, "
            f">= or ==, for a mask of parameters torch.{name}(...)."
        )
    return _RELATIONS.get(name)


def refuse_writing(function: Callable[..., Any]) -> None:
    """Refuse calls that write into a tensor or read one at an expression.

    Raises:
        DeclarationError: such a call.
    """
    name = function.__name__
    if name in _IN_PLACE or (name.endswith("_") and not name.endswith("__")):
        raise DeclarationError(
            f"{name} would write an expression into a tensor, and it has no value "
            "while the problem is declared.\n  Build a new one with torch.stack or "
            "torch.cat."
        )
    if name == "__getitem__":
        raise DeclarationError(
            "an expression cannot be an index, it has no value while the problem is "
            "declared.\n  Index with numbers; for sizes use x.shape."
        )


def tensor_method(name: str) -> Callable[..., Any] | None:
    """The torch function behind `x.name(...)`, if there is one."""
    found = getattr(torch.Tensor, name, None)
    return found if callable(found) and not name.startswith("_") else None


def _is_method(function: Callable[..., Any]) -> bool:
    return type(function).__name__ in ("method_descriptor", "wrapper_descriptor")
