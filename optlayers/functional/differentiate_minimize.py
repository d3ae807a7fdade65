"""Solve a declared smooth problem, then attach the derivative of its KKT point.

inputs -> solve (opaque) -> z = (x, y, v) -attach-> z with derivative. The inputs of
failed samples are replaced before anything is differentiated, so that their numbers
reach no shared parameter.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from optlayers.functional.minimize import kkt_operator
from optlayers.functional.options import SolveOptions
from optlayers.functional.root_choices import refuse_singular
from optlayers.implicit.attach import attach
from optlayers.implicit.failed import replace_failed, with_zero_gradient
from optlayers.implicit.guard import limit_derivatives
from optlayers.implicit.transforms import is_transformed, maps_nothing
from optlayers.programs.minimize import MinimizeProgram
from optlayers.programs.visible_minimum import VisibleMinimum
from optlayers.solution import Status
from optlayers.solvers.minimize import opaque
from optlayers.solvers.minimize.declared import run
from optlayers.solvers.minimize.modules import standalone
from optlayers.solvers.minimize.plan import MinimizePlan, Modules
from optlayers.solvers.minimize.run import Found
from optlayers.solvers.root.modules import tensors_of


class SolvedMinimum(NamedTuple):
    """The outcome of a differentiable minimization.

    Attributes:
        x: the solution, [B, n].
        equalities: multipliers of the equalities, [B, me].
        rows: multipliers of the rows, [B, m].
        objective: in the declared sense, [B].
        status: int8 [B].
        stats: numbers per sample, each [B].
    """

    x: Tensor
    equalities: Tensor
    rows: Tensor
    objective: Tensor
    status: Tensor
    stats: dict[str, Tensor]


class _Outputs(NamedTuple):
    """z [B, n + me + m] and the minimal value [B]."""

    point: Tensor
    objective: Tensor


def differentiable_minimum(
    plan: MinimizePlan,
    inputs: Sequence[Tensor],
    modules: Modules,
    start: Tensor,
    options: SolveOptions,
    *,
    checked: Sequence[Tensor],
    batch_shape: Sequence[int],
    reads_closures: bool,
) -> SolvedMinimum:
    """Minimize a batch, differentiably in inputs, modules and closures.

    Args:
        plan: how to solve.
        inputs: each [*shape] (shared) or [B, *shape].
        modules: that the functions call, by name.
        start: where the search begins, [B, n]; or [B, S, n], of which the start of
            the lowest minimum counts.
        options: order, gradient and failure behaviour.
        checked: the tensors that the checks of the plan look at.
        batch_shape: leading dimensions of the call, whose product is B.
        reads_closures: whether the functions may read tensors that are no inputs.

    Raises:
        InvalidDataError, SolveError: samples failed, `on_failure="raise"`.
        SingularError: a derivative is needed where the KKT matrix is singular.
    """
    is_traced = is_transformed()
    found = _found(plan, inputs, modules, checked, start, batch_shape)
    start = start if start.ndim == 2 else start[:, 0]
    ok = found.status == int(Status.SOLVED)
    stats = {
        "steps": found.steps,
        "residual": found.residual,
        "seconds": found.seconds,
    }
    constant = plan.program([one.detach() for one in inputs], modules, start)
    with torch.no_grad():
        value = constant.value(found.point[:, : constant.size]).detach()
    outputs = _Outputs(found.point, value)
    is_whole = options.on_failure == "raise" or (not is_traced and bool(ok.all()))
    has_none = maps_nothing(inputs) if is_traced else not bool(ok.any())
    rows, safe = list(inputs), found.point
    if not is_whole and not has_none:
        safe, *rows = _without_failed(plan, rows, found, ok, math.prod(batch_shape))
    if has_none:
        read = _tensors_read(plan, inputs, modules, found, reads_closures)
        outputs = _Outputs(*(with_zero_gradient(one, read) for one in outputs))
    elif is_traced or _needs_gradient(plan, rows, modules, safe, reads_closures):
        program = plan.program(rows, modules, start)
        constant = plan.program([one.detach() for one in rows], modules, start)
        new, condition = _differentiated(plan, program, constant, safe, ok, options)
        outputs = new if is_whole else _chosen(ok, new, outputs)
        stats["gradient_condition"] = condition
    if options.on_failure == "nan":
        outputs = _chosen(ok, outputs, _Outputs(*map(_nan, outputs)))
    x, equalities, lam, _ = constant.split(outputs.point)
    objective = -outputs.objective if plan.maximize else outputs.objective
    return SolvedMinimum(x, equalities, lam, objective, found.status, stats)


def _found(
    plan: MinimizePlan,
    inputs: Sequence[Tensor],
    modules: Modules,
    checked: Sequence[Tensor],
    start: Tensor,
    batch_shape: Sequence[int],
) -> Found:
    """The solve without derivatives, opaque to transforms.

    Where nothing is transformed, modules are called as they are.
    """
    width = len(plan.point_names)
    if not modules:
        return opaque.solve(plan.handle, inputs, checked, start, batch_shape, width)
    if is_transformed():
        parts = list(modules.values())
        handle = standalone(plan, tuple(modules), *parts)
        tensors = [*inputs, *tensors_of(parts)]
        return opaque.solve(handle, tensors, checked, start, batch_shape, width)
    given = [one.detach() for one in inputs]
    watched = [one.detach() for one in checked]
    return run(plan, given, modules, watched, start, batch_shape)


def _differentiated(
    plan: MinimizePlan,
    program: MinimizeProgram,
    constant: MinimizeProgram,
    point: Tensor,
    ok: Tensor,
    options: SolveOptions,
) -> tuple[_Outputs, Tensor]:
    """z and the minimal value with derivatives, and the condition of dF/dz, [B]."""
    if is_transformed():
        # The matrix at the solutions is cut from every derivative.
        operator = VisibleMinimum(constant).linearize(point)
        conditions = VisibleMinimum(program)
    else:
        operator, conditions = kkt_operator(program, point), program
        known = torch.where(ok, operator.condition, torch.nan)
        refuse_singular(plan.subject, known, options, matrix="KKT matrix")
    attached = attach(point, conditions, options.order, operator)
    condition = torch.where(ok, attached.condition, torch.nan)
    # Envelope theorem: the Lagrangian is stationary in z, so that a point with
    # derivatives right to one order less is enough, and needs no adjoint solve.
    x, y, lam, _ = program.split(attached.previous)
    lagrangian = program.value(x)
    objective = lagrangian.detach()
    lagrangian = lagrangian + (y * program.equality(x)).sum(1)
    lagrangian = lagrangian + (lam * program.rows(x)).sum(1)
    objective = objective + (lagrangian - lagrangian.detach())
    guarded = limit_derivatives(objective, options.order)
    return _Outputs(attached.point, guarded), condition


def _chosen(ok: Tensor, new: _Outputs, old: _Outputs) -> _Outputs:
    """The new outputs of samples that are solved, the old of the others."""
    return _Outputs(
        torch.where(ok.unsqueeze(1), new.point, old.point),
        torch.where(ok, new.objective, old.objective),
    )


def _nan(tensor: Tensor) -> Tensor:
    return torch.full_like(tensor, torch.nan)


def _without_failed(
    plan: MinimizePlan, inputs: Sequence[Tensor], found: Found, ok: Tensor, batch: int
) -> list[Tensor]:
    """Points and inputs in which failed samples stand for a good one."""
    rows = [
        one.expand(batch, *one.shape) if one.ndim == ndim else one
        for one, ndim in zip(inputs, plan.input_ndims, strict=True)
    ]
    return replace_failed([found.point, *rows], ok)


def _tensors_read(
    plan: MinimizePlan,
    inputs: Sequence[Tensor],
    modules: Modules,
    found: Found,
    reads_closures: bool,
) -> list[Tensor]:
    """What the points would have a derivative in, if any sample were solved."""
    if not torch.is_grad_enabled():
        return []
    read = [*inputs, *tensors_of(list(modules.values()))]
    batch = len(found.point)
    # Closures are seen in the residual alone, and it cannot map a batch of none.
    if reads_closures and batch and not any(one.requires_grad for one in read):
        ok = found.status == int(Status.SOLVED)
        safe, *rows = _without_failed(plan, inputs, found, ok, batch)
        program = plan.program(rows, modules, safe[:, : len(plan.column_names)])
        read.append(program.residual(safe))
    return read


def _needs_gradient(
    plan: MinimizePlan,
    inputs: Sequence[Tensor],
    modules: Modules,
    point: Tensor,
    reads_closures: bool,
) -> bool:
    if not torch.is_grad_enabled():
        return False
    if any(one.requires_grad for one in inputs):
        return True
    if not reads_closures:
        return False
    x = point[:, : len(plan.column_names)]
    return plan.program(inputs, modules, x).depends_on_parameters(x)
