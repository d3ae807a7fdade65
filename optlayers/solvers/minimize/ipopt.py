"""IPOPT as casadi's wheel brings it: a sparse interior-point method, one by one.

Source: A. Waechter, L. Biegler, On the implementation of an interior-point filter
line-search algorithm for large-scale nonlinear programming (2006).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import casadi
import numpy as np
from torch import Tensor

from optlayers.interfaces import Kind
from optlayers.programs.minimize import MinimizeProgram
from optlayers.solution import Solution, Status
from optlayers.solvers.minimize.single import Answer, Array, Single, solve_each
from optlayers.solvers.root.options import check_options

# Its names come from a compiled module, which type checkers cannot read.
_native: Any = casadi

_STATUSES: Mapping[str, Status] = {
    "Solve_Succeeded": Status.SOLVED,
    "Solved_To_Acceptable_Level": Status.SOLVED,
    "Infeasible_Problem_Detected": Status.INFEASIBLE,
    "Diverging_Iterates": Status.UNBOUNDED,
    "Maximum_Iterations_Exceeded": Status.STEP_LIMIT,
    "Invalid_Number_Detected": Status.NOT_FINITE,
}


@dataclass(frozen=True, kw_only=True)
class Ipopt:
    """The reference for what the native methods find; slow, as it calls back to torch.

    Exact first and second derivatives of the functions are used.

    Attributes:
        max_steps: most iterations.
        tolerance: the KKT residual that counts as zero; IPOPT itself stops below.

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
        # The functions are called by C++ and must live as long as the solver does.
        functions = _functions(sample)
        solver = _native.nlpsol(
            "nlp", "ipopt", functions["nlp"], self._options(functions)
        )
        equal, below = (
            sample.program.equality_count,
            sample.program.inequality_count,
        )
        lower, upper = sample.limits()
        found = solver(
            x0=sample.start, lbx=lower, ubx=upper,
            lbg=np.concatenate([np.zeros(equal), np.full(below, -np.inf)]),
            ubg=np.zeros(equal + below),
        )  # fmt: skip
        multipliers = _vector(found["lam_g"])
        said = solver.stats()
        return Answer(
            _vector(found["x"]),
            multipliers[:equal],
            sample.rows_of(multipliers[equal:], _vector(found["lam_x"])),
            _STATUSES.get(said["return_status"], Status.STALLED),
            int(said["iter_count"]),
        )

    def _options(self, functions: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "grad_f": functions["grad_f"],
            "jac_g": functions["jac_g"],
            "hess_lag": functions["hess_lag"],
            # What it would derive from functions that it cannot look into.
            "no_nlp_grad": True,
            "calc_lam_p": False,
            "print_time": False,
            # Points without values are the line search's business, not the user's.
            "show_eval_warnings": False,
            "ipopt": {
                "print_level": 0,
                "sb": "yes",
                "max_iter": self.max_steps,
                "tol": 0.1 * self.tolerance,
                # Otherwise it solves a problem with slightly wider bounds.
                "bound_relax_factor": 0.0,
                # Otherwise an unknown with equal bounds has no multiplier.
                "fixed_variable_treatment": "make_constraint",
            },
        }


class _Function(_native.Callback):
    """A function of numpy vectors that casadi may call."""

    def __init__(
        self,
        name: str,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, Any],
        function: Callable[..., Sequence[Any]],
    ) -> None:
        """Say what it takes and gives.

        Args:
            name: by which casadi calls it.
            inputs: sparsity of each argument, by name.
            outputs: likewise of each result.
            function: vectors [k] to results.
        """
        super().__init__()
        self._inputs, self._outputs = list(inputs.items()), list(outputs.items())
        self._function = function
        self.construct(name, {"enable_fd": False})

    def get_n_in(self) -> int:
        return len(self._inputs)

    def get_n_out(self) -> int:
        return len(self._outputs)

    def get_name_in(self, i: int) -> str:
        return self._inputs[i][0]

    def get_name_out(self, i: int) -> str:
        return self._outputs[i][0]

    def get_sparsity_in(self, i: int) -> Any:
        return self._inputs[i][1]

    def get_sparsity_out(self, i: int) -> Any:
        return self._outputs[i][1]

    def eval(self, arguments: Sequence[Any]) -> Sequence[Any]:
        return self._function(*map(_vector, arguments))


def _functions(sample: Single) -> dict[str, _Function]:
    """What the solver asks for, in the forms that its interface prescribes."""
    n = sample.program.size
    m = sample.program.equality_count + sample.program.inequality_count
    dense = _native.Sparsity.dense
    point = {"x": dense(n, 1), "p": dense(0, 1)}
    weights = {"lam_f": dense(1, 1), "lam_g": dense(m, 1)}
    value, rows = {"f": dense(1, 1)}, {"g": dense(m, 1)}
    triangle = {"triu_hess_gamma_x_x": _native.Sparsity.upper(n)}

    def values(x: Array, _: Array) -> Sequence[Any]:
        return [sample.value(x), sample.constraints(x)]

    def slope(x: Array, _: Array) -> Sequence[Any]:
        return [sample.value(x), sample.gradient(x)]

    def slopes(x: Array, _: Array) -> Sequence[Any]:
        return [sample.constraints(x), sample.jacobian(x)]

    def curvature(x: Array, _: Array, weight: Array, given: Array) -> Sequence[Any]:
        return [_native.triu(_native.DM(sample.hessian(x, float(weight[0]), given)))]

    return {
        "nlp": _Function("nlp", point, value | rows, values),
        "grad_f": _Function("grad_f", point, value | {"grad": dense(n, 1)}, slope),
        "jac_g": _Function("jac_g", point, rows | {"jac": dense(m, n)}, slopes),
        "hess_lag": _Function("hess_lag", point | weights, triangle, curvature),
    }


def _vector(matrix: Any) -> Array:
    return np.array(matrix, dtype=np.float64).ravel()
