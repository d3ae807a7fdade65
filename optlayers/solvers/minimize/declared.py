"""One batch of declared problems through checks, the solver and measurement.

Every decision is made per sample: a bad sample is set aside before its functions are
evaluated and never changes the answer of another.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from optlayers.solution import Status
from optlayers.solvers.checks import first_faults
from optlayers.solvers.failure import Fault, report
from optlayers.solvers.minimize.plan import MinimizePlan, Modules
from optlayers.solvers.minimize.run import Found, certified
from optlayers.solvers.minimize.starts import best_of_rows, repeated


def run(
    plan: MinimizePlan,
    inputs: Sequence[Tensor],
    modules: Modules,
    checked: Sequence[Tensor],
    start: Tensor,
    batch_shape: Sequence[int],
) -> Found:
    """Check, solve, measure.

    Args:
        plan: how.
        inputs: of the plan's functions, each [*shape] (shared) or [B, *shape].
        modules: of the plan's functions, by name.
        checked: the tensors that `plan.checks` speak of, in that order.
        start: where the search begins, [B, n]; or [B, S, n], of which the start of
            the lowest minimum counts.
        batch_shape: the user's batch axes; prod = B.

    Raises:
        InvalidDataError, SolveError: samples failed and `plan.on_failure` is "raise".
    """
    if torch.is_inference_mode_enabled():
        # The methods differentiate, which tensors of inference mode cannot be.
        with torch.inference_mode(False):
            own, first = [one.clone() for one in inputs], start.clone()
            return run(plan, own, modules, checked, first, batch_shape)
    values = [one.detach().cpu().numpy() for one in checked]
    broken = first_faults(plan.checks, values, len(start))
    faults: dict[int, Fault] = {}
    if broken is None:
        found = _solved(plan, inputs, modules, start)
    else:
        status, culprit = map(torch.from_numpy, broken)
        for i in (culprit >= 0).nonzero()[:, 0].tolist():
            k = int(culprit[i])
            faults[i] = partial(plan.checks[k].describe, values[k])
        found = _set_aside(start, len(plan.point_names), status.to(start.device))
        good = (found.status == Status.SOLVED).nonzero()[:, 0]
        if len(good):
            own = _rows_of(plan, inputs, good)
            some = _solved(plan, own, modules, start[good])
            for every, few in zip(found, some, strict=True):
                every[good] = few
    if plan.on_failure == "raise" and not bool((found.status == 0).all()):
        raise _failure(plan, inputs, modules, found, faults, batch_shape)
    return found


def _rows_of(
    plan: MinimizePlan, inputs: Sequence[Tensor], samples: Tensor | slice
) -> list[Tensor]:
    """The inputs of some samples alone."""
    pairs = zip(inputs, plan.input_ndims, strict=True)
    return [one[samples] if one.ndim > ndim else one for one, ndim in pairs]


def _solved(
    plan: MinimizePlan, inputs: Sequence[Tensor], modules: Modules, start: Tensor
) -> Found:
    if start.ndim == 2:
        start = plan.completed(start, inputs, modules)
        program = plan.program(inputs, modules, start)
        return certified(program, plan.solver, start, plan.tolerance)
    own = repeated(inputs, plan.input_ndims, start.shape[1])
    rows = plan.completed(start.flatten(0, 1), own, modules)
    program = plan.program(own, modules, rows)
    start = rows.unflatten(0, start.shape[:2])
    return best_of_rows(program, plan.solver, start, plan.tolerance)


def _set_aside(start: Tensor, width: int, status: Tensor) -> Found:
    """Nothing was tried yet: every sample stands at its start, multipliers are zero."""
    start = start if start.ndim == 2 else start[:, 0]
    batch, size = start.shape
    return Found(
        torch.cat([start, start.new_zeros(batch, width - size)], 1),
        status.clone(),
        torch.zeros_like(status, dtype=torch.int64),
        start.new_full((batch,), torch.inf),
        torch.zeros_like(status, dtype=torch.float64),
    )


_REMEDIES: Mapping[Status, str] = {
    Status.STEP_LIMIT: "Raise max_steps of the solver, or start nearer to the "
    "solution, with Variable(start=...).",
    Status.STALLED: "Start nearer to the solution, with Variable(start=...), scale "
    "variables and constraints nearer to 1, or try another solver=.",
    Status.NOT_FINITE: "Look for a division by zero, a logarithm or an overflow in "
    "objective and constraints, and bound or start the variables away from it.",
    Status.INVALID_DATA: "Map the parameter into its range before the call (softplus, "
    "clamp, L @ L.T), or change its declaration.",
    Status.INFEASIBLE: "No feasible point was found, though one may lie elsewhere: "
    "loosen the constraint named, or start elsewhere, with Variable(start=...).",
    Status.UNBOUNDED: "Bound the variables, or add a term that grows with them.",
}


def _failure(
    plan: MinimizePlan,
    inputs: Sequence[Tensor],
    modules: Modules,
    found: Found,
    faults: Mapping[int, Fault],
    batch_shape: Sequence[int],
) -> Exception:
    def detail(i: int) -> str:
        return _detail(plan, _rows_of(plan, inputs, slice(i, i + 1)), modules, found, i)

    return report(plan.subject, found.status, faults, batch_shape, detail, _REMEDIES)


def _detail(
    plan: MinimizePlan,
    inputs: Sequence[Tensor],
    modules: Modules,
    found: Found,
    sample: int,
) -> str:
    """What is wrong at the last point of a sample, and by how much."""
    point = found.point[sample : sample + 1]
    program = plan.program(inputs, modules, point[:, : len(plan.column_names)])
    entries = program.residual(point).detach()[0].abs()
    if not bool(program.value(program.split(point).x).isfinite().all()):
        return "the objective is not finite at the last point"
    if not bool(entries.isfinite().all()):
        worst = int((~entries.isfinite()).to(torch.int8).argmax())
        return f"{plan.point_names[worst]} is not finite at the last point"
    if found.status[sample] == Status.INFEASIBLE:
        # Slopes say nothing where constraints alone are to blame.
        entries[: program.size] = 0
    worst = int(entries.argmax())
    return (
        f"residual {float(entries[worst]):.1e} of {plan.point_names[worst]}, in all "
        f"{float(found.residual[sample]):.1e} against a tolerance of "
        f"{plan.tolerance:.1e}"
    )
