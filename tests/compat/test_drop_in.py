"""CvxpyLayer: the same answers and gradients as cvxpylayers' own."""

import inspect

import cvxpy as cp
import numpy as np
import pytest
import torch

from optlayers.compat import CvxpyLayer
from optlayers.errors import DeclarationError, NoEffectWarning, NotConvex
from tests.compat import cvxpy_problems

CASES = {one.name: one for one in cvxpy_problems.all_cases() if one.is_dpp}
# cvxpylayers' default, diffcp with Clarabel, is good to about this.
PEER = {"solve_method": "CLARABEL", "tol_gap_abs": 1e-10, "tol_feas": 1e-10}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name",
    [
        "least squares",
        "lasso in a box",
        "mean and variance",
        "matrix in columns",
        "second-order cone",
        "entropy",
    ],
)
def test_answers_and_gradients_are_the_peers(name):
    from cvxpylayers.torch import CvxpyLayer as Peer

    case = CASES[name]
    parameters = list(case.parameters.values())
    variables = list(case.variables.values())
    rng = np.random.default_rng(0)
    given = [
        torch.tensor(np.stack([one.value, one.value + 0.01])).requires_grad_()
        for one in parameters
    ]
    mine = CvxpyLayer(case.problem, parameters=parameters, variables=variables)(*given)
    theirs = Peer(case.problem, parameters=parameters, variables=variables)(
        *given, solver_args=PEER
    )
    weights = [torch.tensor(rng.standard_normal(one.shape)) for one in mine]
    gradients = []
    for answer in (mine, theirs):
        assert isinstance(answer, tuple)
        total = sum((w * one).sum() for w, one in zip(weights, answer, strict=True))
        gradients.append(torch.autograd.grad(total, given))
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=2e-4, rtol=2e-4)


def test_multipliers_are_returned_where_they_are_listed():
    x, t, c = cp.Variable(3), cp.Variable(), cp.Parameter(3)
    cone, total = cp.SOC(t, x), cp.sum(x) == 1
    problem = cp.Problem(cp.Minimize(c @ x + t), [cone, total])
    c.value = np.array([0.1, -0.2, 0.3])
    problem.solve(solver=cp.CLARABEL)
    listed = [x, *cone.dual_variables, total.dual_variables[0]]
    layer = CvxpyLayer(problem, parameters=[c], variables=listed)
    for value, one in zip(layer(torch.tensor(c.value)), listed, strict=True):
        assert tuple(value.shape) == one.shape
        # cvxpy's numbers may be a column where it says vector.
        theirs = np.reshape(one.value, one.shape)
        np.testing.assert_allclose(value, theirs, atol=1e-5)


def test_names_never_collide():
    x, p = cp.Variable(name="status"), cp.Parameter(name="status")
    problem = cp.Problem(cp.Minimize(cp.square(x - p)))
    (value,) = CvxpyLayer(problem, parameters=[p], variables=[x])(torch.tensor(2.0))
    assert value.item() == pytest.approx(2)


def test_settings_of_solvers_have_no_effect_and_say_so():
    x, p = cp.Variable(), cp.Parameter()
    layer = CvxpyLayer(cp.Problem(cp.Minimize(cp.square(x - p))), [p], [x])
    with pytest.warns(NoEffectWarning, match="eps have no effect"):
        (value,) = layer(torch.tensor(1.0), solver_args={"eps": 1e-3})
    assert value.item() == pytest.approx(1)


def test_arguments_without_effect_are_named():
    x, p = cp.Variable(), cp.Parameter()
    problem = cp.Problem(cp.Minimize(cp.square(x - p)))
    with pytest.warns(NoEffectWarning, match="solver='CUCLARABEL', verbose=True have"):
        CvxpyLayer(problem, [p], [x], solver="CUCLARABEL", verbose=True)
    with pytest.warns(NoEffectWarning, match="canon_backend='COO' has no effect"):
        CvxpyLayer(problem, [p], [x], canon_backend="COO")


def test_a_warm_start_without_effect_is_named():
    x, p = cp.Variable(), cp.Parameter()
    layer = CvxpyLayer(cp.Problem(cp.Minimize(cp.square(x - p))), [p], [x])
    with pytest.warns(NoEffectWarning, match="warm_start=True has no effect"):
        layer(torch.tensor(1.0), warm_start=True)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["__init__", "forward"])
def test_arguments_stand_where_the_peer_has_them(method):
    from cvxpylayers.torch import CvxpyLayer as Peer

    mine, theirs = (
        [(one.name, one.kind, one.default) for one in signature.parameters.values()]
        for signature in (
            inspect.signature(getattr(layer, method)) for layer in (CvxpyLayer, Peer)
        )
    )
    assert mine == theirs


def test_what_is_not_in_the_problem_is_refused():
    x, p = cp.Variable(), cp.Parameter()
    problem = cp.Problem(cp.Minimize(cp.square(x - p)))
    with pytest.raises(DeclarationError, match="neither a variable nor a multiplier"):
        CvxpyLayer(problem, [p], [cp.Variable()])
    with pytest.raises(DeclarationError, match="takes 1 parameters, given 0"):
        CvxpyLayer(problem, [p], [x])()


def test_a_parameter_that_is_not_listed_is_refused_when_the_layer_is_made():
    x, p, q = cp.Variable(2), cp.Parameter(2), cp.Parameter(2, name="q")
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - p) + q @ x))
    with pytest.raises(
        DeclarationError, match=r"lacks cvxpy parameter q \[2\]; a call"
    ):
        CvxpyLayer(problem, [p], [x])


def test_a_problem_that_is_not_convex_is_refused_when_the_layer_is_made():
    x, p = cp.Variable(2), cp.Parameter(2)
    problem = cp.Problem(cp.Maximize(cp.sum_squares(x - p)), [x <= 1])
    with pytest.raises(NotConvex, match="only a concave objective can be maximized"):
        CvxpyLayer(problem, [p], [x])


def test_what_is_no_geometric_program_is_refused_when_the_layer_is_made():
    x, p = cp.Variable(2), cp.Parameter(2, name="p")
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - p)))
    assert problem.is_dcp()
    assert not problem.is_dgp()
    with pytest.raises(NotConvex, match="subtracts `p0`, and terms of geometric"):
        CvxpyLayer(problem, [p], [x], gp=True)


def test_a_geometric_program_is_one_here():
    x, y, a = cp.Variable(pos=True), cp.Variable(pos=True), cp.Parameter(pos=True)
    problem = cp.Problem(cp.Minimize(1 / (x * y)), [x + y <= a])
    given = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    width, height = CvxpyLayer(problem, [a], [x, y], gp=True)(given)
    (slope,) = torch.autograd.grad(width, given)
    assert (width.item(), height.item()) == pytest.approx((1, 1))
    assert slope.item() == pytest.approx(0.5)
