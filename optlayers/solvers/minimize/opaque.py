"""Minimization as one opaque custom operator: tensors in, tensors out, no gradient.

Functions that call modules take their tensors as inputs; see `modules.standalone`.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

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


# The keys in force where nothing is transformed, as at the time of this import.
_PLAIN = (
    torch._C._dispatch_tls_local_include_set(),
    torch._C._dispatch_tls_local_exclude_set(),
)
_NAME = "optlayers::solve_minimum"
torch.library.define(
    _NAME,
    "(Tensor[] inputs, Tensor[] checked, Tensor start, SymInt plan, "
    "SymInt[] batch_shape, SymInt width) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
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


torch.library.register_vmap(_NAME, _solve_mapped)
_operator = torch.ops.optlayers.solve_minimum.default
