"""Convex programs as functions of tensors: quadratic and cone programs.

Batch first everywhere; any number of leading batch dimensions, which broadcast.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from optlayers.batching import align, restore
from optlayers.errors import ParameterError, ShapeError
from optlayers.functional.convex_plans import cone_plan, polyhedral, quadratic_plan
from optlayers.functional.differentiate import Built, differentiable_solve
from optlayers.functional.options import SolveOptions
from optlayers.functional.sparse import (
    all_places,
    check_triangles,
    matrix,
    split,
    stacked_places,
)
from optlayers.programs.cone_program import ConeProgram, Matrix, Positions
from optlayers.programs.cones import Cones
from optlayers.solution import Solution
from optlayers.solvers.plan import OnFailure, Plan


def quadratic_program(
    Q: Matrix,
    q: Tensor,
    G: Matrix | None = None,
    h: Tensor | None = None,
    A: Matrix | None = None,
    b: Tensor | None = None,
    *,
    solver: Any = "auto",
    tolerance: float | None = None,
    on_failure: OnFailure = "raise",
    order: int = 1,
) -> Solution:
    """Minimize x'Q x / 2 + q'x subject to G x <= h and A x = b.

    Q, G and A may be sparse tensors, shared by the batch, or `PatternMatrix`es, whose
    entries may differ; they stay sparse, and so do their gradients.

    Args:
        Q: symmetric positive semidefinite, [*batch, n, n].
        q: [*batch, n].
        G: rows of the inequalities, [*batch, k, n].
        h: their right-hand sides, [*batch, k].
        A: rows of the equalities, [*batch, p, n].
        b: their right-hand sides, [*batch, p].
        solver: a registered name, "auto", or an instance.
        tolerance: relative residual that counts as solved.
        on_failure: "raise", "nan" or "keep".
        order: how often the result may be differentiated.

    Returns:
        A `Solution`: `value` [*batch, n], `duals["inequalities"]` [*batch, k],
        `duals["equalities"]` [*batch, p], all differentiable in every tensor given.

    Raises:
        ShapeError: shapes do not fit each other.
        ParameterError: one of G, h (or A, b) is missing, or dtypes or devices differ.
        InvalidDataError, SolveError: as `on_failure="raise"` says.
    """
    options = SolveOptions(
        solver=solver, tolerance=tolerance, on_failure=on_failure, order=order
    )
    _both_or_none("G", G, "h", h)
    _both_or_none("A", A, "b", b)
    given = {"Q": Q, "q": q, "G": G, "h": h, "A": A, "b": b}
    tensors, places = split({n: v for n, v in given.items() if v is not None})
    n = q.shape[-1]
    k = 0 if h is None else h.shape[-1]
    p = 0 if b is None else b.shape[-1]
    _check_shapes(
        tensors,
        {"Q": (n, n), "q": (n,), "G": (k, n), "h": (k,), "A": (p, n), "b": (p,)},
        places,
    )
    cones = polyhedral(p, k)
    rows_place = _rows_place(places, (p, n), (k, n))
    of_sparse = tuple(places.items())
    plan = quadratic_plan(cones, n, options, rows_place, places=of_sparse)
    names = tuple(tensors)

    def build(inputs: Sequence[Tensor], batch: int) -> Built:
        part = dict(zip(names, inputs, strict=True))
        if rows_place is not None:
            part |= {
                name: part[name].flatten(-2)
                for name in ("A", "G")
                if name in part and name not in places
            }
        axis = -2 if rows_place is None else -1
        rows, right = _stack(part, "A", "G", axis), _stack(part, "b", "h", -1)
        if rows is None or right is None:
            rows, right = part["q"].new_zeros(0, n), part["q"].new_zeros(0)
        program = ConeProgram(
            P=matrix(part["Q"], places.get("Q")),
            q=_rows(part["q"], batch),
            A=matrix(rows, rows_place),
            b=_rows(right, batch),
            cones=cones,
        )
        return Built(program, program.q.new_zeros(batch))

    return _solve(
        build,
        tensors,
        plan,
        options,
        {"equalities": (0, p), "inequalities": (p, p + k)},
        places,
    )


def cone_program(
    P: Matrix | None,
    q: Tensor,
    A: Matrix,
    b: Tensor,
    cones: Cones,
    *,
    solver: Any = "auto",
    tolerance: float | None = None,
    on_failure: OnFailure = "raise",
    order: int = 1,
) -> Solution:
    """Minimize x'P x / 2 + q'x subject to A x + s = b, s in K.

    P and A may be sparse tensors, shared by the batch, or `PatternMatrix`es, whose
    entries may differ; they stay sparse, and so do their gradients.

    Args:
        P: symmetric positive semidefinite, [*batch, n, n], or None.
        q: [*batch, n].
        A: [*batch, m, n]; rows in the order of `cones`.
        b: [*batch, m].
        cones: the product of cones K.
        solver: a registered name, "auto", or an instance.
        tolerance: relative residual that counts as solved.
        on_failure: "raise", "nan" or "keep".
        order: how often the result may be differentiated.

    Returns:
        A `Solution`: `value` [*batch, n]; `duals["y"]` and `duals["s"]`, the dual and
        the slack, [*batch, m].

    Raises:
        ShapeError: shapes do not fit each other or the cones.
        InvalidDataError, SolveError: as `on_failure="raise"` says.
    """
    options = SolveOptions(
        solver=solver, tolerance=tolerance, on_failure=on_failure, order=order
    )
    given = {"P": P, "q": q, "A": A, "b": b}
    tensors, places = split({n: v for n, v in given.items() if v is not None})
    n, m = q.shape[-1], cones.size
    _check_shapes(tensors, {"P": (n, n), "q": (n,), "A": (m, n), "b": (m,)}, places)
    of_sparse = tuple(places.items())
    plan = cone_plan(cones, n, P is not None, options, places=of_sparse)
    names = tuple(tensors)

    def build(inputs: Sequence[Tensor], batch: int) -> Built:
        part = dict(zip(names, inputs, strict=True))
        program = ConeProgram(
            P=matrix(part["P"], places.get("P")) if "P" in part else None,
            q=_rows(part["q"], batch),
            A=matrix(part["A"], places.get("A")),
            b=_rows(part["b"], batch),
            cones=cones,
        )
        return Built(program, program.q.new_zeros(batch))

    return _solve(build, tensors, plan, options, {"y": (0, m)}, places, with_slack=True)


def _both_or_none(one: str, first: Any, other: str, second: Any) -> None:
    if (first is None) != (second is None):
        missing = one if first is None else other
        raise ParameterError(
            f"{one} and {other} come together: {missing} is missing; give both or none."
        )


def _check_shapes(
    tensors: dict[str, Tensor],
    expected: dict[str, tuple[int, ...]],
    places: Mapping[str, Positions],
) -> None:
    for name, place in places.items():
        if place.shape != expected[name]:
            raise ShapeError(
                f"{name} is {list(place.shape)}; it must be {list(expected[name])} to "
                f"fit q {list(tensors['q'].shape)}."
            )
        if name in ("Q", "P"):
            check_triangles(name, place)
    for name, value in tensors.items():
        if name in places:
            continue
        tail = expected[name]
        if tuple(value.shape[value.ndim - len(tail) :]) != tail or value.ndim < len(
            tail
        ):
            raise ShapeError(
                f"{name} is {list(value.shape)}; its last dimensions must be "
                f"{list(tail)} to fit q {list(tensors['q'].shape)}."
            )
    kinds = {(value.dtype, value.device) for value in tensors.values()}
    if len(kinds) > 1:
        listed = ", ".join(
            f"{n} is {v.dtype} on {v.device}" for n, v in tensors.items()
        )
        raise ParameterError(f"tensors must share one dtype and device: {listed}.")
    if tensors["q"].dtype not in (torch.float32, torch.float64):
        raise ParameterError(f"q is {tensors['q'].dtype}; give float32 or float64.")


def _rows_place(
    places: Mapping[str, Positions], equal: tuple[int, int], below: tuple[int, int]
) -> Positions | None:
    """Where the rows of A and G have entries; None if both are dense."""
    if "A" not in places and "G" not in places:
        return None
    shapes = {"A": equal, "G": below}
    found = [
        places.get(name) or all_places(shape)
        for name, shape in shapes.items()
        if shape[0]
    ]
    return stacked_places(*found) if len(found) == 2 else found[0]


def _stack(
    part: dict[str, Tensor], first: str, second: str, axis: int
) -> Tensor | None:
    """Rows of both, the batched shape winning."""
    found = [part[name] for name in (first, second) if name in part]
    if len(found) < 2:
        return found[0] if found else None
    one, other = found
    if one.ndim < other.ndim:
        one = one.expand(other.shape[0], *one.shape)
    elif other.ndim < one.ndim:
        other = other.expand(one.shape[0], *other.shape)
    return torch.cat([one, other], axis)


def _rows(vector: Tensor, batch: int) -> Tensor:
    return vector.expand(batch, -1) if vector.ndim == 1 else vector


def _solve(
    build: Callable[[Sequence[Tensor], int], Built],
    tensors: dict[str, Tensor],
    plan: Plan,
    options: SolveOptions,
    rows: dict[str, tuple[int, int]],
    places: Mapping[str, Positions],
    with_slack: bool = False,
) -> Solution:
    ndims = {n: 2 if n.isupper() and n not in places else 1 for n in tensors}
    aligned, batch_shape = align(tensors, ndims)
    dtype = tensors["q"].dtype
    inputs = [value.double() for value in aligned.values()]
    solved = differentiable_solve(
        build(inputs, math.prod(batch_shape)),
        build,
        inputs,
        list(ndims.values()),
        plan,
        options,
        checked=inputs,
        batch_shape=batch_shape,
    )
    duals = {name: solved.y[:, first:stop] for name, (first, stop) in rows.items()}
    if with_slack:
        duals["s"] = solved.s

    def back(value: Tensor) -> Tensor:
        return restore(value.to(dtype), batch_shape)

    return Solution(
        value=back(solved.x),
        duals={name: back(value) for name, value in duals.items()},
        status=restore(solved.status, batch_shape),
        stats={n: restore(value, batch_shape) for n, value in solved.stats.items()},
    )
