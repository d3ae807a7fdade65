"""Newton steps on F(z) = 0 for large sparse programs: no matrix is filled in.

J = [P A'D ; -A I-D] of one sample at a time is assembled from entries and factorized by
SuperLU; see `ConeProgram.jacobian`.
"""

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import SuperLU, splu
from torch import Tensor

from optlayers.linalg.pattern import PatternMatrix
from optlayers.programs.cone_program import ConeProgram, Matrix

# J plus this times the identity factorizes in the symmetric order of least fill without
# row exchanges (as quasi-definite matrices do); refinement then removes the shift.
# Against exchanges in COLAMD's order that takes a third of the entries and of the time.
SHIFT = 1e-9
REFINEMENTS = 3
# A step that leaves more than this share of F is looked for again, with exchanges.
GOOD_SHARE = 1e-2

Numbers = NDArray[np.float64]


def sparse_step(program: ConeProgram, point: Tensor) -> Tensor:
    """-J^-1 F at each point, [B, n + m] -> [B, n + m]; zero where J is singular."""
    residual = program.residual(point).detach().numpy()
    steps = np.zeros_like(residual)
    jacobian = _Jacobian(program, point)
    for sample, F in enumerate(residual):
        steps[sample] = _solved(jacobian(sample), -F)
    return torch.from_numpy(steps)


def count_entries(program: ConeProgram) -> int:
    """How many entries J has at most, those of one sample."""
    width = program.cones.block_widths.numpy()
    count = 0 if program.P is None else len(_entries(program.P)[0])
    rows = _entries(program.A)[0]
    # Each entry of A stands in -A, and once per column of its row's block in A'D.
    return int(count + len(rows) + width[rows].sum() + width.sum())


class _Jacobian:
    """The Jacobians of a batch, each a scipy matrix made when asked for."""

    def __init__(self, program: ConeProgram, point: Tensor) -> None:
        n, m = program.size, program.rows
        self.n, self.m = n, m
        self.P = None if program.P is None else _entries(program.P)
        self.A = _entries(program.A)
        v = point.detach().narrow(1, n, m)
        rows, cols, values = program.cones.derivative_entries(v)
        self.D = rows.numpy(), cols.numpy(), values.numpy()

    def __call__(self, sample: int) -> sp.csc_array:
        """J of one sample, [n + m, n + m]."""
        n, m = self.n, self.m
        P = _compressed(self.P, sample, (n, n))
        A, D = _compressed(self.A, sample, (m, n)), _compressed(self.D, sample, (m, m))
        J = sp.csc_array(sp.block_array([[P, A.T @ D], [-A, sp.eye_array(m) - D]]))
        J.eliminate_zeros()
        return J


Entries = tuple[NDArray[np.int64], NDArray[np.int64], Numbers]


def _entries(matrix: Matrix) -> Entries:
    """Rows, columns and values, [k], [k] and [k] or [B, k]."""
    if isinstance(matrix, PatternMatrix):
        rows, cols, values = matrix.rows, matrix.cols, matrix.values
    else:
        filled = matrix if matrix.ndim == 2 else (matrix != 0).any(0)
        rows, cols = filled.nonzero(as_tuple=True)
        values = matrix[..., rows, cols]
    return rows.numpy(), cols.numpy(), values.detach().numpy()


def _compressed(
    entries: Entries | None, sample: int, shape: tuple[int, int]
) -> sp.csc_array:
    if entries is None:
        return sp.csc_array(shape, dtype=np.float64)
    rows, cols, values = entries
    own = values if values.ndim == 1 else values[sample]
    return sp.csc_array(sp.coo_array((own, (rows, cols)), shape=shape))


def _solved(J: sp.csc_array, right: Numbers) -> Numbers:
    """d with J d = right, or zero where no factorization finds it."""
    shift = sp.eye_array(len(right), format="csc") * SHIFT
    best, left = np.zeros_like(right), np.abs(right).max()
    enough = GOOD_SHARE * left
    for matrix, is_symmetric in ((J + shift, True), (J, False)):
        factors = _factorized(sp.csc_array(matrix), is_symmetric)
        if factors is None:
            continue
        found = factors.solve(right)
        for _ in range(REFINEMENTS):
            found = found + factors.solve(right - J @ found)
        rest = np.abs(right - J @ found).max()
        if rest < left:  # not where it is NaN
            best, left = found, rest
        if left <= enough:
            break
    return best


def _factorized(matrix: sp.csc_array, is_symmetric: bool) -> SuperLU | None:
    """Its factors, of a symmetric pattern without exchanges; None if singular."""
    try:
        if not is_symmetric:
            return splu(matrix, permc_spec="COLAMD")
        return splu(
            matrix,
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )
    except (RuntimeError, MemoryError):
        return None
