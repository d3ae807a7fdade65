"""Declared problems as plain cvxpy problems, and back again."""

import cvxpy as cp
import numpy as np
import pytest
import torch

import optlayers as ol
from optlayers import Parameter, Variable, minimize
from optlayers.errors import ShapeError
from optlayers.testing.zoo import CONVEX

SPECIMENS = {one.name: one for one in CONVEX}


@pytest.mark.parametrize("name", SPECIMENS)
def test_cvxpy_finds_what_the_layer_finds(name):
    specimen = SPECIMENS[name]
    layer = specimen.problem.layer(**specimen.sizes)
    sample = {key: value[0] for key, value in specimen.batch(1).items()}
    out, problem = layer(**sample), layer.to_cvxpy(**sample)
    assert problem.is_dcp() and not problem.parameters()
    problem.solve(solver=cp.CLARABEL)
    assert problem.value == pytest.approx(out.objective.item(), rel=1e-6, abs=1e-6)
    for label, variable in problem.var_dict.items():
        assert variable.shape == out[label].shape
        np.testing.assert_allclose(out[label], variable.value, atol=1e-4)


@pytest.mark.parametrize("name", SPECIMENS)
def test_there_and_back_is_the_same_problem(name):
    specimen = SPECIMENS[name]
    layer = specimen.problem.layer(**specimen.sizes)
    sample = {key: value[0] for key, value in specimen.batch(1, seed=1).items()}
    out, back = layer(**sample), ol.from_cvxpy(layer.to_cvxpy(**sample))()
    for label in layer.problem.declared.variable_names:
        np.testing.assert_allclose(back[label], out[label], atol=1e-6)
    assert back.objective.item() == pytest.approx(out.objective.item(), abs=1e-6)


@ol.problem
def fit(x=Variable("n", nonneg=True, upper=2), A=Parameter("m n"), b=Parameter("m")):
    cap = ol.norm(x) <= 3
    return minimize(ol.sum_squares(A @ x - b), cap, budget=ol.sum(x) == 1)


def test_the_problem_reads_as_it_was_declared():
    problem = fit.layer().to_cvxpy(A=np.eye(2), b=np.ones(2))
    (x,) = problem.variables()
    assert (x.name(), x.attributes["nonneg"]) == ("x", True)
    assert [one.label for one in problem.constraints] == ["constraint_0", "budget"]
    assert "SOC" not in str(problem)


def test_a_batch_is_refused_with_the_remedy():
    with pytest.raises(ShapeError, match=r"takes one sample.*b=b\[0\]"):
        fit.layer().to_cvxpy(A=np.eye(2), b=np.ones((5, 2)))


def test_semidefinite_problems_go_there_and_back():
    @ol.problem
    def nearest(S=Variable("n n", symmetric=True), M=Parameter("n n")):
        return minimize(ol.sum_squares(S - M), S >> 0)

    M = torch.tensor([[1.0, 2.0], [2.0, -1.0]], dtype=torch.float64)
    layer = nearest.layer()
    back = ol.from_cvxpy(layer.to_cvxpy(M=M))()
    np.testing.assert_allclose(back.S, layer(M=M).S, atol=1e-6)


def test_a_geometric_program_is_one_there():
    @ol.problem(geometric=True)
    def box(h=Variable(), w=Variable(), area=Parameter()):
        return minimize(1 / (h * w), wall=h + w <= area)

    problem = box.layer().to_cvxpy(area=2.0)
    assert problem.is_dgp()
    problem.solve(gp=True, solver=cp.CLARABEL)
    assert problem.value == pytest.approx(1, abs=1e-5)
