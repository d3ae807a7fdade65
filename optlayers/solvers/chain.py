"""One batch through checks, solvers in turn, measurement and multipliers.

Every decision is made per sample: a bad sample is set aside and never changes the
answer of another.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from optlayers.programs.cone_program import ConeProgram
from optlayers.solution import Solution, Status
from optlayers.solvers import certify
from optlayers.solvers.checks import first_faults
from optlayers.solvers.failure import Fault, failure
from optlayers.solvers.multipliers import shorten_multipliers
from optlayers.solvers.plan import Plan, sample_ndims
from optlayers.solvers.scaling import objective_scale, scaled, unscaled

Outcome = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]

# Statuses that stand once they are proven: no other solver need be asked.
_FINAL = torch.tensor(
    [int(s) for s in (Status.SOLVED, Status.INFEASIBLE, Status.UNBOUNDED)],
    dtype=torch.int8,
)


@dataclass(frozen=True)
class _Attempt:
    """Best results so far, a row per sample.

    Attributes:
        point: [B, n + m].
        status: int8 [B].
        steps: int64 [B].
        residual: [B].
        seconds: [B].
    """

    point: Tensor
    status: Tensor
    steps: Tensor
    residual: Tensor
    seconds: Tensor

    @classmethod
    def empty(cls, batch_size: int, width: int) -> "_Attempt":
        return cls(
            torch.zeros(batch_size, width, dtype=torch.float64),
            torch.full((batch_size,), int(Status.STALLED), dtype=torch.int8),
            torch.zeros(batch_size, dtype=torch.int64),
            torch.full((batch_size,), torch.inf, dtype=torch.float64),
            torch.zeros(batch_size, dtype=torch.float64),
        )

    def store(self, rows: Tensor, new: "_Attempt") -> None:
        """Take over `new`, whose samples are `rows`, where it is better; add costs."""
        old = self.select(rows)
        self.put(rows, old.better_of(new))

    def better_of(self, other: "_Attempt") -> "_Attempt":
        """The better result of each sample, and the costs of both."""
        is_better = _rank(other) < _rank(self)
        return _Attempt(
            torch.where(is_better[:, None], other.point, self.point),
            torch.where(is_better, other.status, self.status),
            self.steps + other.steps,
            torch.where(is_better, other.residual, self.residual),
            self.seconds + other.seconds,
        )

    def put(self, rows: Tensor, other: "_Attempt") -> None:
        """Overwrite some rows."""
        for f in fields(self):
            getattr(self, f.name)[rows] = getattr(other, f.name)

    def select(self, rows: Tensor) -> "_Attempt":
        """The results of some samples."""
        return _Attempt(*(getattr(self, f.name)[rows] for f in fields(self)))


def run(
    plan: Plan,
    program: ConeProgram,
    checked: Sequence[Tensor],
    start: Tensor | None,
    batch_shape: Sequence[int],
) -> Outcome:
    """Point, status, steps, residual, seconds, uniqueness; see `opaque.Opaque`.

    Raises:
        InvalidDataError, SolveError: samples failed and `plan.on_failure` is "raise".
    """
    batch = program.batch_size
    faults, bad = _faults(plan, program, checked)
    if bad is None:
        best, is_unique = _solve_good(plan, program, start)
    else:
        best = _Attempt.empty(batch, program.size + program.rows)
        is_unique = torch.ones(batch, dtype=torch.bool)
        best.status.copy_(bad)
        good = (bad == Status.SOLVED).nonzero()[:, 0]
        if len(good):
            found, unique = _solve_good(
                plan, program.select(good), None if start is None else start[good]
            )
            best.put(good, found)
            is_unique[good] = unique
    if plan.on_failure == "raise" and not are_all_solved(best.status):
        raise failure(
            plan, program, best.point, best.status, best.residual, faults, batch_shape
        )
    return (
        best.point, best.status, best.steps, best.residual, best.seconds, is_unique,
    )  # fmt: skip


def _solve_good(
    plan: Plan, program: ConeProgram, start: Tensor | None
) -> tuple[_Attempt, Tensor]:
    """All samples of a program whose numbers are finite and whose checks hold."""
    scale = objective_scale(program)
    if scale is None:
        return _solve_scaled(plan, program, start)
    best, is_unique = _solve_scaled(plan, scaled(program, scale), start)
    point = unscaled(program, best.point, scale)
    return replace(best, point=point), is_unique


def _solve_scaled(
    plan: Plan, program: ConeProgram, start: Tensor | None
) -> tuple[_Attempt, Tensor]:
    found = plan.solvers[0].solve(program, start)
    best = _measured(program, found, plan.tolerance)
    is_solved = best.status == Status.SOLVED
    is_independent = found.stats.get("independent")
    if not are_all_solved(best.status):
        if is_independent is not None:
            is_independent = is_independent & is_solved
        _fall_back(plan, program, start, best)
        is_solved = best.status == Status.SOLVED
    point, is_unique = shorten_multipliers(
        program, best.point, is_solved, plan.tolerance, is_independent
    )
    return replace(best, point=point), is_unique


def _fall_back(
    plan: Plan, program: ConeProgram, start: Tensor | None, best: _Attempt
) -> None:
    """Ask the other solvers for the samples that are neither solved nor hopeless."""
    for solver in plan.solvers[1:]:
        pending = (~torch.isin(best.status, _FINAL)).nonzero()[:, 0]
        if len(pending) == 0:
            return
        some = program.select(pending)
        found = solver.solve(some, None if start is None else start[pending])
        best.store(pending, _measured(some, found, plan.tolerance))


def _measured(program: ConeProgram, found: Solution, tolerance: float) -> _Attempt:
    """What a solver found, as far as it can be believed."""
    x, y, s = (_as_double(t) for t in (found.value, found.duals["y"], found.duals["s"]))
    status, batch = found.status.cpu(), program.batch_size
    point = program.pack(x, y, s)
    residual = certify.measure(program, point)
    goal = min(tolerance, certify.POLISH_TARGET)
    if are_all_solved(status) and certify.are_all_below(residual, goal):
        believed = status
    else:
        point = point.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        believed = _confirmed(program, point, status, x, y)
        # What is proven to have no solution is not polished into looking like one.
        is_hopeless = (believed == Status.INFEASIBLE) | (believed == Status.UNBOUNDED)
        residual = residual.masked_fill(is_hopeless, torch.inf)
        point, residual = certify.polish(program, point, residual)
        believed = certify.believed_status(believed, residual, tolerance)
    return _Attempt(
        point, believed, _cost(found, "steps", torch.int64, batch), residual,
        _cost(found, "seconds", torch.float64, batch),
    )  # fmt: skip


def are_all_solved(status: Tensor) -> bool:
    """Whether no sample failed; SOLVED is the smallest status, 0."""
    return certify.are_all_below(status, Status.SOLVED)


def _as_double(tensor: Tensor) -> Tensor:
    return tensor.to("cpu", torch.float64)


def _cost(found: Solution, name: str, dtype: torch.dtype, batch: int) -> Tensor:
    if name not in found.stats:
        return torch.zeros(batch, dtype=dtype)
    return found.stats[name].to("cpu", dtype)


def _confirmed(
    program: ConeProgram, point: Tensor, status: Tensor, x: Tensor, y: Tensor
) -> Tensor:
    """The status less unproven "infeasible" and "unbounded"; proofs go to `point`."""
    n, status = program.size, status.clone()
    for claim, proof, proves in (
        (Status.INFEASIBLE, y, certify.proves_infeasible),
        (Status.UNBOUNDED, x, certify.proves_unbounded),
    ):
        claimed = (status == claim).nonzero()[:, 0]
        if len(claimed) == 0:
            continue
        unit = proof[claimed].nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        unit = unit / unit.abs().amax(1, keepdim=True).clamp_min(1e-300)
        is_proven = proves(program.select(claimed), unit)
        status[claimed[~is_proven]] = Status.STALLED
        proven = claimed[is_proven]
        if claim == Status.INFEASIBLE:
            point[proven, n:] = program.cones.project_dual(unit[is_proven])
        else:
            point[proven, :n] = unit[is_proven]
    return status


def _rank(attempt: _Attempt) -> Tensor:
    """Smaller is better: solved, then proven hopeless, then by residual."""
    is_proven = (attempt.status == Status.INFEASIBLE) | (
        attempt.status == Status.UNBOUNDED
    )
    rank = attempt.residual.clamp(max=torch.finfo(torch.float64).max)
    rank = rank.masked_fill(is_proven, -1.0)
    return rank.masked_fill(attempt.status == Status.SOLVED, -2.0)


def _faults(
    plan: Plan, program: ConeProgram, checked: Sequence[Tensor]
) -> tuple[dict[int, Fault], Tensor | None]:
    """Samples that must not reach a solver: what to say of each, and statuses [B]."""
    batch = program.batch_size
    values = [_readable(t) for t in checked]
    broken = first_faults(plan.checks, values, batch)
    finite = _finite_rows(program)
    if broken is None and finite is None:
        return {}, None
    status = np.zeros(batch, np.int8) if broken is None else broken[0]
    faults: dict[int, Fault] = {}
    if broken is not None:
        for i in np.flatnonzero(broken[1] >= 0):
            k = int(broken[1][i])
            faults[int(i)] = partial(plan.checks[k].describe, values[k])
    if finite is not None:
        status[~finite & (status == Status.SOLVED)] = Status.NOT_FINITE
    return faults, torch.from_numpy(status)


def _finite_rows(program: ConeProgram) -> NDArray[np.bool_] | None:
    """Samples whose numbers are all finite, bool [B]; None if all samples' are."""
    tensors = program.tensors()
    # A sum is finite unless an entry is not, or it overflows: then look closer.
    if all(math.isfinite(t.sum().item()) for t in tensors):
        return None
    rows = torch.ones(program.batch_size, dtype=torch.bool)
    for t, ndim in zip(tensors, sample_ndims(program.structure()), strict=True):
        is_finite = t.isfinite()
        rows &= is_finite.flatten(1).all(1) if t.ndim > ndim else is_finite.all()
    return None if bool(rows.all()) else rows.numpy()


def _readable(tensor: Tensor) -> NDArray[Any]:
    """numpy knows single and double precision only."""
    if tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.float()
    return tensor.numpy()
