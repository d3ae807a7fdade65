"""The quadratic program of a step, in elastic form where its constraints conflict.

minimize g'd + d'Bd/2 subject to h + Jh d = 0, r + Jr d <= 0; elastic: by how much these
are missed costs gamma a unit. Solved by a registered convex solver.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from optlayers.interfaces import Solver
from optlayers.programs.cone_program import ConeProgram
from optlayers.programs.cones import Cones
from optlayers.solution import Status
from optlayers.solvers.minimize.barrier import Slopes, Values

# The price of a unit that is missed, where the multipliers ask for no more.
ELASTIC_PRICE = 1e4


class QuadraticStep(NamedTuple):
    """What the quadratic programs of B samples propose.

    Attributes:
        d: the step, [B, n]; zero where there is none.
        y, lam: multipliers of equalities [B, me] and rows [B, m].
        missed: what the linear constraints are still missed by, [B].
        ok: whether there is a step, bool [B].
    """

    d: Tensor
    y: Tensor
    lam: Tensor
    missed: Tensor
    ok: Tensor


def quadratic_step(
    solver: Solver, B: Tensor, values: Values, slopes: Slopes, active: Tensor
) -> QuadraticStep:
    """Solve the quadratic programs of the active samples.

    Args:
        solver: of kind "convex".
        B: positive definite, [B, n, n].
        values: h and r.
        slopes: g, Jh and Jr.
        active: the samples to solve, bool [B].
    """
    me, m = values.equalities.shape[1], values.rows.shape[1]
    A = torch.cat([slopes.equalities, slopes.rows], 1)
    c = torch.cat([values.equalities, values.rows], 1)
    parts = [B, slopes.gradient, A, c]
    for one in parts:
        active = active & one.flatten(1).isfinite().all(1)
    d = torch.zeros_like(slopes.gradient)
    duals, missed = torch.zeros_like(c), torch.zeros_like(c[:, :0].sum(1))
    ok = torch.zeros_like(active)
    for solve in (_strict, _elastic):
        which = (active & ~ok).nonzero()[:, 0]
        if not len(which):
            break
        matrix, g, rows, right = (one[which].double() for one in parts)
        found = solve(solver, matrix, g, rows, right, me)
        good = found[3]
        which, kept = which[good], [one[good].to(d) for one in found[:3]]
        d[which], duals[which], missed[which] = kept
        ok[which] = True
    y, lam = duals.split((me, m), 1)
    return QuadraticStep(d, y, lam, missed, ok)


def _strict(
    solver: Solver, B: Tensor, g: Tensor, A: Tensor, c: Tensor, me: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Step, multipliers, what is missed, and whether there is a step."""
    cones = Cones(zero=me, nonneg=c.shape[1] - me)
    found = solver.solve(ConeProgram(B, g, A, -c, cones))
    return (
        found.value, found.duals["y"], torch.zeros_like(g[:, 0]),
        found.status == Status.SOLVED,
    )  # fmt: skip


def _elastic(
    solver: Solver, B: Tensor, g: Tensor, A: Tensor, c: Tensor, me: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same with a paid excess e >= 0 of every row and a shortfall of equalities.

    As inequalities alone: A d + c <= e, for equalities also -(A d + c) <= e'.
    """
    batch, k, n = A.shape
    signed = torch.cat([A, -A[:, :me]], 1)
    limits = -torch.cat([c, -c[:, :me]], 1)
    count = k + me
    unit = torch.eye(count, dtype=A.dtype, device=A.device).expand(batch, -1, -1)
    none = A.new_zeros(batch, count, n)
    rows = torch.cat([torch.cat([signed, -unit], 2), torch.cat([none, -unit], 2)], 1)
    b = torch.cat([limits, torch.zeros_like(limits)], 1)
    P = A.new_zeros(batch, n + count, n + count)
    P[:, :n, :n] = B
    price = ELASTIC_PRICE * g.abs().amax(1, keepdim=True).clamp_min(1.0)
    q = torch.cat([g, price.expand(-1, count)], 1)
    found = solver.solve(ConeProgram(P, q, rows, b, Cones(nonneg=2 * count)))
    duals = found.duals["y"][:, :count]
    y = duals[:, :me] - duals[:, k:]
    missed = found.value[:, n:].clamp_min(0.0).sum(1)
    return (
        found.value[:, :n], torch.cat([y, duals[:, me:k]], 1), missed,
        found.status == Status.SOLVED,
    )  # fmt: skip
