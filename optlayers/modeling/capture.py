"""Parameters and modules that a declaration speaks of, under names for a state_dict.

They are found in the body's bytecode before it runs, so that a layer owns them from
the start: in globals, closures, attributes (`self.net`), lists and functions called.
"""

import dis
import os
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from types import CodeType, FunctionType, MethodType
from typing import Any, NamedTuple

import torch
from torch import nn

Captured = nn.Parameter | nn.Module

_OUR_CODE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_TORCH_CODE = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep
_DEPTH = 8  # of functions called from functions; deeper ones are met when they run


def referenced(function: Any) -> dict[str, Captured]:
    """The parameters and modules that a function's code names, in order.

    Args:
        function: a Python function; anything else refers to nothing.
    """
    found: dict[int, tuple[str, Captured]] = {}
    for name, value in _mentions(function, "", set(), 0):
        if id(value) not in found:
            taken = {known for known, _ in found.values()}
            found[id(value)] = (unused(_legal(name), taken), value)
    return dict(found.values())


def mentions(function: Any, target: Any) -> bool:
    """Whether a function's code, or that of a function it calls, names an object.

    Args:
        function: a Python function; anything else names nothing.
        target: what is looked for, met as a global, in a closure or as an attribute.
    """
    pending, visited = [(function, 0)], set[CodeType]()
    while pending:
        one, depth = pending.pop()
        scope = _scope(one, depth, visited)
        if scope is None:
            continue
        for chain in scope.chains:
            value = scope.names[chain[0]]
            for attribute in chain[1:]:
                value = _attribute(value, attribute)
            if value is target:
                return True
            pending.append((value, depth + 1))
    return False


class Captures:
    """Names of what was met while one body ran.

    Attributes:
        objects: everything captured, by name.
    """

    def __init__(self, objects: Mapping[str, Captured]) -> None:
        self.objects = dict(objects)
        self._names = {id(value): name for name, value in self.objects.items()}

    def name_of(self, value: Captured) -> str:
        """The name of a parameter or module, `net.layer` for a part of `net`."""
        name = self._names.get(id(value))
        if name is None:
            name = self._part_name(value) or self._add(value)
            self._names[id(value)] = name
        return name

    def _part_name(self, value: Captured) -> str | None:
        for name, whole in self.objects.items():
            if isinstance(whole, nn.Module):
                parts = (
                    whole.named_modules()
                    if isinstance(value, nn.Module)
                    else whole.named_parameters()
                )
                for path, part in parts:
                    if part is value:
                        return f"{name}.{path}"
        return None

    def _add(self, value: Captured) -> str:
        name = unused(_legal(type(value).__name__.lower()), self.objects)
        self.objects[name] = value
        return name


def lookup(captured: Mapping[str, Any], name: str) -> Any:
    """The captured thing of that name; a dotted name may be a part of a module."""
    if name in captured:
        return captured[name]
    whole, _, path = name.partition(".")
    value = captured[whole]
    for part in path.split(".") if path else ():
        value = getattr(value, part)
    return value


def unused(name: str, taken: Any) -> str:
    """The name itself, or with the first free number behind it."""
    if name not in taken:
        return name
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"


def _legal(name: str) -> str:
    """A module attribute's name: no dots, and not the letter of the object itself."""
    name = name.removeprefix("self.").replace(".", "_")
    return name if name.isidentifier() else "captured"


def _mentions(
    function: Any, prefix: str, visited: set[CodeType], depth: int
) -> Iterator[tuple[str, Captured]]:
    scope = _scope(function, depth, visited)
    if scope is None:
        return
    for chain in scope.chains:
        yield from _resolve(chain, scope, prefix, visited, depth)


class _Scope(NamedTuple):
    """What a function speaks of.

    Attributes:
        chains: the dotted names it loads whose first part has a meaning.
        names: what that is.
        owner: its `self`, by the name it has there, if there is one.
    """

    chains: list[tuple[str, ...]]
    names: Mapping[str, Any]
    owner: Mapping[str, Any]


def _scope(function: Any, depth: int, visited: set[CodeType]) -> _Scope | None:
    """The scope of a function; None of what is not looked into."""
    owner: dict[str, Any] = {}
    if isinstance(function, MethodType):
        code = getattr(function.__func__, "__code__", None)
        if code is not None and code.co_argcount:
            owner = {code.co_varnames[0]: function.__self__}
        function = function.__func__
    if not isinstance(function, FunctionType) or depth > _DEPTH:
        return None
    code = function.__code__
    if code in visited or code.co_filename.startswith((_OUR_CODE, _TORCH_CODE)):
        return None
    visited.add(code)
    names = ChainMap(owner, _closure(function), function.__globals__)
    chains = [
        chain
        for is_local, chain in _chains(code)
        if chain[0] in (owner if is_local else names)
    ]
    return _Scope(chains, names, owner)


def _closure(function: FunctionType) -> dict[str, Any]:
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    found = {}
    for name, cell in cells:
        try:
            found[name] = cell.cell_contents
        except ValueError:  # Declared before it was assigned; met when the body runs.
            continue
    return found


@lru_cache(maxsize=256)
def _chains(code: CodeType) -> tuple[tuple[bool, tuple[str, ...]], ...]:
    """(is local, dotted name), as the code loads them; nested functions included."""
    found: list[tuple[bool, list[str]]] = []
    is_open = False
    for instruction in dis.get_instructions(code):
        word, value = instruction.opname, instruction.argval
        if is_open and word in ("LOAD_ATTR", "LOAD_METHOD"):
            found[-1][1].append(value)
            continue
        is_local = word.startswith("LOAD_FAST") and isinstance(value, str)
        is_open = is_local or word in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF")
        if is_open:
            found.append((is_local, [value]))
    chains = [(is_local, tuple(chain)) for is_local, chain in found]
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            inner = _chains(constant)
            chains += [(False, chain) for is_local, chain in inner if not is_local]
    return tuple(dict.fromkeys(chains))


def _resolve(
    chain: Sequence[str],
    scope: _Scope,
    prefix: str,
    visited: set[CodeType],
    depth: int,
) -> Iterator[tuple[str, Captured]]:
    value = scope.names[chain[0]]
    path = prefix + chain[0] if chain[0] not in scope.owner else prefix.rstrip(".")
    for attribute in chain[1:]:
        value = _attribute(value, attribute)
        if value is None:
            return
        path = f"{path}.{attribute}" if path else attribute
    if isinstance(value, FunctionType | MethodType):
        inner = path.rpartition(".")[0] if isinstance(value, MethodType) else ""
        inner = inner + "." if inner else ""
        yield from _mentions(value, inner, visited, depth + 1)
        return
    yield from _entries(path, value)


def _attribute(holder: Any, name: str) -> Any:
    """An attribute, or None; properties of the user's objects must not run here."""
    value = getattr(holder, "__dict__", {}).get(name)
    if value is None and isinstance(holder, nn.Module):
        value = _registered(holder, name)
    return _method(holder, name) if value is None else value


def _registered(module: nn.Module, name: str) -> Any:
    return module._modules.get(name, module._parameters.get(name))


def _method(holder: Any, name: str) -> MethodType | None:
    function = getattr(type(holder), name, None)
    return MethodType(function, holder) if isinstance(function, FunctionType) else None


def _entries(path: str, value: Any) -> Iterator[tuple[str, Captured]]:
    """The value itself, or what a container holds."""
    if isinstance(value, nn.ModuleDict | nn.ParameterDict | dict):
        for key, one in value.items():
            yield from _entries(f"{path}.{key}", one)
    elif isinstance(value, nn.ModuleList | nn.ParameterList | list | tuple):
        for position, one in enumerate(value):
            yield from _entries(f"{path}.{position}", one)
    elif isinstance(value, nn.Parameter | nn.Module):
        yield path, value
