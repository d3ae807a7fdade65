"""The derivative of a cone program by diffcp, as a parity reference.

Agrawal, Barratt, Boyd, Busseti, Moursi: Differentiating through a cone program (2019),
as implemented in diffcp. Slower than the exact gradient, first order only, and kept to
compare against; three faults of diffcp 1.1 are worked around here.
"""

from typing import Any

import numpy as np
import scipy.sparse as sparse
import torch
from numpy.typing import NDArray
from torch import Tensor

from optlayers.errors import NotSupported, TransformError
from optlayers.implicit.transforms import hides_values
from optlayers.programs.cone_program import ConeProgram, dense
from optlayers.programs.cones import Cones

# diffcp drops stored zeros of A, and with them their derivatives; a number that no
# arithmetic with the data can feel keeps the entry.
ZERO = 1e-100
# diffcp's default adjoint, LSQR, stops early (6e-4 off at n = 60): solve densely.
MODE = "dense"
ACCURACY = {"tol_gap_abs": 1e-11, "tol_gap_rel": 1e-11, "tol_feas": 1e-11}


def attach_diffcp(value: Tensor, program: ConeProgram, ok: Tensor) -> Tensor:
    """Return `value` with the derivative that diffcp computes.

    Args:
        value: the points z = [x, v] found by a solver, [B, n + m].
        program: the program they solve.
        ok: samples that were solved, bool [B]; only these are handed to diffcp, whose
            Clarabel branch answers infeasible samples with numbers.

    Raises:
        TransformError: called under `torch.func` or `torch.compile`.
        NotSupported: the program has power cones.
    """
    if program.cones.power:
        raise NotSupported(
            'gradient="diffcp": diffcp has no power cones; use gradient="exact".'
        )
    if hides_values():
        raise TransformError(
            'gradient="diffcp" cannot be seen by torch.func or torch.compile; '
            'use gradient="exact".'
        )
    rows = program.batch_size
    A = dense(program.A).expand(rows, -1, -1)
    root = None
    if program.P is not None:
        root = upper_factor(dense(program.P)).expand(rows, -1, -1)
    point = _Diffcp.apply(root, program.q, A, program.b, ok, program, value)
    assert isinstance(point, Tensor)
    return point


def upper_factor(P: Tensor) -> Tensor:
    """R with R'R = P, [*batch, n, n]; a shift below rounding admits semidefinite P."""
    size = P.shape[-1]
    shift = 1e-13 * P.detach().diagonal(dim1=-2, dim2=-1).abs().amax(-1).clamp_min(1)
    eye = torch.eye(size, dtype=P.dtype, device=P.device)
    return torch.linalg.cholesky(P + shift[..., None, None] * eye).mT


class _Diffcp(torch.autograd.Function):
    """Points in, the same points out; the derivative is diffcp's adjoint.

    diffcp has no derivative with respect to P, so |R x|^2 / 2 <= t enters as a
    second-order cone of n + 2 rows, as cvxpylayers' default path does.
    """

    @staticmethod
    def forward(
        ctx: Any,
        root: Tensor | None,
        q: Tensor,
        A: Tensor,
        b: Tensor,
        ok: Tensor,
        program: ConeProgram,
        value: Tensor,
    ) -> Tensor:
        # Imported here: it takes a second, warns, and only this reference needs it.
        import diffcp

        sizes = _sizes(program.cones, None if root is None else q.shape[1] + 2)
        ctx.order = _row_order(program.cones, 0 if root is None else q.shape[1] + 2)
        ctx.adjoints = []
        ctx.has_root = root is not None
        for row in range(q.shape[0]):
            if not bool(ok[row]):
                ctx.adjoints.append(None)
                continue
            R = None if root is None else root[row].numpy()
            rows, right, cost = _conic(
                R, q[row].numpy(), A[row].numpy(), b[row].numpy()
            )
            problem = _stored(rows[ctx.order]), right[ctx.order], cost
            *_, adjoint = diffcp.solve_and_derivative(
                *problem, sizes, mode=MODE, solve_method="CLARABEL", **ACCURACY
            )
            ctx.adjoints.append(adjoint)
        ctx.sizes = (q.shape[1], b.shape[1])
        ctx.save_for_backward(
            value, program.cones.project_dual_derivative(_v(value, q))
        )
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple:
        (gradient,) = gradients
        n, m = ctx.sizes
        root_rows = n + 2 if ctx.has_root else 0
        roots, qs, As, bs = [], [], [], []
        for row, adjoint in enumerate(ctx.adjoints):
            dA = np.zeros((m + root_rows, n + ctx.has_root))
            db, dq = np.zeros(m + root_rows), np.zeros(n + ctx.has_root)
            if adjoint is not None:
                dx = np.append(gradient[row, :n].numpy(), [0.0] * ctx.has_root)
                dv = np.append(gradient[row, n:].numpy(), np.zeros(root_rows))
                dv = dv[ctx.order]
                sparse_dA, right, dq = adjoint(dx, dv, -dv)  # v = y - s
                dA[ctx.order], db[ctx.order] = sparse_dA.toarray(), right
            # Rows of the cone: [1 + t; sqrt2 R x; 1 - t] = b - A [x, t].
            roots.append(-np.sqrt(2.0) * dA[m + 1 : m + 1 + n, :n])
            As.append(dA[:m, :n])
            bs.append(db[:m])
            qs.append(dq[:n])
        stack = [torch.as_tensor(np.stack(part)) for part in (roots, qs, As, bs)]
        return (stack[0] if ctx.has_root else None, *stack[1:], None, None, None)


def _v(value: Tensor, q: Tensor) -> Tensor:
    return value[:, q.shape[1] :]


def _sizes(cones: Cones, root_rows: int | None) -> dict[str, Any]:
    """The cones in diffcp's words; those of the quadratic term end the "q"."""
    return {
        "z": cones.zero,
        "l": cones.nonneg,
        "q": [*cones.soc, *([] if root_rows is None else [root_rows])],
        "s": list(cones.psd),
        "ep": cones.exp,
    }


def _row_order(cones: Cones, root_rows: int) -> NDArray[np.int64]:
    """Which of our rows, those of the quadratic term last, stands in each of diffcp's.

    diffcp keeps the lower triangle of a matrix column by column, and the rows of the
    quadratic term after the other second-order cones.
    """
    first = cones.slices["psd"].start
    order = [np.arange(first), cones.size + np.arange(root_rows)]
    for size in cones.psd:
        rows, cols = np.triu_indices(size)
        order.append(first + cols * (cols + 1) // 2 + rows)
        first += size * (size + 1) // 2
    return np.concatenate([*order, np.arange(first, cones.size)])


def _conic(
    R: np.ndarray | None, q: np.ndarray, A: np.ndarray, b: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(A, b, c) of minimize c'z with the quadratic term as a cone in (x, t)."""
    if R is None:
        return A, b, q
    n, m = q.size, b.size
    rows = np.zeros((m + n + 2, n + 1))
    rows[:m, :n] = A
    rows[m, n], rows[m + n + 1, n] = -1.0, 1.0
    rows[m + 1 : m + 1 + n, :n] = -np.sqrt(2.0) * R
    right = np.concatenate([b, [1.0], np.zeros(n), [1.0]])
    return rows, right, np.append(q, 1.0)


def _stored(matrix: np.ndarray) -> sparse.csc_matrix:
    return sparse.csc_matrix(np.where(matrix == 0, ZERO, matrix))
