"""Clarabel: an interior-point method for sparse programs over every cone.

Source: Goulart, Chen, "Clarabel: an interior-point solver for conic programs with
quadratic objectives" (2024).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import clarabel
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from optlayers.interfaces import Kind
from optlayers.linalg.pattern import PatternMatrix
from optlayers.programs.cone_program import ConeProgram, Matrix
from optlayers.programs.cones import Cones
from optlayers.solution import Solution, Status
from optlayers.solvers.convex.arrays import Array, to_array
from optlayers.solvers.convex.options import check_positive
from optlayers.solvers.per_instance import per_instance

# Its names come from a compiled module, which type checkers cannot read.
_native: Any = clarabel

Reader = Callable[[int], sparse.csc_matrix]

_STATUSES = {
    _native.SolverStatus.Solved: Status.SOLVED,
    _native.SolverStatus.AlmostSolved: Status.SOLVED,
    _native.SolverStatus.PrimalInfeasible: Status.INFEASIBLE,
    _native.SolverStatus.AlmostPrimalInfeasible: Status.INFEASIBLE,
    _native.SolverStatus.DualInfeasible: Status.UNBOUNDED,
    _native.SolverStatus.AlmostDualInfeasible: Status.UNBOUNDED,
    _native.SolverStatus.MaxIterations: Status.STEP_LIMIT,
    _native.SolverStatus.MaxTime: Status.STEP_LIMIT,
}


@dataclass(frozen=True, kw_only=True)
class Clarabel:
    """Sparse interior-point solver for linear, quadratic and cone programs.

    A starting point is not used: interior-point methods cannot profit from one.

    Attributes:
        max_steps: interior-point steps before it gives up.
        gap: duality gap at which it stops, absolute and relative.
        feasibility: residual of the constraints at which it stops, relative.

    Raises:
        ValueError: an option is not positive.
    """

    max_steps: int = 200
    gap: float = 1e-10
    feasibility: float = 1e-10
    kind: ClassVar[Kind] = Kind.CONVEX

    def __post_init__(self) -> None:
        check_positive("Clarabel", max_steps=self.max_steps, gap=self.gap)
        check_positive("Clarabel", feasibility=self.feasibility)

    def refuses(self, program: ConeProgram) -> str | None:
        """One sentence on why this program cannot be solved, or None."""
        return None

    def solve(self, program: ConeProgram, start: Tensor | None = None) -> Solution:
        """Solve every sample; x [B, n] and duals "y", "s" [B, m] in float64.

        Of an infeasible sample y is the certificate, of an unbounded one x is the ray.
        """
        batch, n, m = program.batch_size, program.size, program.rows
        q, b = to_array(program.q), to_array(program.b)
        x, y, s = np.zeros((batch, n)), np.zeros((batch, m)), np.zeros((batch, m))
        status, steps = np.zeros(batch, np.int8), np.zeros(batch, np.int64)
        seconds = np.zeros(batch)
        settings, cones = self._settings(), _cones(program.cones)

        def prepare() -> Callable[[int], None]:
            read_P = _reader(program.P, (n, n), upper=True)
            read_A = _reader(program.A, (m, n), upper=False)

            def solve(sample: int) -> None:
                found = _native.DefaultSolver(
                    read_P(sample), q[sample], read_A(sample), b[sample], cones,
                    settings,
                ).solve()  # fmt: skip
                x[sample], y[sample], s[sample] = found.x, found.z, found.s
                status[sample] = _STATUSES.get(found.status, Status.STALLED)
                steps[sample], seconds[sample] = found.iterations, found.solve_time

            return solve

        per_instance(prepare, batch)
        return Solution(
            torch.from_numpy(x),
            {"y": torch.from_numpy(y), "s": torch.from_numpy(s)},
            torch.from_numpy(status),
            {"steps": torch.from_numpy(steps), "seconds": torch.from_numpy(seconds)},
        )

    def _settings(self) -> Any:
        settings = _native.DefaultSettings()
        settings.verbose = False
        settings.max_threads = 1  # samples run side by side instead
        settings.max_iter = self.max_steps
        settings.tol_gap_abs = settings.tol_gap_rel = self.gap
        settings.tol_feas = self.feasibility
        settings.tol_infeas_abs = settings.tol_infeas_rel = self.feasibility
        # It would drop rows whose bound is large, and their multipliers with them.
        settings.presolve_enable = False
        return settings


def _cones(cones: Cones) -> list[Any]:
    found: list[Any] = []
    if cones.zero:
        found.append(_native.ZeroConeT(cones.zero))
    if cones.nonneg:
        found.append(_native.NonnegativeConeT(cones.nonneg))
    found += [_native.SecondOrderConeT(size) for size in cones.soc]
    found += [_native.PSDTriangleConeT(order) for order in cones.psd]
    found += [_native.ExponentialConeT() for _ in range(cones.exp)]
    found += [_native.PowerConeT(exponent) for exponent in cones.power]
    return found


def _reader(matrix: Matrix | None, shape: tuple[int, int], upper: bool) -> Reader:
    """A function from the number of a sample to its matrix, for one thread."""
    if matrix is None:
        constant = sparse.csc_matrix(shape)
        return lambda sample: constant
    if isinstance(matrix, PatternMatrix):
        return _pattern_reader(matrix, upper)
    return _dense_reader(to_array(matrix), upper)


def _dense_reader(matrix: Array, upper: bool) -> Reader:
    if upper:
        matrix = np.triu(matrix)
    if matrix.ndim == 2:
        constant = sparse.csc_matrix(matrix)
        return lambda sample: constant
    return lambda sample: _compressed(matrix[sample])


def _compressed(matrix: Array) -> sparse.csc_matrix:
    """Compressed columns of a dense matrix; several times as fast as scipy's way."""
    cols, rows = np.nonzero(matrix.T)
    counts = np.bincount(cols, minlength=matrix.shape[1])
    starts = np.concatenate([[0], np.cumsum(counts)])
    return sparse.csc_matrix((matrix[rows, cols], rows, starts), shape=matrix.shape)


def _pattern_reader(matrix: PatternMatrix, upper: bool) -> Reader:
    """Sort the pattern once; each sample then only exchanges the values."""
    rows, cols = _indices(matrix.rows), _indices(matrix.cols)
    values = to_array(matrix.values)
    if upper:
        kept = rows <= cols
        rows, cols, values = rows[kept], cols[kept], values[..., kept]
    m, n = matrix.shape
    # Repeated positions add up: `slot` says which entry each value goes to.
    places, slot = np.unique(cols * m + rows, return_inverse=True)
    starts = np.searchsorted(places, m * np.arange(n + 1))
    is_sorted = len(places) == len(slot) and bool((np.diff(slot) > 0).all())
    pattern = (np.zeros(len(places)), places % m if m else places, starts)
    compressed = sparse.csc_matrix(pattern, shape=(m, n))

    def read(sample: int) -> sparse.csc_matrix:
        own = values if values.ndim == 1 else values[sample]
        if not is_sorted:
            own = np.bincount(slot, own, len(places))
        compressed.data = np.ascontiguousarray(own)
        return compressed

    return read


def _indices(tensor: Tensor) -> NDArray[np.int64]:
    return tensor.cpu().numpy()
