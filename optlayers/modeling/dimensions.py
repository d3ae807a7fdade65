"""Sizes as they are declared: "n", "k n", "T+1 n", "2 3", numbers and tuples."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from optlayers.errors import DeclarationError

_TOKEN = re.compile(r"(?:(\d+)\*)?([A-Za-z_]\w*)([+-]\d+)?|(\d+)")


@dataclass(frozen=True)
class Dimension:
    """One axis of a field: factor * size(name) + offset; a number if name is None."""

    name: str | None
    offset: int
    factor: int = 1

    def size(self, sizes: Mapping[str, int]) -> int:
        """Its length, once the named sizes are known."""
        if self.name is None:
            return self.offset
        return self.factor * sizes[self.name] + self.offset

    def solve(self, length: int) -> int | None:
        """The named size that makes this axis `length` long; None if there is none.

        A number is its own size, and no other length has one.
        """
        if self.name is None:
            return self.offset if length == self.offset else None
        size, rest = divmod(length - self.offset, self.factor)
        return size if rest == 0 and size >= 0 else None

    def __str__(self) -> str:
        if self.name is None:
            return str(self.offset)
        factor = "" if self.factor == 1 else f"{self.factor}*"
        offset = "" if self.offset == 0 else f"{self.offset:+d}"
        return f"{factor}{self.name}{offset}"


def parse_dimensions(declared: Any) -> tuple[Dimension, ...]:
    """Read the dimensions of a field.

    Args:
        declared: a string of names and numbers with spaces between, a number, or a
            tuple of either; empty for a scalar.

    Raises:
        DeclarationError: something that is no dimension.
    """
    if isinstance(declared, str):
        tokens: list[Any] = re.sub(r"\s*([+*-])\s*", r"\1", declared).split()
    elif isinstance(declared, tuple | list):
        tokens = list(declared)
    else:
        tokens = [declared]
    return tuple(_dimension(token, declared) for token in tokens)


def _dimension(token: Any, declared: Any) -> Dimension:
    if isinstance(token, int | np.integer) and not isinstance(token, bool):
        if token >= 0:
            return Dimension(None, int(token))
    elif isinstance(token, str) and (found := _TOKEN.fullmatch(token.strip())):
        factor, name, offset, number = found.groups()
        if number is not None:
            return Dimension(None, int(number))
        if factor != "0":
            return Dimension(name, int(offset or 0), int(factor or 1))
    raise DeclarationError(
        f"{token!r} in {declared!r} is no dimension; write names and numbers with "
        'spaces between, as in "n", "k n", "T+1 n" or "2 3".'
    )
