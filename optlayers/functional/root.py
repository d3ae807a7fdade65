"""Roots and fixed points of plain functions, differentiable in all they close over.

The function is called on whole batches; its rows must be independent. A solver sees it
without derivatives; the derivative of the found point is the implicit function
theorem's.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from optlayers.errors import TransformError
from optlayers.functional.options import SolveOptions, check_gradient
from optlayers.functional.plans import accepted_solver
from optlayers.functional.pytrees import Unknowns
from optlayers.functional.root_choices import TOLERANCES, checked_bounds
from optlayers.functional.root_gradients import (
    Search,
    check_solver,
    differentiated,
)
from optlayers.implicit.failed import replace_failed, with_zero_gradient
from optlayers.implicit.transforms import hides_values
from optlayers.interfaces import Kind, Solver
from optlayers.programs.root import RootProgram
from optlayers.solution import Solution, Status
from optlayers.solvers.failure import report
from optlayers.solvers.iterative import size_of
from optlayers.solvers.plan import OnFailure
from optlayers.solvers.root.repeated import differing
from optlayers.solvers.root.run import Found, certified

_ADVICE = (
    "Start nearer to the root, scale unknowns and equations nearer to 1, or try "
    "another solver=."
)


def root(
    residual: Callable[[Any], Any],
    start: Any,
    *,
    solver: Any = "auto",
    tolerance: float | None = None,
    on_failure: OnFailure = "raise",
    order: int = 1,
    gradient: str = "exact",
    lower: Any = None,
    upper: Any = None,
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
            1e-5 in float32 if None. More counts where it is rounding of the unknowns.
        on_failure: "raise", "nan" or "keep".
        order: how often the result may be differentiated.
        gradient: how the linear system of the implicit function theorem is solved:
            "exact" (a dense factorization up to 512 unknowns, a Krylov method beyond),
            "dense", "gmres", "bicgstab", "normal_cg", "least_squares" (dense, minimum
            norm where the Jacobian is singular). Or "unrolled", to compare with: the
            derivative of the steps that "newton" took, given as solver.
        lower: bounds that choose among several roots: a number, [n] or [*batch, n];
            with a pytree as start also the same pytree, with or without the batch.
        upper: likewise.

    Returns:
        A `Solution`: `value` in the form of start, `status` and `stats` [*batch];
        differentiable in every tensor that `residual` closes over, modules included.

    Raises:
        ShapeError: the function, or a bound, does not have the form of start.
        ParameterError: an option out of its range, or another dtype than that of start.
        SolveError: samples have no root that was found (`on_failure="raise"`).
        SingularError: a derivative is needed where the Jacobian is singular, at the
            point found or in the limit.
        TransformError: called inside `torch.func` or `torch.compile`.
    """
    unknowns = Unknowns.of(start)
    low, high = checked_bounds(unknowns, start, lower, upper)
    program = RootProgram(
        unknowns.wrapped(residual), unknowns.batch_size, unknowns.size,
        lower=low, upper=high,
    )  # fmt: skip
    check_gradient(gradient, Kind.ROOT)
    options = SolveOptions(
        solver=solver, tolerance=tolerance, on_failure=on_failure, order=order,
        gradient=gradient,
    )  # fmt: skip
    return _solve("root", program, unknowns, start, options)


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
        gradient: as for `root`, only that "exact" begins without a matrix from 51
            unknowns on: it iterates with the derivative of the map, and where that does
            not contract takes a Krylov method; and "neumann" (a series of ten terms),
            "one_step" (the derivative of one application of the map), both approximate.
            "unrolled" is also for the solvers "fixed_point" and "anderson".

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
    check_gradient(gradient, Kind.ROOT)
    options = SolveOptions(
        solver=solver, tolerance=tolerance, on_failure=on_failure, order=order,
        gradient=gradient,
    )  # fmt: skip
    return _solve("fixed_point", program, unknowns, start, options)


def _solve(
    name: str,
    program: RootProgram,
    unknowns: Unknowns,
    start: Any,
    options: SolveOptions,
) -> Solution:
    _refuse_transforms(name)
    options.check_kind(program.kind)
    first = unknowns.rows(start).detach()
    limit = options.tolerance or TOLERANCES[first.dtype]
    solver = accepted_solver(program, options.solver, tolerance=limit)
    check_solver(solver, options)
    found = certified(program, solver, first, limit) if program.size else _solved(first)
    ok = found.status == Status.SOLVED
    if options.on_failure == "raise" and not bool(ok.all()):
        raise _failure(name, program, found, limit, unknowns.batch_shape)
    stats = {"steps": found.steps, "residual": found.residual, "seconds": found.seconds}
    point, condition = _attached(name, program, solver, first, found, options)
    if condition is not None:
        stats["gradient_condition"] = condition
    if options.on_failure == "nan":
        point = torch.where(ok.unsqueeze(1), point, torch.nan)
    batch = unknowns.batch_shape
    return Solution(
        value=unknowns.restore(point),
        duals={},
        status=found.status.reshape(batch),
        stats={key: one.reshape(batch) for key, one in stats.items()},
    )


def _attached(
    name: str,
    program: RootProgram,
    solver: Solver,
    start: Tensor,
    found: Found,
    options: SolveOptions,
) -> tuple[Tensor, Tensor | None]:
    """The value with its derivative, and the condition of the Jacobian, [B]."""
    value, ok = found.point, found.status == Status.SOLVED
    if not torch.is_grad_enabled():
        return value, None
    # A failed row stands at a good row's point, where the function is finite.
    (safe,) = replace_failed([value], ok)
    residual = program.residual(safe)
    if not residual.requires_grad:
        return value, None
    if not bool(ok.any()) or not program.size:
        return with_zero_gradient(value, [residual]), None
    search = Search(name, program, program, solver, start, found.steps, safe, ok)
    point, condition = differentiated(search, options)
    return torch.where(ok.unsqueeze(1), point, value), condition


def _solved(start: Tensor) -> Found:
    """Systems without unknowns, [B, 0], which have nothing to look for."""
    none = start.new_zeros(len(start))
    is_solved = torch.full_like(none, int(Status.SOLVED), dtype=torch.int8)
    return Found(start, is_solved, none.to(torch.int64), none, none.double())


def _refuse_transforms(name: str) -> None:
    if hides_values():
        raise TransformError(
            f"functional.{name} was called inside torch.func or torch.compile, which "
            "cannot see the tensors that its function closes over. Call it outside; "
            "give vmap's axis as one more batch axis of start."
        )


def _failure(
    name: str,
    program: RootProgram,
    found: Found,
    limit: float,
    batch: tuple[int, ...],
) -> Exception:
    with torch.no_grad():
        again = size_of(program.residual(found.point))

    def detail(i: int) -> str:
        first = float(found.residual[i])
        return (
            f"residual {first:.1e} against a tolerance of {limit:.1e}"
            f"{differing(first, float(again[i]), limit)}"
        )

    advice = dict.fromkeys(Status, _ADVICE)
    return report(name, found.status, {}, batch, detail, advice)
