"""Solvers of convex cone programs, imported when they are first named."""

from typing import TYPE_CHECKING

from optlayers.solvers.lazy import first_named

if TYPE_CHECKING:
    from optlayers.solvers.convex.clarabel import Clarabel
    from optlayers.solvers.convex.daqp import Daqp

__all__ = ["Clarabel", "Daqp"]

_HOMES = {"Clarabel": "clarabel", "Daqp": "daqp"}

__getattr__, __dir__ = first_named(__name__, _HOMES)
