"""Torch calls that are no terms: relations, strict relations, and writes in place."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from optlayers.errors import DeclarationError

_RELATIONS = {"eq": "==", "le": "<=", "ge": ">=", "lshift": "<<", "rshift": ">>"}
# Called by Python itself, with the tensor first and its other operand second.
_REFLECTED = {"rlshift": ">>", "rrshift": "<<"}
_STRICT = {"lt": "<", "gt": ">", "ne": "!="}
_READING = frozenset(
    ("item", "tolist", "numpy", "__float__", "__int__", "__bool__", "__array__")
)
_IN_PLACE = ("__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__")


def relation(function: Callable[..., Any]) -> str | None:
    """The relation that an operator of tensors means (`tensor <= x`), if it is one.

    The functions torch.le, torch.eq, ... stay functions: they make masks.

    Raises:
        DeclarationError: a strict relation, which is no constraint.
    """
    if not _is_method(function):
        return None
    name = function.__name__.strip("_")
    if name in _STRICT:
        raise DeclarationError(
            f"{_STRICT[name]} has no closed feasible set; for a constraint write <=, "
            f">= or ==, for a mask of parameters torch.{name}(...)."
        )
    return _RELATIONS.get(name, _REFLECTED.get(name))


def refuse_access(function: Callable[..., Any], values: tuple[Any, ...]) -> None:
    """Refuse calls that write an expression, read one, or use it as an index.

    Raises:
        DeclarationError: such a call.
    """
    name = function.__name__
    if name in _IN_PLACE or (name.endswith("_") and not name.endswith("__")):
        raise DeclarationError(
            f"{name} would change a tensor, and a declaration is a pure function.\n"
            "  Build a new one with torch.stack or torch.cat; make modules and learned "
            "parameters outside of the body."
        )
    if name in _READING:
        raise DeclarationError(
            f"{name} would freeze what is learned at its present value.\n  Keep the "
            "tensor: its torch functions are recorded; detach() freezes it on purpose."
        )
    if name == "__getitem__" and not isinstance(values[0], nn.Parameter):
        raise DeclarationError(
            "an expression cannot be an index, it has no value while the problem is "
            "declared.\n  Index with numbers; for sizes use x.shape."
        )


def tensor_method(name: str) -> Callable[..., Any] | None:
    """The torch function behind `x.name(...)`, if there is one."""
    found = getattr(torch.Tensor, name, None)
    return found if callable(found) and not name.startswith("_") else None


def _is_method(function: Callable[..., Any]) -> bool:
    qualified = getattr(function, "__qualname__", "")
    return qualified.startswith(("Tensor.", "TensorBase."))
