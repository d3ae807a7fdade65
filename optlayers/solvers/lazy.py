"""Packages whose classes are imported when they are first named."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def first_named(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """What a package's `__getattr__` and `__dir__` are.

    Args:
        package: its full name.
        homes: the module within it, of each class.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(
                f"module {package!r} has no solver {name!r}; it has {', '.join(homes)}"
            )
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    return get, lambda: sorted(homes)
