"""Solve a declared smooth problem, then attach the derivative of its KKT point.

inputs -> solve (opaque) -> z = (x, y, v) -attach-> z with derivative. The inputs of
failed samples are replaced before anything is differentiated, so that their numbers
reach no shared parameter.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from optlayers.functional.minimize_gradients import Minimum, differentiated
from optlayers.functional.options import SolveOptions
from optlayers.implicit.failed import with_zero_gradient, without_failed
from optlayers.implicit.guard import limit_derivatives
from optlayers.implicit.transforms import is_transformed, maps_nothing
from optlayers.solution import Status
from optlayers.solvers.minimize import opaque
from optlayers.solvers.minimize.central_path import OnPath, centered
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
    """Unknowns [B, n], multipliers [B, me] and [B, m], and the minimal value [B]."""

    x: Tensor
    equalities: Tensor
    rows: Tensor
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
    x, y, lam, _ = constant.split(found.point)
    with torch.no_grad():
        outputs = _Outputs(x, y, lam, constant.value(x).detach())
    is_whole = options.on_failure == "raise" or (not is_traced and bool(ok.all()))
    has_none = maps_nothing(inputs) if is_traced else not bool(ok.any())
    rows, safe = list(inputs), found.point
    if not is_whole and not has_none:
        safe, *rows = without_failed(found.point, rows, plan.input_ndims, ok)
    if has_none:
        read = _tensors_read(plan, inputs, modules, found, reads_closures)
        outputs = _Outputs(*(with_zero_gradient(one, read) for one in outputs))
    elif is_traced or _needs_gradient(plan, rows, modules, safe, reads_closures):
        minimum = _minimum(plan, rows, modules, start, safe, ok)
        new, known = _differentiated(minimum, options)
        outputs = new if is_whole else _chosen(ok, new, outputs)
        stats |= known
    if options.on_failure == "nan":
        outputs = _chosen(ok, outputs, _Outputs(*map(_nan, outputs)))
    x, y, lam, objective = outputs
    objective = -objective if plan.maximize else objective
    return SolvedMinimum(x, y, lam, objective, found.status, stats)


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


def _minimum(
    plan: MinimizePlan,
    rows: Sequence[Tensor],
    modules: Modules,
    start: Tensor,
    point: Tensor,
    ok: Tensor,
) -> Minimum:
    """What is to be differentiated; of failed samples, rows and points are others'."""
    constants = [one.detach() for one in rows]
    return Minimum(
        plan.subject,
        plan.program(rows, modules, start),
        plan.program(constants, modules, start),
        point,
        ok,
        len(plan.column_names) - plan.auxiliary_count,
        partial(_centered, plan, constants, modules, point),
    )


def _centered(
    plan: MinimizePlan,
    inputs: Sequence[Tensor],
    modules: Modules,
    point: Tensor,
    strength: float,
) -> OnPath:
    """The points of the barrier path, opaque to transforms."""
    if not is_transformed():
        x = point[:, : len(plan.column_names)]
        return centered(plan.program(inputs, modules, x), point, strength)
    parts = list(modules.values())
    handle = standalone(plan, tuple(modules), *parts) if modules else plan.handle
    return opaque.center(handle, [*inputs, *tensors_of(parts)], point, strength)


def _differentiated(
    minimum: Minimum, options: SolveOptions
) -> tuple[_Outputs, Mapping[str, Tensor]]:
    """Solutions and minimal value with derivatives, and what is known of these."""
    parts, previous, stats = differentiated(minimum, options)
    # Envelope theorem: the Lagrangian is stationary in z, so that a point with
    # derivatives right to one order less is enough, and needs no adjoint solve.
    program, (x, y, lam) = minimum.program, previous
    lagrangian = program.value(x)
    objective = lagrangian.detach()
    lagrangian = lagrangian + (y * program.equality(x)).sum(1)
    lagrangian = lagrangian + (lam * program.rows(x)).sum(1)
    objective = objective + (lagrangian - lagrangian.detach())
    return _Outputs(*parts, limit_derivatives(objective, options.order)), stats


def _chosen(ok: Tensor, new: _Outputs, old: _Outputs) -> _Outputs:
    """The new outputs of samples that are solved, the old of the others."""
    pairs = zip(new, old, strict=True)
    return _Outputs(
        *(torch.where(ok.view(-1, *[1] * (a.ndim - 1)), a, b) for a, b in pairs)
    )


def _nan(tensor: Tensor) -> Tensor:
    return torch.full_like(tensor, torch.nan)


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
        safe, *rows = without_failed(found.point, inputs, plan.input_ndims, ok)
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
