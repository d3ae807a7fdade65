"""Solvers of convex cone programs, imported when they are first named."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optlayers.solvers.convex.clarabel import Clarabel
    from optlayers.solvers.convex.daqp import Daqp

__all__ = ["Clarabel", "Daqp"]

_HOMES = {"Clarabel": "clarabel", "Daqp": "daqp"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(
            f"module {__name__!r} has no solver {name!r}; it has {', '.join(__all__)}"
        )
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
