"""One batch of systems through checks, the solver and measurement.

Every decision is made per sample: a bad sample is set aside before the equations are
evaluated and never changes the answer of another.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from optlayers.interfaces import Solver
from optlayers.programs.root import RootProgram
from optlayers.solution import Status
from optlayers.solvers.checks import first_faults
from optlayers.solvers.failure import Fault, report
from optlayers.solvers.iterative import size_of
from optlayers.solvers.root.plan import Modules, RootPlan
from optlayers.solvers.root.repeated import differing
from optlayers.solvers.root.rounding import is_rounding


class Found(NamedTuple):
    """What is known of B samples after a solve; nothing of it carries a gradient.

    Attributes:
        point: z, [B, n]; finite, also for failed samples.
        status: a `Status` each, int8 [B].
        steps: steps taken by the solver, int64 [B].
        residual: largest entry of the residual, measured at the point, [B].
        seconds: time spent in the solver, float64 [B].
    """

    point: Tensor
    status: Tensor
    steps: Tensor
    residual: Tensor
    seconds: Tensor


def run(
    plan: RootPlan,
    inputs: Sequence[Tensor],
    modules: Modules,
    checked: Sequence[Tensor],
    start: Tensor,
    batch_shape: Sequence[int],
) -> Found:
    """Check, solve, measure.

    Args:
        plan: how.
        inputs: of the plan's function, each [*shape] (shared) or [B, *shape].
        modules: of the plan's function, by name.
        checked: the tensors that `plan.checks` speak of, in that order.
        start: where the search begins, [B, n].
        batch_shape: the user's batch axes; prod = B.

    Raises:
        InvalidDataError, SolveError: samples failed and `plan.on_failure` is "raise".
    """
    if torch.is_inference_mode_enabled():
        # Newton's methods differentiate, which tensors of inference mode cannot be.
        with torch.inference_mode(False):
            own, first = [one.clone() for one in inputs], start.clone()
            return run(plan, own, modules, checked, first, batch_shape)
    batch = start.shape[0]
    values = [one.detach().cpu().numpy() for one in checked]
    broken = first_faults(plan.checks, values, batch)
    faults: dict[int, Fault] = {}
    if broken is None:
        found = _solved(plan, inputs, modules, start)
    else:
        status, culprit = map(torch.from_numpy, broken)
        for i in (culprit >= 0).nonzero()[:, 0].tolist():
            k = int(culprit[i])
            faults[i] = partial(plan.checks[k].describe, values[k])
        found = _set_aside(start, status.to(start.device))
        good = (found.status == Status.SOLVED).nonzero()[:, 0]
        if len(good):
            pairs = zip(inputs, plan.input_ndims, strict=True)
            own = [one[good] if one.ndim > ndim else one for one, ndim in pairs]
            for all_rows, some in zip(
                found, _solved(plan, own, modules, start[good]), strict=True
            ):
                all_rows[good] = some
    if plan.on_failure == "raise" and not bool((found.status == 0).all()):
        raise _failure(plan, inputs, modules, found, faults, batch_shape)
    return found


def certified(
    program: RootProgram, solver: Solver, start: Tensor, tolerance: float
) -> Found:
    """What a solver finds, as far as it can be believed: its residual is measured.

    A residual above the tolerance that is rounding of the unknowns counts as zero.
    """
    if start.shape[0] == 0:
        return _set_aside(start, start.new_zeros(0, dtype=torch.int8))
    with torch.no_grad():
        found = solver.solve(program, start)
        # A root outside the bounds is none; the nearest point inside is measured.
        point = program.clamp(found.value)
        residual = size_of(program.residual(point))
    claimed = found.status == Status.SOLVED
    status = torch.where(claimed, int(Status.STALLED), found.status)
    solved = residual <= tolerance
    if not bool(solved.all()):
        solved = solved | is_rounding(program, point)
    status = torch.where(solved, int(Status.SOLVED), status)
    return Found(
        point.nan_to_num(0.0, 0.0, 0.0),
        status.to(torch.int8),
        found.stats.get("steps", torch.zeros_like(status)).to(torch.int64),
        residual,
        found.stats.get("seconds", torch.zeros_like(residual)).to(torch.float64),
    )


def _solved(
    plan: RootPlan, inputs: Sequence[Tensor], modules: Modules, start: Tensor
) -> Found:
    program = plan.program(inputs, modules, start)
    return certified(program, plan.solver, start, plan.tolerance)


def _set_aside(start: Tensor, status: Tensor) -> Found:
    """Nothing was tried yet: every sample stands at its start."""
    batch = start.shape[0]
    return Found(
        start.clone(),
        status.clone(),
        torch.zeros_like(status, dtype=torch.int64),
        start.new_full((batch,), torch.inf),
        torch.zeros_like(status, dtype=torch.float64),
    )


_REMEDIES: Mapping[Status, str] = {
    Status.STEP_LIMIT: "Raise max_steps of the solver, or start nearer to the root, "
    "with Variable(start=...).",
    Status.STALLED: "Start nearer to the root, with Variable(start=...), scale "
    "unknowns and equations nearer to 1, or try another solver=.",
    Status.NOT_FINITE: "Look for a division by zero, a logarithm or an overflow in the "
    "equations, and bound or start the variables away from it.",
    Status.INVALID_DATA: "Map the parameter into its range before the call (softplus, "
    "clamp, L @ L.T), or change its declaration.",
    Status.INFEASIBLE: "Loosen the bounds of the variables.",
    Status.UNBOUNDED: "Bound the variables.",
}


def _failure(
    plan: RootPlan,
    inputs: Sequence[Tensor],
    modules: Modules,
    found: Found,
    faults: Mapping[int, Fault],
    batch_shape: Sequence[int],
) -> Exception:
    def detail(i: int) -> str:
        pairs = zip(inputs, plan.input_ndims, strict=True)
        own = [one[i : i + 1] if one.ndim > ndim else one for one, ndim in pairs]
        point = found.point[i : i + 1]
        with torch.no_grad():
            size = plan.program(own, modules, point).residual(point)[0].abs()
        if not bool(size.isfinite().all()):
            worst = int((~size.isfinite()).to(torch.int8).argmax())
            return f"{plan.row_names[worst]} is not finite at the last point"
        name = plan.row_names[int(size.argmax())]
        again, first = float(size.max()), float(found.residual[i])
        first = first if math.isfinite(first) else again
        return (
            f"residual {first:.1e} of {name} against a tolerance of "
            f"{plan.tolerance:.1e}{differing(first, again, plan.tolerance)}"
        )

    return report(plan.subject, found.status, faults, batch_shape, detail, _REMEDIES)
