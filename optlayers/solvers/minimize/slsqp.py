"""SciPy's SLSQP: sequential least-squares programming, one by one.

Source: D. Kraft, A software package for sequential quadratic programming, DFVLR-FB
88-28 (1988).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import scipy.optimize
from scipy.optimize import minimize as scipy_minimize
from scipy.optimize import nnls
from torch import Tensor

from optlayers.interfaces import Kind
from optlayers.programs.minimize import MinimizeProgram
from optlayers.solution import Solution, Status
from optlayers.solvers.minimize.single import Answer, Array, Single, solve_each
from optlayers.solvers.root.options import check_options

# Its stubs know numbers where it takes arrays.
_native: Any = scipy.optimize

# An inequality within this share of the active ones may have a multiplier.
ACTIVE = 1e-6
_STATUSES: Mapping[int, Status] = {
    0: Status.SOLVED, 4: Status.INFEASIBLE, 9: Status.STEP_LIMIT,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Slsqp:
    """A second opinion on small dense problems with constraints.

    Attributes:
        max_steps: most iterations.
        tolerance: the KKT residual that counts as zero.

    Raises:
        ParameterError: an option out of its range.
    """

    max_steps: int = 500
    tolerance: float = 1e-8
    kind: ClassVar[Kind] = Kind.MINIMIZE

    def __post_init__(self) -> None:
        check_options(self)

    def refuses(self, program: MinimizeProgram) -> str | None:
        """Nothing."""
        return None

    def solve(self, program: MinimizeProgram, start: Tensor | None = None) -> Solution:
        """Solve every sample; failures are statuses."""
        return solve_each(program, start, self._one, self.tolerance)

    def _one(self, sample: Single) -> Answer:
        found = scipy_minimize(
            sample.value, sample.start, method="SLSQP", jac=sample.gradient,
            bounds=_native.Bounds(*sample.limits()), constraints=_constraints(sample),
            # It stops by the change of f, which is of the square of the error in x.
            options={"maxiter": self.max_steps, "ftol": self.tolerance**2},
        )  # fmt: skip
        y, lam = _multipliers(sample, found.x)
        status = _STATUSES.get(int(found.status), Status.STALLED)
        return Answer(found.x, y, lam, status, int(found.nit))


def _constraints(sample: Single) -> list[dict[str, Any]]:
    """h = 0 and -g >= 0, in its form."""
    equal, below = sample.program.equality_count, sample.program.inequality_count
    parts = []
    if equal:
        parts.append(
            {
                "type": "eq",
                "fun": lambda x: sample.constraints(x)[:equal],
                "jac": lambda x: sample.jacobian(x)[:equal],
            }
        )
    if below:
        parts.append(
            {
                "type": "ineq",
                "fun": lambda x: -sample.constraints(x)[equal:],
                "jac": lambda x: -sample.jacobian(x)[equal:],
            }
        )
    return parts


def _multipliers(sample: Single, x: Array) -> tuple[Array, Array]:
    """Those of least |grad f + Jh'y + Jr'lam| at x, [me] and [m].

    Not every version of SciPy tells its own.
    """
    equal = sample.program.equality_count
    gradient, rows, J = sample.gradient(x), sample.constraints(x), sample.jacobian(x)
    lower, upper = sample.limits()
    scale = ACTIVE * np.maximum(1, np.abs(x))
    at_lower, at_upper = x - lower <= scale, upper - x <= scale
    active = rows[equal:] >= -ACTIVE
    unit = np.eye(len(x))
    signed = [J[equal:][active], unit[at_upper], -unit[at_lower]]
    columns = np.concatenate([J[:equal], -J[:equal], *signed]).T
    everything = (gradient, columns)
    if not all(np.isfinite(one).all() for one in everything) or not columns.shape[1]:
        return np.zeros(equal), np.zeros(sample.program.row_count)
    found, _ = nnls(columns, -gradient)
    plus, minus, *rest = np.split(
        found, np.cumsum([equal, equal, active.sum(), at_upper.sum()])
    )
    below, bounds = np.zeros(len(rows) - equal), np.zeros(len(x))
    below[active] = rest[0]
    bounds[at_upper] += rest[1]
    bounds[at_lower] -= rest[2]
    return plus - minus, sample.rows_of(below, bounds)
