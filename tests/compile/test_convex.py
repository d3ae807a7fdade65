"""Compiled templates against the same problems built by hand in cvxpy."""

import cvxpy as cp
import numpy as np
import pytest
import torch

from tests.compile.declarations import CASES
from tests.compile.words import compiled, solved

# Two interior-point solves at 1e-9: what is left is the conditioning of the cases.
TOLERANCE = 5e-5


def drawn(case, template, seed=0):
    """Random parameters that keep the declaration's promises, float64."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, shape in template.parameter_shapes.items():
        value = torch.randn(shape, generator=generator, dtype=torch.float64)
        if name in case.positive:
            value = value.abs() + 0.1
        if name in case.psd:
            value = value @ value.mT + 0.1 * torch.eye(shape[0], dtype=torch.float64)
        found[name] = value
    return found


def twin_of(case, parameters):
    """The solved cvxpy problem: objective, variables, multipliers."""
    numbers = {name: value.numpy() for name, value in parameters.items()}
    objective, variables, constraints = case.twin(**numbers)
    flat = []
    for one in constraints.values():
        flat += one if isinstance(one, list) else [one]
    problem = cp.Problem(cp.Minimize(objective), flat)
    tight = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-9)
    problem.solve(solver=cp.CLARABEL, **tight)
    duals = {
        name: np.array([part.dual_value for part in one])
        if isinstance(one, list)
        else one.dual_value
        for name, one in constraints.items()
    }
    values = {name: variable.value for name, variable in variables.items()}
    return problem.value, values, duals


@pytest.mark.parametrize("name", CASES)
def test_a_declaration_is_solved_as_cvxpy_solves_it(name):
    case = CASES[name]
    template = compiled(case.declaration, case.steps, **case.sizes)
    parameters = drawn(case, template)
    found = solved(template, parameters)
    objective, values, duals = twin_of(case, parameters)
    sign = -1 if template.maximize else 1
    assert found.objective == pytest.approx(sign * objective, rel=1e-7, abs=1e-7)
    for variable, value in values.items():
        np.testing.assert_allclose(
            found.values[variable], value, rtol=TOLERANCE, atol=TOLERANCE
        )
    assert set(found.duals) == set(duals)
    for constraint, value in duals.items():
        np.testing.assert_allclose(
            found.duals[constraint],
            np.reshape(value, found.duals[constraint].shape),
            rtol=TOLERANCE,
            atol=TOLERANCE,
        )
