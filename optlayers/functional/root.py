"""Roots and fixed points of plain functions, differentiable in all they close over.

The function is called on whole batches; its rows must be independent. A solver sees it
without derivatives; the derivative of the found point is the implicit function
theorem's.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from optlayers.batching import position
from optlayers.errors import ParameterError, SolveError, TransformError
from optlayers.functional.pytrees import Unknowns
from optlayers.functional.root_choices import (
    LISTED_SAMPLES,
    TOLERANCES,
    check_gradient,
    refuse_singular,
    solver_of,
)
from optlayers.implicit.attach import attach
from optlayers.implicit.linearizations import linearize
from optlayers.programs.root import RootProgram
from optlayers.solution import Solution, Status
from optlayers.solvers.plan import OnFailure
from optlayers.solvers.root.run import certified


def root(
    residual: Callable[[Any], Any],
    start: Any,
    *,
    solver: Any = "auto",
    tolerance: float | None = None,
    on_failure: OnFailure = "raise",
    order: int = 1,
    gradient: str = "exact",
    lower: Tensor | None = None,
    upper: Tensor | None = None,
) -> Solution:
    """Find z with residual(z) = 0.

    Failed samples have a gradient of zero. But `residual` is evaluated for them too:
    where it multiplies a shared parameter by NaN data of one sample, the gradient of
    that parameter is NaN. Replace such data first (`torch.nan_to_num`), or declare the
    problem, whose parameters are replaced before the equations see them.

    Args:
        residual: [*batch, n] -> [*batch, n]; row i of the result depends on row i
            alone. With a pytree as start, the same pytree in and out.
        start: [*batch, n], or a pytree of tensors [B, ...]; where the search begins.
        solver: a registered name of kind "root", "auto", or an instance.
        tolerance: largest entry of the residual that counts as zero; 1e-10 in float64,
            1e-5 in float32 if None.
        on_failure: "raise", "nan" or "keep".
        order: how often the result may be differentiated.
        gradient: how the linear system of the implicit function theorem is solved:
            "exact" (a dense factorization up to 512 unknowns, a Krylov method beyond),
            "dense", "gmres", "bicgstab", "normal_cg", "least_squares" (dense, minimum
            norm where the Jacobian is singular).
        lower: bounds that choose among several roots, [n] or [*batch, n].
        upper: likewise.

    Returns:
        A `Solution`: `value` in the form of start, `status` and `stats` [*batch];
        differentiable in every tensor that `residual` closes over, modules included.

    Raises:
        ShapeError: the function does not return the form of start.
        ParameterError: an option out of its range.
        SolveError: samples have no root that was found (`on_failure="raise"`).
        SingularError: a derivative is needed where the Jacobian is singular.
        TransformError: called inside `torch.func` or `torch.compile`.
    """
    unknowns = Unknowns.of(start)
    program = RootProgram(
        unknowns.wrapped(residual), unknowns.batch_size, unknowns.size,
        lower=_bound(unknowns, lower), upper=_bound(unknowns, upper),
    )  # fmt: skip
    return _solve(
        "root", program, unknowns, start, solver, tolerance, on_failure, order, gradient
    )


def fixed_point(
    map: Callable[[Any], Any],
    start: Any,
    *,
    solver: Any = "auto",
    tolerance: float | None = None,
    on_failure: OnFailure = "raise",
    order: int = 1,
    gradient: str = "exact",
) -> Solution:
    """Find z with z = map(z).

    Args:
        map: [*batch, n] -> [*batch, n]; row i of the result depends on row i alone.
            With a pytree as start, the same pytree in and out.
        start: [*batch, n], or a pytree of tensors [B, ...]; where the search begins.
        solver: a registered name of kind "root", "auto", or an instance.
        tolerance: largest entry of z - map(z) that counts as zero; 1e-10 in float64,
            1e-5 in float32 if None.
        on_failure: "raise", "nan" or "keep".
        order: how often the result may be differentiated.
        gradient: as for `root`, only that "exact" takes a Krylov method from 51
            unknowns on; and "neumann" (a series of ten terms), "one_step" (the
            derivative of one application of the map), both approximate.

    Returns:
        A `Solution`: `value` in the form of start, `status` and `stats` [*batch];
        differentiable in every tensor that `map` closes over, modules included.

    Raises:
        ShapeError, ParameterError, SolveError, SingularError, TransformError: as of
            `root`.
    """
    unknowns = Unknowns.of(start)
    program = RootProgram.from_map(
        unknowns.wrapped(map), unknowns.batch_size, unknowns.size
    )
    return _solve(
        "fixed_point", program, unknowns, start, solver, tolerance, on_failure, order,
        gradient,
    )  # fmt: skip


def _solve(
    name: str,
    program: RootProgram,
    unknowns: Unknowns,
    start: Any,
    solver: Any,
    tolerance: float | None,
    on_failure: OnFailure,
    order: int,
    gradient: str,
) -> Solution:
    _refuse_transforms(name)
    _check_options(order, gradient, tolerance, on_failure)
    first = unknowns.rows(start).detach()
    limit = tolerance or TOLERANCES[first.dtype]
    found = certified(program, solver_of(program, solver, limit), first, limit)
    value, status, residual = found.point, found.status, found.residual
    ok = status == Status.SOLVED
    if on_failure == "raise" and not bool(ok.all()):
        raise SolveError(_failure(name, status, residual, limit, unknowns.batch_shape))
    stats = {"steps": found.steps, "residual": residual, "seconds": found.seconds}
    point, condition = _attached(name, program, value, ok, order, gradient, on_failure)
    if condition is not None:
        stats["gradient_condition"] = condition
    if on_failure == "nan":
        point = torch.where(ok.unsqueeze(1), point, torch.nan)
    batch = unknowns.batch_shape
    return Solution(
        value=unknowns.restore(point),
        duals={},
        status=status.reshape(batch),
        stats={key: one.reshape(batch) for key, one in stats.items()},
    )


def _attached(
    name: str,
    program: RootProgram,
    value: Tensor,
    ok: Tensor,
    order: int,
    gradient: str,
    on_failure: OnFailure,
) -> tuple[Tensor, Tensor | None]:
    """The value with its derivative, and the condition of the Jacobian, [B]."""
    if not torch.is_grad_enabled() or not len(value) or not bool(ok.any()):
        return value, None
    # A failed row stands at a good row's point, where the function is finite.
    safe = value if bool(ok.all()) else torch.where(
        ok.unsqueeze(1), value, value[ok.to(torch.int8).argmax()]
    )  # fmt: skip
    if not program.residual(safe).requires_grad:
        return value, None
    operator = linearize(program, safe, gradient)
    condition = torch.where(ok, operator.condition, torch.nan)
    refuse_singular(name, condition, gradient, on_failure)
    attached = attach(safe, program, order, operator)
    point = torch.where(ok.unsqueeze(1), attached.point, value)
    return point, condition


def _check_options(
    order: int, gradient: str, tolerance: float | None, on_failure: str
) -> None:
    if isinstance(order, bool) or not isinstance(order, int) or order < 1:
        raise ParameterError(f"order={order!r}: give an integer, 1 or more.")
    check_gradient(gradient, order)
    if tolerance is not None and not 0 < tolerance < 1:
        raise ParameterError(f"tolerance={tolerance!r}: give a number between 0 and 1.")
    if on_failure not in ("raise", "nan", "keep"):
        raise ParameterError(
            f'on_failure={on_failure!r}: one of "raise", "nan", "keep".'
        )


def _refuse_transforms(name: str) -> None:
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        raise TransformError(
            f"functional.{name} was called inside torch.func or torch.compile, which "
            "cannot see the tensors that its function closes over. Call it outside; "
            "give vmap's axis as one more batch axis of start."
        )


def _failure(
    name: str, status: Tensor, residual: Tensor, limit: float, batch: tuple[int, ...]
) -> str:
    failed = (status != Status.SOLVED).nonzero()[:, 0].tolist()
    lines = [f"{name}: {len(failed)} of {len(status)} samples were not solved."]
    for i in failed[:LISTED_SAMPLES]:
        reason = Status(int(status[i]))
        where = f"sample {position(i, batch)}: " if batch else ""
        lines.append(
            f"  {where}{reason.name}, {reason.meaning}: residual "
            f"{float(residual[i]):.1e} against a tolerance of {limit:.1e}."
        )
    if len(failed) > LISTED_SAMPLES:
        lines.append(f"  and {len(failed) - LISTED_SAMPLES} more.")
    lines.append(
        "  Start nearer to the root, scale unknowns and equations nearer to 1, or try "
        'another solver=.\n  on_failure="nan" gives NaN for such samples and leaves '
        "the others untouched."
    )
    return "\n".join(lines)


def _bound(unknowns: Unknowns, bound: Tensor | None) -> Tensor | None:
    if bound is None or bound.ndim < 2:
        return bound
    return (
        bound.detach()
        .expand(*unknowns.batch_shape, unknowns.size)
        .reshape(unknowns.batch_size, unknowns.size)
    )
