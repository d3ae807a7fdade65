"""Solve a declared system, then attach the derivative: the one path of every call.

inputs -> solve (no derivative) -> point -attach-> point with derivative. The inputs of
failed samples are replaced before the equations are evaluated for the gradient, so that
their numbers reach no shared parameter.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from optlayers.errors import TransformError
from optlayers.functional.options import SolveOptions
from optlayers.functional.root_gradients import Search, differentiated
from optlayers.implicit.failed import with_zero_gradient, without_failed
from optlayers.implicit.transforms import is_transformed, maps_nothing
from optlayers.solution import Status
from optlayers.solvers.root import opaque
from optlayers.solvers.root.modules import standalone, tensors_of
from optlayers.solvers.root.plan import Modules, RootPlan
from optlayers.solvers.root.run import Found, run

# Under a transform no loop may look at numbers, so the Jacobian is formed.
TRANSFORMABLE = frozenset(("exact", "dense", "least_squares"))


class SolvedRoot(NamedTuple):
    """The outcome of a differentiable root search.

    Attributes:
        point: z with its derivatives, [B, n].
        status: int8 [B].
        stats: numbers per sample, each [B].
    """

    point: Tensor
    status: Tensor
    stats: dict[str, Tensor]


def differentiable_root(
    plan: RootPlan,
    inputs: Sequence[Tensor],
    modules: Modules,
    start: Tensor,
    options: SolveOptions,
    *,
    checked: Sequence[Tensor],
    batch_shape: Sequence[int],
    reads_closures: bool,
) -> SolvedRoot:
    """Find the roots of a batch, differentiably in inputs, modules and closures.

    Args:
        plan: how to solve.
        inputs: each [*shape] (shared) or [B, *shape].
        modules: that the equations call, by name.
        start: where the search begins, [B, n].
        options: order, gradient and failure behaviour.
        checked: the tensors that the checks of the plan look at.
        batch_shape: leading dimensions of the call, whose product is B.
        reads_closures: whether the equations may read tensors that are no inputs.

    Raises:
        InvalidDataError, SolveError: samples failed, `on_failure="raise"`.
        SingularError: a derivative is needed where the Jacobian is singular.
        TransformError: a transform that cannot see the way the gradient is taken.
    """
    is_traced = is_transformed()
    if is_traced:
        _refuse_transform(plan, options)
    found = _found(plan, inputs, modules, checked, start, batch_shape)
    ok = found.status == int(Status.SOLVED)
    stats = {
        "steps": found.steps,
        "residual": found.residual,
        "seconds": found.seconds,
    }
    is_whole = options.on_failure == "raise" or (not is_traced and bool(ok.all()))
    has_none = maps_nothing(inputs) if is_traced else not bool(ok.any())
    if has_none:
        point = found.point
        if options.on_failure == "nan":
            point = torch.full_like(point, torch.nan)
        read = _tensors_read(plan, inputs, modules, found, reads_closures)
        return SolvedRoot(with_zero_gradient(point, read), found.status, stats)
    rows, safe = list(inputs), found.point
    if not is_whole:
        safe, *rows = without_failed(found.point, rows, plan.input_ndims, ok)
    point = found.point
    if is_traced or _needs_gradient(plan, rows, modules, safe, reads_closures):
        program = plan.program(rows, modules, safe)
        # The Jacobian at the solutions is cut from every derivative.
        constants = [one.detach() for one in rows]
        constant = plan.program(constants, modules, safe, jacobian=is_traced)
        point, condition = differentiated(
            Search(
                plan.subject, program, constant, plan.solver, start, found.steps,
                safe, ok,
            ),
            options,
        )  # fmt: skip
        if not is_whole:
            point = torch.where(ok.unsqueeze(1), point, found.point)
        stats["gradient_condition"] = condition
    if options.on_failure == "nan":
        point = torch.where(ok.unsqueeze(1), point, torch.nan)
    return SolvedRoot(point, found.status, stats)


def _tensors_read(
    plan: RootPlan,
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
        read.append(plan.program(rows, modules, safe).residual(safe))
    return read


def _found(
    plan: RootPlan,
    inputs: Sequence[Tensor],
    modules: Modules,
    checked: Sequence[Tensor],
    start: Tensor,
    batch_shape: Sequence[int],
) -> Found:
    """The solve without derivatives, opaque to transforms.

    Where nothing is transformed, modules are called as they are.
    """
    if not modules:
        return opaque.solve(plan.handle, inputs, checked, start, batch_shape)
    if is_transformed():
        parts = list(modules.values())
        handle = standalone(plan, tuple(modules), *parts)
        tensors = [*inputs, *tensors_of(parts)]
        return opaque.solve(handle, tensors, checked, start, batch_shape)
    given = [one.detach() for one in inputs]
    watched = [one.detach() for one in checked]
    return run(plan, given, modules, watched, start, batch_shape)


def _needs_gradient(
    plan: RootPlan,
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
    return plan.program(inputs, modules, point).residual(point).requires_grad


def _refuse_transform(plan: RootPlan, options: SolveOptions) -> None:
    if options.gradient not in TRANSFORMABLE:
        raise TransformError(
            f'{plan.subject}: gradient="{options.gradient}" looks at its numbers, '
            "which torch.func and torch.compile hide; use "
            f"{', '.join(sorted(TRANSFORMABLE))}."
        )
