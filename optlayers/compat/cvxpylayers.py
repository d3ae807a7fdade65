"""A layer answered by cvxpylayers, as a parity reference.

The compiled cone program, rather than the declaration, is handed over: any declaration
becomes one that obeys DPP there. Of its faults, an infeasible sample still raises for
the whole batch.
"""

import cvxpy as cp
import torch
from torch import Tensor

from optlayers.errors import NotSupported
from optlayers.implicit.diffcp import upper_factor
from optlayers.programs.cone_program import ConeProgram, dense
from optlayers.programs.cones import Cones

# Conic accuracy well below the differences one looks for.
ACCURACY = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10}


def solve_by_cvxpylayers(program: ConeProgram) -> tuple[Tensor, Tensor]:
    """The solution x [B, n] and the dual y [B, m], with cvxpylayers' derivatives.

    Raises:
        NotSupported: a cone besides zero, nonneg and soc.
    """
    # Slow to import, and only this reference needs it.
    from cvxpylayers.torch.cvxpylayer import CvxpyLayer

    problem, parameters, variables = _cone_problem(program.cones, program.size)
    layer = CvxpyLayer(problem, parameters=parameters, variables=variables)
    batch = program.batch_size
    tensors = [
        _factor(program, batch),
        program.q,
        dense(program.A).expand(batch, -1, -1),
        program.b,
    ]
    options = {"solve_method": "CLARABEL"} | ACCURACY
    x, *duals = layer(*tensors, solver_args=options)
    return x, torch.cat([one.reshape(batch, -1) for one in duals], 1)


def _cone_problem(
    cones: Cones, n: int
) -> tuple[cp.Problem, list[cp.Parameter], list[cp.Variable]]:
    """minimize |R x|^2 / 2 + q'x subject to b - A x in K, in R, q, A, b."""
    if cones.psd or cones.exp or cones.power:
        raise NotSupported("cvxpylayers: only zero, nonneg and soc are compared.")
    m = cones.size
    x = cp.Variable(n)
    R, q = cp.Parameter((n, n)), cp.Parameter(n)
    A, b = cp.Parameter((m, n)), cp.Parameter(m)
    constraints: list[cp.Constraint] = []
    first = cones.zero + cones.nonneg
    slack = b - A @ x
    if cones.zero:
        constraints.append(A[: cones.zero] @ x - b[: cones.zero] == 0)
    if cones.nonneg:
        rows = slice(cones.zero, first)
        constraints.append(A[rows] @ x - b[rows] <= 0)
    for size in cones.soc:
        constraints.append(cp.SOC(slack[first], slack[first + 1 : first + size]))
        first += size
    cost = cp.sum_squares(R @ x) / 2 + q @ x
    problem = cp.Problem(cp.Minimize(cost), constraints)
    duals = [dual for one in constraints for dual in one.dual_variables]
    return problem, [R, q, A, b], [x, *duals]


def _factor(program: ConeProgram, batch: int) -> Tensor:
    """R with R'R = P, [B, n, n]."""
    n = program.size
    if program.P is None:
        return program.q.new_zeros(batch, n, n)
    return upper_factor(dense(program.P)).expand(batch, n, n)
