"""Away from KKT points that are no minima, along their negative curvature.

A search that begins at a point of symmetry often ends at one. It is begun again beside
it, and what it finds then is kept where the objective is lower.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from optlayers.interfaces import Solver
from optlayers.programs.curvature import reduced_curvature
from optlayers.programs.minimize import MinimizeProgram
from optlayers.solution import Solution, Status
from optlayers.solvers.minimize.options import chosen

# Lower than this, relative to the Hessian, is no rounding of a flat minimum.
NEGATIVE = -1e-6
# How far beside it the search begins again, relative to max(1, |x|).
ASIDE = 0.1
MOST_ROUNDS = 3
# A decrease below so many roundings is none.
ROUNDINGS = 100


def without_saddles(
    program: MinimizeProgram, solvers: Sequence[Solver], found: Solution
) -> Solution:
    """The same solution, its saddle points and maxima replaced by what lies below them.

    Where nothing ends the fall, the answer is that: the sample is UNBOUNDED.

    Args:
        program: of B samples.
        solvers: of kind "minimize", which take the program; a later one is asked
            where those before it end nowhere.
        found: what they, or others, found; failed samples stay as they are.
    """
    pending = found.ok
    for _ in range(MOST_ROUNDS):
        start, is_saddle = _beside(program, found, pending)
        pending = torch.zeros_like(pending)
        for solver in solvers:
            if not is_saddle.any():
                break
            other = solver.solve(program, chosen(is_saddle, start, found.value))
            is_settled = is_saddle & (other.ok | (other.status == Status.UNBOUNDED))
            is_lower = is_settled & _falls(program, found, other)
            found = _merged(is_lower, is_saddle, other, found)
            pending |= is_lower & other.ok
            is_saddle &= ~is_settled
        if not pending.any():
            break
    return found


def _falls(program: MinimizeProgram, before: Solution, after: Solution) -> Tensor:
    """Whether the objective is lower after than before, beyond rounding, bool [B]."""
    with torch.no_grad():
        old, new = program.value(before.value), program.value(after.value)
    return new < old - ROUNDINGS * torch.finfo(old.dtype).eps * old.abs()


def _beside(
    program: MinimizeProgram, found: Solution, pending: Tensor
) -> tuple[Tensor, Tensor]:
    """Where to begin again, [B, n], and which of the pending samples should, [B]."""
    x, y, lam = found.value, found.duals["equalities"], found.duals["inequalities"]
    lowest, direction = reduced_curvature(program, program.point_at(x, y, lam))
    is_saddle = pending & (lowest < NEGATIVE)
    step = ASIDE * x.abs().amax(1, keepdim=True).clamp_min(1.0) * direction
    ahead, behind = program.clamp(x + step), program.clamp(x - step)
    with torch.no_grad():
        is_better = _missed(program, behind) < _missed(program, ahead)
    start = chosen(is_better, behind, ahead)
    return chosen(is_saddle, start, x), is_saddle


def _missed(program: MinimizeProgram, x: Tensor) -> Tensor:
    """By how much constraints are broken, [B]; inf where the objective is none."""
    broken = program.equality(x).abs().sum(1) + program.rows(x).clamp_min(0).sum(1)
    return torch.where(program.value(x).isfinite(), broken, torch.inf).nan_to_num(
        nan=torch.inf
    )


def _merged(which: Tensor, tried: Tensor, new: Solution, old: Solution) -> Solution:
    """The new solution where `which`, with the steps and time of both."""
    steps = old.stats["steps"] + torch.where(tried, new.stats["steps"], 0)
    stats = {
        **old.stats,
        "steps": steps,
        "residual": chosen(which, new.stats["residual"], old.stats["residual"]),
        "seconds": old.stats["seconds"] + new.stats["seconds"],
    }
    duals = {key: chosen(which, new.duals[key], one) for key, one in old.duals.items()}
    return replace(
        old, value=chosen(which, new.value, old.value), duals=duals, stats=stats,
        status=chosen(which, new.status, old.status),
    )  # fmt: skip
