"""The plans of convex programs given as matrices: one for equal shapes and options."""

from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from typing import Any

import torch

from optlayers.functional.options import SolveOptions
from optlayers.functional.plans import make_plan
from optlayers.functional.sparse import REMEMBERED, matrix, pattern_of
from optlayers.programs.cone_program import ConeProgram, Matrix, Positions
from optlayers.programs.cones import Cones
from optlayers.solvers.checks import Check
from optlayers.solvers.plan import Plan


@cache
def polyhedral(equalities: int, inequalities: int) -> Cones:
    """The cones of a quadratic program, one object for equal numbers of rows."""
    return Cones(zero=equalities, nonneg=inequalities)


def _kept(make: Callable[..., Plan]) -> Callable[..., Plan]:
    """One plan for equal arguments.

    Plans of dense data are kept, for compiled code refers to them by number. Those of
    sparse data, which are not compiled, are as many as their places are remembered.
    """
    always, lately = cache(make), lru_cache(maxsize=REMEMBERED)(make)

    def plan(*key: Any, places: tuple[tuple[str, Positions], ...]) -> Plan:
        return lately(*key, places) if places else always(*key, places)

    return plan


@_kept
def quadratic_plan(
    cones: Cones,
    n: int,
    options: SolveOptions,
    rows_place: Positions | None,
    places: tuple[tuple[str, Positions], ...],
) -> Plan:
    """The plan of `quadratic_program`.

    Args:
        cones: equations, then inequalities.
        n: number of variables.
        options: how to solve.
        rows_place: where the rows of A and G have entries; None if both are dense.
        places: where each sparse argument has entries, by name.
    """
    ndims = {"Q": 2, "q": 1}
    ndims |= {"G": 2, "h": 1} if cones.nonneg else {}
    ndims |= {"A": 2, "b": 1} if cones.zero else {}
    return _plan(
        cones,
        n,
        options,
        subject="quadratic_program",
        row_names=("equalities",) * cones.zero + ("inequalities",) * cones.nonneg,
        checks=_checks(ndims, "Q", dict(places)),
        P_place=dict(places).get("Q"),
        A_place=rows_place,
    )


@_kept
def cone_plan(
    cones: Cones,
    n: int,
    has_P: bool,
    options: SolveOptions,
    places: tuple[tuple[str, Positions], ...],
) -> Plan:
    """The plan of `cone_program`.

    Args:
        cones: the product of cones K.
        n: number of variables.
        has_P: whether there is a P.
        options: how to solve.
        places: where each sparse argument has entries, by name.
    """
    ndims = {"P": 2} if has_P else {}
    ndims |= {"q": 1, "A": 2, "b": 1}
    rows = [
        name
        for name, rows in cones.slices.items()
        for _ in range(rows.start, rows.stop)
    ]
    return _plan(
        cones,
        n,
        options,
        subject="cone_program",
        row_names=tuple(rows),
        checks=_checks(ndims, "P", dict(places)),
        has_P=has_P,
        P_place=dict(places).get("P"),
        A_place=dict(places).get("A"),
    )


def _checks(
    ndims: dict[str, int], quadratic: str, places: Mapping[str, Positions]
) -> tuple[Check, ...]:
    found = []
    for name, ndim in ndims.items():
        attribute = "psd" if name == quadratic else "finite"
        text = "positive semidefinite" if name == quadratic else "finite"
        pattern = pattern_of(places.get(name))
        ndim = ndim if pattern is None else 1
        found.append(Check(name, attribute, text, ndim, pattern=pattern))
    return tuple(found)


def _plan(
    cones: Cones,
    n: int,
    options: SolveOptions,
    *,
    has_P: bool = True,
    P_place: Positions | None = None,
    A_place: Positions | None = None,
    **named: Any,
) -> Plan:
    empty = torch.zeros(1, n, dtype=torch.float64)

    def zeros(place: Positions | None, *shape: int) -> Matrix:
        size = shape if place is None else place.rows.shape
        return matrix(empty.new_zeros(size), place)

    program = ConeProgram(
        P=zeros(P_place, n, n) if has_P else None,
        q=empty,
        A=zeros(A_place, cones.size, n),
        b=empty.new_zeros(1, cones.size),
        cones=cones,
    )
    return make_plan(program, options, column_names=("x",) * n, **named)
