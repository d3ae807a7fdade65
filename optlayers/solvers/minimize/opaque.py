"""Minimization as opaque custom operators: tensors in, tensors out, no gradient.

Functions that call modules take their tensors as inputs; see `modules.standalone`.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from optlayers.solvers.minimize.central_path import OnPath, centered, refuse_lost
from optlayers.solvers.minimize.declared import run
from optlayers.solvers.minimize.plan import MinimizePlan
from optlayers.solvers.minimize.run import Found
from optlayers.solvers.opaque import flat
from optlayers.solvers.plan import plan_of


def solve(
    plan: int,
    inputs: Sequence[Tensor],
    checked: Sequence[Tensor],
    start: Tensor,
    batch_shape: Sequence[int],
    width: int,
) -> Found:
    """`run` of problems whose tensors are all among their inputs, detached.

    Args:
        plan: the handle of a `MinimizePlan`: how.
        inputs: of the plan's functions, each [*shape] (shared) or [B, *shape].
        checked: the tensors that `plan.checks` speak of, in that order.
        start: where the search begins, [B, n] or [B, S, n].
        batch_shape: the user's batch axes; prod = B.
        width: n + me + m.

    Raises:
        InvalidDataError, SolveError: samples failed and `plan.on_failure` is "raise".
    """
    own = [one.detach() for one in inputs]
    watched = [one.detach() for one in checked]
    shape = list(batch_shape)
    return Found(*_operator(own, watched, start.detach(), plan, shape, width))


def center(
    plan: int, inputs: Sequence[Tensor], point: Tensor, strength: float
) -> OnPath:
    """`centered` of solved problems whose tensors are all among their inputs, detached.

    Args:
        plan: the handle of a `MinimizePlan`.
        inputs: of the plan's functions, each [*shape] (shared) or [B, *shape].
        point: the solutions, [B, n + me + m].
        strength: mu.

    Raises:
        SingularError: a path was lost and `plan.on_failure` is "raise".
    """
    own = [one.detach() for one in inputs]
    return OnPath(*_center_operator(own, point.detach(), plan, strength))


# The keys in force where nothing is transformed, as at the time of this import.
_PLAIN = (
    torch._C._dispatch_tls_local_include_set(),
    torch._C._dispatch_tls_local_exclude_set(),
)
_NAME = "optlayers::solve_minimum"
_CENTER = "optlayers::center_minimum"
torch.library.define(
    _NAME,
    "(Tensor[] inputs, Tensor[] checked, Tensor start, SymInt plan, "
    "SymInt[] batch_shape, SymInt width) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    tags=(torch.Tag.pt2_compliant_tag,),
)
torch.library.define(
    _CENTER,
    "(Tensor[] inputs, Tensor point, SymInt plan, float strength) -> (Tensor, Tensor)",
    tags=(torch.Tag.pt2_compliant_tag,),
)


@torch.library.impl(_NAME, "CompositeExplicitAutograd")
def _solve(
    inputs: list[Tensor],
    checked: list[Tensor],
    start: Tensor,
    plan: int,
    batch_shape: list[int],
    width: int,
) -> Found:
    # The first call of compiled code is made by a dispatch mode, under which torch 2.13
    # leaves autograd and vmap out; the functions need both.
    with torch._C._ForceDispatchKeyGuard(*_PLAIN):
        return run(plan_of(plan), inputs, {}, checked, start, batch_shape)


@torch.library.impl(_CENTER, "CompositeExplicitAutograd")
def _center(inputs: list[Tensor], point: Tensor, plan: int, strength: float) -> OnPath:
    own: MinimizePlan = plan_of(plan)
    with torch._C._ForceDispatchKeyGuard(*_PLAIN):
        x = point[:, : len(own.column_names)]
        found = centered(own.program(inputs, {}, x), point, strength)
    if own.on_failure == "raise":
        refuse_lost(own.subject, ~found.is_reached, strength)
    return found


@torch.library.register_fake(_CENTER)
def _(inputs, point, plan, strength):
    return point.new_empty(point.shape), point.new_empty(len(point), dtype=torch.bool)


@torch.library.register_fake(_NAME)
def _(inputs, checked, start, plan, batch_shape, width):
    batch = start.shape[0]
    return Found(
        start.new_empty(batch, width),
        start.new_empty(batch, dtype=torch.int8),
        start.new_empty(batch, dtype=torch.int64),
        start.new_empty(batch),
        start.new_empty(batch, dtype=torch.float64),
    )


def _solve_mapped(info, in_dims, inputs, checked, start, plan, batch_shape, width):
    """Flatten the mapped axis V into the batch, outermost: B becomes V * B."""
    own: MinimizePlan = plan_of(plan)
    count, batch = info.batch_size, math.prod(batch_shape)
    input_dims, checked_dims, start_dim, *_ = in_dims
    numbers = [
        flat(t, mapped, ndim, count, batch)
        for t, mapped, ndim in zip(inputs, input_dims, own.input_ndims, strict=True)
    ]
    watched = [
        flat(t, mapped, check.sample_ndim, count, batch)
        for t, mapped, check in zip(checked, checked_dims, own.checks, strict=True)
    ]
    axes = start.ndim - 1 - (start_dim is not None)
    start = flat(start, start_dim, axes, count, batch, must_be_batched=True)
    results = _operator(numbers, watched, start, plan, [count, *batch_shape], width)
    return tuple(t.unflatten(0, (count, batch)) for t in results), (0,) * len(results)


def _center_mapped(info, in_dims, inputs, point, plan, strength):
    """Likewise; the points are of V * B samples."""
    own: MinimizePlan = plan_of(plan)
    input_dims, point_dim, *_ = in_dims
    count = info.batch_size
    batch = (
        point.shape[0] if point_dim is None else point.movedim(point_dim, 0).shape[1]
    )
    numbers = [
        flat(t, mapped, ndim, count, batch)
        for t, mapped, ndim in zip(inputs, input_dims, own.input_ndims, strict=True)
    ]
    point = flat(point, point_dim, 1, count, batch, must_be_batched=True)
    results = _center_operator(numbers, point, plan, strength)
    return tuple(t.unflatten(0, (count, batch)) for t in results), (0,) * len(results)


torch.library.register_vmap(_NAME, _solve_mapped)
torch.library.register_vmap(_CENTER, _center_mapped)
_operator = torch.ops.optlayers.solve_minimum.default
_center_operator = torch.ops.optlayers.center_minimum.default
