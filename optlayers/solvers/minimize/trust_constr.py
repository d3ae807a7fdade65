"""SciPy's trust-constr: a trust-region interior-point method, one by one.

Source: R. Byrd, M. Hribar, J. Nocedal, An interior point algorithm for large-scale
nonlinear programming (1999).
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import scipy.optimize
from scipy.optimize import minimize as scipy_minimize
from torch import Tensor

from optlayers.interfaces import Kind
from optlayers.programs.minimize import MinimizeProgram
from optlayers.solution import Solution, Status
from optlayers.solvers.minimize.single import Answer, Array, Single, solve_each
from optlayers.solvers.root.options import check_options

# Its stubs know numbers where it takes arrays, and names where it takes functions.
_native: Any = scipy.optimize

# That of SciPy.
FIRST_BARRIER = 0.1
_STATUSES: Mapping[int, Status] = {
    0: Status.STEP_LIMIT, 1: Status.SOLVED, 2: Status.SOLVED,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TrustConstr:
    """A third opinion, with exact second derivatives; many cheap iterations.

    Attributes:
        max_steps: most iterations of one search.
        tolerance: the KKT residual that counts as zero.

    Raises:
        ParameterError: an option out of its range.
    """

    max_steps: int = 1000
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
        found = self._searched(sample, sample.start, FIRST_BARRIER)
        steps, barrier = int(found.nit), _barrier(found)
        # SciPy may stop at the minimum of a barrier that is still high.
        while found.status in (1, 2) and barrier > 0.1 * self.tolerance:
            barrier = 0.1 * min(barrier, _barrier(found))
            found = self._searched(sample, found.x, barrier)
            steps += int(found.nit)
        multipliers: list[Array] = list(found.v)
        equal, count = sample.program.equality_count, _constraint_count(sample)
        stated = multipliers.pop(0) if count else np.zeros(0)
        bounds = multipliers.pop(0) if _is_bounded(sample) else np.zeros_like(found.x)
        return Answer(
            found.x, stated[:equal], sample.rows_of(stated[equal:], bounds),
            _STATUSES.get(int(found.status), Status.STALLED), steps,
        )  # fmt: skip

    def _searched(self, sample: Single, start: Array, barrier: float) -> Any:
        none = np.zeros(_constraint_count(sample))
        bounds = _native.Bounds(*sample.limits()) if _is_bounded(sample) else None
        with warnings.catch_warnings():
            # It warns where gradients do not change or rows depend on each other.
            warnings.simplefilter("ignore")
            return scipy_minimize(
                sample.value, start, method="trust-constr", jac=sample.gradient,
                hess=lambda x: sample.hessian(x, 1.0, none),
                bounds=bounds, constraints=[_constraint(sample)] if len(none) else [],
                options={
                    "maxiter": self.max_steps, "gtol": 0.1 * self.tolerance,
                    "xtol": 1e-14, "barrier_tol": 0.1 * self.tolerance,
                    "initial_barrier_parameter": barrier,
                    "initial_barrier_tolerance": barrier,
                },
            )  # fmt: skip


def _barrier(found: Any) -> float:
    """The barrier parameter it ended at; zero where no inequality needs one."""
    return float(found.get("barrier_parameter", 0.0))


def _is_bounded(sample: Single) -> bool:
    return bool(np.isfinite(sample.limits()).any())


def _constraint_count(sample: Single) -> int:
    return sample.program.equality_count + sample.program.inequality_count


def _constraint(sample: Single) -> Any:
    """h = 0 and g <= 0 as one, in its form."""
    equal = sample.program.equality_count
    lower = np.full(_constraint_count(sample), -np.inf)
    lower[:equal] = 0
    return _native.NonlinearConstraint(
        sample.constraints, lower, np.zeros(len(lower)), jac=sample.jacobian,
        # Of the constraints alone: the objective has its own.
        hess=lambda x, v: sample.hessian(x, 0.0, v),
    )  # fmt: skip
