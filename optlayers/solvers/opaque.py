"""Every solve is one opaque custom operator: tensors in, tensors out, no gradient.

Autograd, `torch.func` and `torch.compile` see a constant; `implicit` adds derivatives
around it. Failures raise inside, which works under fullgraph.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from optlayers.errors import ShapeError
from optlayers.programs.cone_program import ConeProgram
from optlayers.solvers.chain import run
from optlayers.solvers.plan import Plan, plan_of, sample_ndims


class Opaque(NamedTuple):
    """What is known of B samples after a solve; nothing of it carries a gradient.

    Attributes:
        point: z, [B, n + m]; finite, also for failed samples.
        status: a `Status` each, int8 [B].
        steps: steps taken by all solvers tried, int64 [B].
        residual: measured, relative, [B].
        seconds: time spent in solvers, [B].
        unique: whether the multipliers are the only ones, bool [B].
    """

    point: Tensor
    status: Tensor
    steps: Tensor
    residual: Tensor
    seconds: Tensor
    unique: Tensor


def solve(
    program: ConeProgram,
    plan: Plan,
    checked: Sequence[Tensor] = (),
    batch_shape: Sequence[int] | None = None,
    start: Tensor | None = None,
) -> Opaque:
    """Check, solve, measure, fall back: the point of every sample and how it went.

    Args:
        program: B samples, with `plan.structure`.
        plan: solvers, checks, tolerance, `on_failure`.
        checked: the tensors `plan.checks` speak of, in that order, each [B, *sample]
            or [*sample]; the same tensor may come several times.
        batch_shape: the user's batch axes, whose product is B, for error messages;
            () says that there is no batch, None that it is [B].
        start: where solvers that can start, [B, n].

    Raises:
        InvalidDataError: `on_failure` is "raise" and a check failed.
        SolveError: `on_failure` is "raise" and a sample was not solved.
        ShapeError: `checked` and `plan.checks` differ in number, or `batch_shape`
            does not multiply to B.
    """
    if batch_shape is None:
        batch_shape = [program.batch_size]
    if len(checked) != len(plan.checks):
        raise ShapeError(
            f"{plan.subject}: {len(checked)} tensors for {len(plan.checks)} checks; "
            "give one for each."
        )
    if math.prod(batch_shape) != program.batch_size:
        raise ShapeError(
            f"{plan.subject}: batch_shape {list(batch_shape)} is not a shape of "
            f"{program.batch_size} samples."
        )
    tensors = [t.detach() for t in program.tensors()]
    watched = [t.detach() for t in checked]
    first = None if start is None else start.detach()
    return Opaque(*_operator(tensors, watched, first, plan.handle, list(batch_shape)))


# `define` and `impl` rather than the decorator `custom_op`, whose wrapper for gradients
# (there are none) costs another 45 microseconds a call in torch 2.13.
_NAME = "optlayers::solve"
torch.library.define(
    _NAME,
    "(Tensor[] program_tensors, Tensor[] checked, Tensor? start, SymInt plan, "
    "SymInt[] batch_shape) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    tags=(torch.Tag.pt2_compliant_tag,),
)


@torch.library.impl(_NAME, "CompositeExplicitAutograd")
def _solve(
    program_tensors: list[Tensor],
    checked: list[Tensor],
    start: Tensor | None,
    plan: int,
    batch_shape: list[int],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    device = program_tensors[-1].device
    own = plan_of(plan)
    numbers = [t.to("cpu", torch.float64) for t in program_tensors]
    program = ConeProgram.rebuild(numbers, own.structure)
    if start is not None:
        start = start.to("cpu", torch.float64)
    outcome = run(own, program, [t.cpu() for t in checked], start, batch_shape)
    if device.type == "cpu":
        return outcome
    point, status, steps, residual, seconds, unique = (t.to(device) for t in outcome)
    return point, status, steps, residual, seconds, unique


@torch.library.register_fake(_NAME)
def _(program_tensors, checked, start, plan, batch_shape):
    q, b = program_tensors[-3], program_tensors[-1]
    batch = q.shape[0]
    return (
        q.new_empty(batch, q.shape[1] + b.shape[1], dtype=torch.float64),
        q.new_empty(batch, dtype=torch.int8),
        q.new_empty(batch, dtype=torch.int64),
        q.new_empty(batch, dtype=torch.float64),
        q.new_empty(batch, dtype=torch.float64),
        q.new_empty(batch, dtype=torch.bool),
    )


def _solve_mapped(info, in_dims, program_tensors, checked, start, plan, batch_shape):
    """Flatten the mapped axis V into the batch, outermost: B becomes V * B."""
    own = plan_of(plan)
    count, batch = info.batch_size, math.prod(batch_shape)
    program_dims, checked_dims, start_dim, _, _ = in_dims
    ndims = sample_ndims(own.structure)
    must_be_batched = [*[False] * (len(ndims) - 3), True, False, True]

    numbers = [
        flat(t, mapped, ndim, count, batch, must_be_batched=must)
        for t, mapped, ndim, must in zip(
            program_tensors, program_dims, ndims, must_be_batched, strict=True
        )
    ]
    watched = [
        flat(t, mapped, check.sample_ndim, count, batch)
        for t, mapped, check in zip(checked, checked_dims, own.checks, strict=True)
    ]
    if start is not None:
        start = flat(start, start_dim, 1, count, batch, must_be_batched=True)
    results = _operator(numbers, watched, start, plan, [count, *batch_shape])
    return tuple(t.unflatten(0, (count, batch)) for t in results), (0,) * len(results)


def flat(
    t: Tensor,
    mapped: int | None,
    ndim: int,
    count: int,
    batch: int,
    *,
    must_be_batched: bool = False,
) -> Tensor:
    """A tensor of a mapped call as one of a plain call with V * B samples.

    Args:
        t: [*sample] or [B, *sample], with the mapped axis V somewhere or not at all.
        mapped: where the mapped axis stands; None if there is none.
        ndim: axes of one sample.
        count: V.
        batch: B.
        must_be_batched: whether a shared tensor is repeated for every sample too.

    Returns:
        [V * B, *sample]; a shared tensor stays as it is if it may.
    """
    if mapped is None:
        if t.ndim == ndim and not must_be_batched:
            return t
        return t.expand(count, *t.shape).flatten(0, 1)
    t = t.movedim(mapped, 0)
    if t.ndim == ndim + 1:
        t = t.unsqueeze(1).expand(count, batch, *t.shape[1:])
    return t.flatten(0, 1)


torch.library.register_vmap(_NAME, _solve_mapped)
_operator = torch.ops.optlayers.solve.default
