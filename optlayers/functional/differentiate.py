"""Solve opaquely, then attach the derivative: the one path of every convex call.

inputs -build-> program -solve (opaque)-> point -attach-> point with derivative. Samples
that failed are selected out before the program is built for the gradient, so that their
numbers reach no shared parameter.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from optlayers.functional.options import SolveOptions
from optlayers.implicit.attach import attach
from optlayers.implicit.diffcp import attach_diffcp
from optlayers.implicit.failed import replace_failed
from optlayers.implicit.guard import limit_derivatives
from optlayers.implicit.transforms import hides_values, is_transformed
from optlayers.programs.cone_program import ConeProgram
from optlayers.solution import Status
from optlayers.solvers.opaque import solve
from optlayers.solvers.plan import Plan


class Built(NamedTuple):
    """A program and the constant of its objective, [B]."""

    program: ConeProgram
    offset: Tensor


# From inputs, each [*s] (shared) or [B, *s], and B, to a program.
Build = Callable[[Sequence[Tensor], int], Built]


# x [B, n], y [B, m], s [B, m] and the objective [B].
Outputs = tuple[Tensor, Tensor, Tensor, Tensor]


class Solved(NamedTuple):
    """The outcome of a differentiable solve.

    Attributes:
        x, y, s: solution [B, n], dual and slack [B, m], with their derivatives.
        objective: minimal value with its derivative, [B].
        status: int8 [B].
        stats: numbers per sample, each [B].
    """

    x: Tensor
    y: Tensor
    s: Tensor
    objective: Tensor
    status: Tensor
    stats: dict[str, Tensor]

    @property
    def ok(self) -> Tensor:
        """Whether each sample was solved, bool [B]."""
        return self.status == int(Status.SOLVED)


def differentiable_solve(
    built: Built,
    build: Build,
    inputs: Sequence[Tensor],
    sample_ndims: Sequence[int],
    plan: Plan,
    options: SolveOptions,
    *,
    checked: Sequence[Tensor],
    batch_shape: Sequence[int],
) -> Solved:
    """Solve the programs built from `inputs`, differentiably in them.

    Args:
        built: the programs to solve.
        build: makes them of `inputs`; called again without the failed samples when a
            gradient is needed and there are some.
        inputs: what `built` was made of, each [*s] (shared) or [B, *s].
        sample_ndims: the number of dimensions of one sample of each input.
        plan: how to solve.
        options: order, gradient and failure behaviour.
        checked: the tensors that the checks of the plan look at.
        batch_shape: leading dimensions of the call, whose product is B.

    Raises:
        InvalidDataError, SolveError: samples failed, `on_failure="raise"`.
    """
    found = solve(
        built.program.detach(), plan, [one.detach() for one in checked], batch_shape
    )
    ok = found.status == int(Status.SOLVED)
    stats = {
        "steps": found.steps,
        "residual": found.residual,
        "seconds": found.seconds,
        "multipliers_unique": found.unique,
    }
    if not _needs_gradient(built):
        plain = _outputs(built, found.point)
        return Solved(*_marked(plain, ok, options), found.status, stats)
    if options.on_failure == "raise" or _is_known_whole(ok):
        outputs, condition = _differentiated(built, found.point, ok, options)
        return Solved(*outputs, found.status, stats | condition)
    # Failed rows stand for a good one until their outputs are put back.
    batch = built.program.batch_size
    rows = [
        one.expand(batch, *one.shape) if one.ndim == ndim else one
        for one, ndim in zip(inputs, sample_ndims, strict=True)
    ]
    point, *rows = replace_failed([found.point, *rows], ok)
    outputs, condition = _differentiated(build(rows, batch), point, ok, options)
    x, y, s, objective = (
        torch.where(_rows(ok, new), new, old.detach())
        for new, old in zip(outputs, _outputs(built, found.point), strict=True)
    )
    marked = _marked((x, y, s, objective), ok, options)
    return Solved(*marked, found.status, stats | condition)


def _marked(outputs: Outputs, ok: Tensor, options: SolveOptions) -> Outputs:
    """Failed rows as NaN if that was asked for; as they are otherwise."""
    if options.on_failure != "nan":
        return outputs
    x, y, s, objective = (torch.where(_rows(ok, v), v, torch.nan) for v in outputs)
    return x, y, s, objective


def _rows(ok: Tensor, value: Tensor) -> Tensor:
    return ok if value.ndim == 1 else ok.unsqueeze(1)


def _outputs(built: Built, point: Tensor) -> Outputs:
    """x, y, s and the objective at a point."""
    x, y, s = built.program.split(point)
    return x, y, s, built.program.objective(x) + built.offset


def _differentiated(
    built: Built, value: Tensor, ok: Tensor, options: SolveOptions
) -> tuple[Outputs, dict[str, Tensor]]:
    """x, y, s and the objective with derivatives, and what is known of these."""
    program, offset = built
    if options.gradient == "diffcp":
        point, previous = attach_diffcp(value, program, ok), value
        condition = {}
    else:
        attached = attach(value, program, options.order)
        point, previous = attached.point, attached.previous
        condition = {"gradient_condition": attached.condition}
    x, y, s = program.split(point)
    # Envelope theorem: the Lagrangian is stationary in the point, so that a point with
    # derivatives right to one order less is enough, and needs no adjoint solve.
    objective = program.objective(value[:, : program.size]).detach() + offset.detach()
    lagrangian = program.lagrangian(previous) + offset
    objective = objective + (lagrangian - lagrangian.detach())
    return (x, y, s, limit_derivatives(objective, options.order)), condition


def _needs_gradient(built: Built) -> bool:
    if is_transformed():
        return True
    return torch.is_grad_enabled() and any(
        tensor.requires_grad for tensor in [*built.program.tensors(), built.offset]
    )


def _is_known_whole(ok: Tensor) -> bool:
    """Whether every sample is known to be good; transforms hide the values."""
    if hides_values():
        return False
    return bool(ok.all())
