"""Arguments of cvxpy's atoms that are easily lost in a translation."""

import cvxpy as cp
import numpy as np
import pytest
from torch.testing import assert_close

import optlayers as ol
from optlayers.errors import DeclarationError


def optimum(problem: cp.Problem) -> float:
    problem.solve(solver=cp.CLARABEL)
    return float(problem.value)


@pytest.mark.parametrize("weights", [[0, 1, 1], [2, 0, 0], [1, 2, 3]])
def test_weights_of_a_geometric_mean_are_kept(weights):
    x = cp.Variable(3, name="x")
    problem = cp.Problem(
        cp.Maximize(cp.geo_mean(x, weights)), [cp.sum(x) <= 1, x >= 0.1]
    )
    ours = ol.from_cvxpy(problem)().objective.item()
    assert_close(ours, optimum(problem), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("p", [-0.3, -0.5, -1, -1.5, -2, 0.3, 1.2, 3])
def test_powers_have_the_curvature_of_their_exponent(p):
    x = cp.Variable(3, name="x")
    sign = -1 if 0 < p < 1 else 1
    cost = sign * cp.sum(cp.power(x, p, approx=False)) + cp.sum_squares(x - 1)
    problem = cp.Problem(cp.Minimize(cost))
    ours = ol.from_cvxpy(problem)().objective.item()
    assert_close(ours, optimum(problem), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "atom",
    [
        cp.lambda_max,
        lambda X: -cp.lambda_min(X),
        lambda X: cp.lambda_sum_largest(X, 1),
        lambda X: cp.matrix_frac(np.ones(2), X),
    ],
)
def test_matrices_that_cvxpy_makes_symmetric_are_symmetric(atom):
    X = cp.Variable((2, 2), name="X")
    M = np.array([[1.0, 2.0], [0.0, 1.0]])
    problem = cp.Problem(cp.Minimize(atom(X) + cp.sum_squares(X - M)))
    out = ol.from_cvxpy(problem)()
    assert_close(out.objective.item(), optimum(problem), rtol=1e-5, atol=1e-6)
    assert_close(out.X, out.X.mT)


def test_a_label_never_hides_that_a_matrix_is_symmetric():
    X = cp.Variable((2, 2), name="X")
    named = (X[0, 0] >= 3).set_label("symmetric_0")
    problem = cp.Problem(cp.Minimize(cp.lambda_max(X) + cp.sum_squares(X)), [named])
    with pytest.raises(DeclarationError, match=r"symmetric_0 is the name .* set_label"):
        ol.from_cvxpy(problem)
    named.set_label("corner")
    assert_close(
        ol.from_cvxpy(problem)().objective.item(), optimum(problem), rtol=1e-5, atol=0
    )


@pytest.mark.filterwarnings("ignore")  # cvxpy evaluates neither of such a matrix
@pytest.mark.parametrize("atom", [cp.tr_inv, lambda X: -cp.log_det(X)])
def test_matrices_that_cvxpy_does_not_make_symmetric_are_not(atom):
    X = cp.Variable((2, 2), name="X")
    M = np.array([[2.0, 2.0], [0.0, 2.0]])
    problem = cp.Problem(cp.Minimize(atom(X) + cp.sum_squares(X - M)))
    problem.solve(solver=cp.CLARABEL)
    out = ol.from_cvxpy(problem)()
    np.testing.assert_allclose(out.X, X.value, atol=1e-4)
    assert abs(out.X[0, 1] - out.X[1, 0]) > 1
