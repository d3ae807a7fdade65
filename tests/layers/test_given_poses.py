"""Poses as parameters: in convex problems, in equations of motion, and learned."""

import copy

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck
from torch.testing import assert_close

import optlayers as ol
from optlayers import Parameter, State, Time, Variable, integrate, minimize
from optlayers.errors import InvalidDataError, NotConvex, SolverRefused
from optlayers.interfaces import Kind
from tests.layers.pose_problems import average

DOUBLE = {"dtype": torch.float64}
CLOSE = {"rtol": 0, "atol": 1e-7}


@ol.problem
def before(x=Variable("3"), T=ol.SE3.parameter(), goal=Parameter("3")):
    """The nearest point that is a metre before a camera, along its third axis."""
    return minimize(ol.sum_squares(x - goal), front=(T @ x)[2] >= 1)


@ol.problem
def before_all(x=Variable("p 3"), T=ol.SE3.parameter("c"), goal=Parameter("p 3")):
    depth = (T[:, None] @ x)[..., 2]
    return minimize(ol.sum_squares(x - goal), front=depth >= 1)


@ol.problem
def carried(x=State("3"), R=ol.SO3.parameter(), x0=Parameter("3"), t=Time()):
    return integrate(ol.der(x) == R @ x - x, x.first == x0)


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, **DOUBLE)


def test_given_poses_act_affinely_in_convex_problems():
    T, goal = ol.SE3.exp(normal(4, 6)), normal(4, 3, seed=1)
    layer = before.layer()
    assert layer.kind is Kind.CONVEX
    out = layer(T=T.matrix(), goal=goal)
    axis = T.rotation[:, 2]
    missing = (1 - T.act(goal)[:, 2]).clamp_min(0)
    assert_close(out.x, goal + missing[:, None] * axis, **CLOSE)
    assert_close(out.dual.front, 2 * missing, **CLOSE)


def test_derivative_in_a_given_pose():
    T, goal = ol.SE3.exp(normal(1, 6)).matrix(), normal(1, 3, seed=1)
    T[:, 2, 3] = -2.0
    layer = before.layer()

    def solved(T, goal):
        return layer(T=T, goal=goal).x

    inputs = (T.requires_grad_(), goal.requires_grad_())
    assert gradcheck(solved, inputs, atol=1e-6, fast_mode=True)


def test_every_pose_acts_on_every_point():
    T, goal = ol.SE3.exp(normal(2, 6)), normal(3, 3, seed=1)
    assert before_all.layer(p=3, c=2).kind is Kind.CONVEX
    out = before_all(T=T.matrix(), goal=goal)
    assert float(T[:, None].act(out.x)[..., 2].min()) > 1 - 1e-7


def test_a_given_rotation_in_a_differential_equation():
    R = ol.SO3.exp(torch.tensor([0.0, 0.0, 0.7], **DOUBLE)).matrix()
    x0, t = normal(3), torch.tensor([0.0, 1.0], **DOUBLE)
    out = carried(R=R, x0=x0, t=t, tolerance=1e-9)
    exact = torch.linalg.matrix_exp(R - torch.eye(3, **DOUBLE)) @ x0
    assert_close(out.x[1], exact, rtol=0, atol=1e-6)


# ---- learned -------------------------------------------------------------------------


def test_a_learned_pose_stays_one():
    start = ol.SO3.exp(normal(2, 3)).matrix()
    layer = average.layer(given=nn.Parameter(start.clone()))
    assert_close(layer.bound()["given"], start, **CLOSE)
    goal = ol.SO3.exp(torch.tensor([0.3, -0.5, 0.2], **DOUBLE))
    learning = torch.optim.SGD(layer.parameters(), lr=0.8)
    for _ in range(8):
        loss = goal.between(ol.SO3.from_matrix(layer().R)).log().square().sum()
        learning.zero_grad()
        loss.backward()
        learning.step()
    R = layer.bound()["given"]
    assert_close(R.mT @ R, torch.eye(3, **DOUBLE).expand(2, 3, 3), **CLOSE)
    assert_close(layer().R, goal.matrix(), rtol=0, atol=1e-3)
    assert [tuple(one.shape) for one in layer.state_dict().values()] == [(2, 3)]
    assert_close(copy.deepcopy(layer)().R, layer().R, **CLOSE)


def test_a_start_that_is_no_pose_is_not_learned():
    with pytest.raises(InvalidDataError, match=r"given\[0\] is a reflection"):
        average.layer(given=nn.Parameter(-torch.eye(3).expand(2, 3, 3).clone()))


# ---- other ways out ------------------------------------------------------------------


def test_no_cvxpy_problem_is_made_of_an_unknown_pose():
    """It would be a matrix without further conditions: another problem."""

    @ol.problem
    def nearest(R=ol.SO3(), M=Parameter("3 3")):
        return minimize(ol.sum_squares(R.matrix() - M))

    with pytest.raises(NotConvex, match="is a pose"):
        nearest.layer().to_cvxpy(M=torch.eye(3, **DOUBLE))


def test_a_geometric_program_has_no_poses():
    @ol.problem(geometric=True)
    def mistaken(R=ol.SO3(), x=Variable()):
        return minimize(x, R.matrix()[0, 0] * x >= 1)

    with pytest.raises(SolverRefused, match="signs of all kinds"):
        mistaken()
