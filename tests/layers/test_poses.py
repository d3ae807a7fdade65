"""Layers whose unknowns are rotations and rigid motions: what they find."""

import math

import pytest
import torch
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation
from torch.autograd import gradcheck
from torch.testing import assert_close

import optlayers as ol
from optlayers import Parameter, minimize
from optlayers.errors import NotConvex
from optlayers.geometry.groups import GROUPS
from optlayers.interfaces import Kind
from tests.layers.pose_problems import (
    CLOSE,
    DOUBLE,
    average,
    hand_eye,
    leaning,
    noisy_loop,
    normal,
    plane_loop,
    procrustes,
    reach,
    register,
    space_loop,
    track,
    turn,
    wahba,
)

# ---- closed forms --------------------------------------------------------------------


def test_rotation_of_points_is_that_of_the_singular_values():
    p, q = normal(16, 5, 3), normal(16, 5, 3, seed=1)
    out = wahba(p=p, q=q, tolerance=1e-10)
    assert bool(out.ok.all())
    assert_close(out.R, procrustes(p, q), **CLOSE)


def test_far_rotations_are_found_from_the_identity():
    """16 random rotations, up to half a turn away."""
    R = ol.SO3.exp(math.pi * torch.nn.functional.normalize(normal(16, 3), dim=1))
    R = (R @ ol.SO3.exp(0.02 * normal(16, 3, seed=3))).matrix()
    p = normal(16, 6, 3, seed=2)
    assert_close(wahba(p=p, q=p @ R.mT).R, R, **CLOSE)


def test_derivative_of_the_rotation_is_that_of_the_singular_values():
    p, q = normal(4, 5, 3).requires_grad_(), normal(4, 5, 3, seed=1).requires_grad_()
    weight = normal(4, 3, 3, seed=2)
    found = wahba(p=p, q=q, tolerance=1e-10).R
    ours = torch.autograd.grad((weight * found).sum(), (p, q))
    theirs = torch.autograd.grad((weight * procrustes(p, q)).sum(), (p, q))
    for one, other in zip(ours, theirs, strict=True):
        assert_close(one, other, **CLOSE)


def test_registration_turns_about_the_centres():
    p, q = normal(4, 6, 3), normal(4, 6, 3, seed=1)
    out = register(p=p, q=q)
    middle_p, middle_q = p.mean(1, keepdim=True), q.mean(1, keepdim=True)
    R = procrustes(p - middle_p, q - middle_q)
    t = (middle_q - middle_p @ R.mT).squeeze(1)
    found = ol.SE3.from_matrix(out.T)
    assert_close(found.rotation, R, **CLOSE)
    assert_close(found.translation, t, **CLOSE)


def test_angle_in_the_plane_and_its_derivative():
    p, q = normal(3, 4, 2), normal(3, 4, 2) + 0.3 * normal(3, 4, 2, seed=1)

    def angle(p, q):
        return ol.SO2.from_matrix(turn(p=p, q=q, tolerance=1e-10).R).log()

    cross = (p[..., 0] * q[..., 1] - p[..., 1] * q[..., 0]).sum(1)
    exact = torch.atan2(cross, (p * q).sum((1, 2)))
    assert_close(angle(p, q)[:, 0], exact, **CLOSE)
    one = (p[:1].requires_grad_(), q[:1].requires_grad_())
    assert gradcheck(angle, one, atol=1e-6, fast_mode=True)


def test_mean_of_two_rotations_is_half_way():
    # Of far ones there is a second minimum, half way round the other way.
    given = ol.SO3.exp(0.5 * normal(5, 2, 3)).matrix()
    first = ol.SO3.from_matrix(given[:, 0])
    way = first.between(ol.SO3.from_matrix(given[:, 1])).log()
    out = average(given=given)
    assert_close(out.R, (first @ ol.SO3.exp(way / 2)).matrix(), **CLOSE)
    assert_close(out.objective, way.square().sum(1) / 2, **CLOSE)


def test_hand_and_eye():
    X = ol.SE3.exp(torch.tensor([[0.3, -0.2, 0.5, 1.0, 2.0, -0.5]], **DOUBLE))
    A = ol.SE3.exp(normal(4, 6))
    B = X.inverse() @ A @ X
    assert_close(hand_eye(A=A.matrix(), B=B.matrix()).X, X.matrix()[0], **CLOSE)


def test_a_constraint_on_a_rotation_has_its_multiplier():
    """On the circle the slope of |u - g|^2 along the tangent is the multiplier's."""
    limit = torch.tensor([0.3, 0.95], **DOUBLE, requires_grad=True)
    goal = torch.tensor([0.6, 0.8], **DOUBLE)
    out = leaning(goal=goal, limit=limit)
    across = (1 - limit[0] ** 2).sqrt()
    assert_close(out.R[0, :, 0], torch.stack([across, limit[0]]), **CLOSE)
    assert_close(out.R[1, :, 0], goal, **CLOSE)
    exact = 2 * (0.8 - 0.6 * limit[0] / across)
    assert_close(out.dual.low, torch.stack([exact, 0 * exact]), rtol=0, atol=1e-6)
    (slope,) = torch.autograd.grad(out.objective.sum(), limit)
    assert_close(slope, -out.dual.low, rtol=0, atol=1e-6)


def test_poses_stand_beside_trajectories():
    """Three steps u, the frame's t and the miss are alike, a fifth of the goal."""
    goal = torch.tensor([1.0, 2.0, 3.0], **DOUBLE)
    out = track(goal=goal, steps=3)
    assert_close(out.u, (goal / 5).expand(3, 3), **CLOSE)
    assert_close(out.T[:3, 3], goal / 5, **CLOSE)
    assert_close(out.T[:3, :3], torch.eye(3, **DOUBLE), **CLOSE)


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_a_start_is_where_the_search_begins(group):
    kind = getattr(ol, group.name)
    start = group.exp(torch.linspace(0.3, 1.0, 2 * group.degrees).reshape(2, -1))

    @ol.problem
    def nearest(T=kind("2", start=start), goal=kind.parameter("2")):
        return minimize(ol.sum_squares(T.between(goal).log()))

    out = nearest(goal=start.double())
    assert_close(out.T, start.double(), rtol=0, atol=1e-6)
    assert int(out.stats["steps"]) <= 2


def test_a_call_begins_where_it_is_told():
    """At poses by the sample, shared ones, and an earlier result."""
    p = normal(5, 3)
    T = ol.SE3.exp(normal(4, 6)).matrix()
    q = ol.SE3.from_matrix(T)[:, None].act(p)
    layer = register.layer()
    cold = layer(p=p, q=q)
    for start in (cold, {"T": T}):
        warm = layer(p=p, q=q, warm_start=start)
        assert int(warm.stats["steps"].max()) <= 1
        assert_close(warm.T, T, **CLOSE)
    one = layer(p=p, q=q, warm_start={"T": T[2]})
    assert int(one.stats["steps"][2]) <= 1 < int(one.stats["steps"][0])


def test_far_rotations_have_two_means_of_which_several_starts_find_the_lower():
    first = ol.SO3.exp(normal(6, 3, seed=7))
    way = 2.8 * torch.nn.functional.normalize(normal(6, 3, seed=8), dim=1)
    given = torch.stack([first.matrix(), (first @ ol.SO3.exp(way)).matrix()], 1)
    lowest = torch.full((6,), 2.8**2 / 2, **DOUBLE)
    one = average(given=given)
    assert float(one.objective.max()) > 2.8**2 / 2 + 1
    assert_close(average(given=given, starts=16).objective, lowest, **CLOSE)
    told = ol.SO3.exp(normal(16, 3)).matrix()
    out = average(given=given, starts={"R": told})
    assert_close(out.objective, lowest, **CLOSE)
    assert_close(out.R, (first @ ol.SO3.exp(way / 2)).matrix(), rtol=0, atol=1e-6)


# ---- against a second solver ---------------------------------------------------------


def misfits(group, steps, weight):
    """The residuals of a loop for scipy, of poses given by their tangents."""

    def errors(x):
        T = group.exp(torch.from_numpy(x).reshape(-1, group.degrees))
        after = group.inverse(T) @ T.roll(-1, 0)
        error = weight * group.log(group.inverse(steps) @ after)
        return torch.cat([error.flatten(), group.log(T[0])]).numpy()

    return errors


def check_against_scipy(group, found, D, steps, first, weight):
    errors = misfits(group, steps, weight)
    start = group.log(first).flatten().numpy()
    theirs = least_squares(errors, start, xtol=1e-15, ftol=1e-15, gtol=1e-12)
    assert_close(found.objective.item(), 2 * theirs.cost, rtol=1e-9, atol=0)
    truth = group.exp(torch.from_numpy(theirs.x).reshape(-1, group.degrees))
    # scipy's Jacobian is of difference quotients.
    assert_close(first @ D, truth, rtol=0, atol=1e-6)


def test_a_loop_in_the_plane_agrees_with_scipy():
    steps, first = noisy_loop(ol.SE2.group, 8, 0.1)
    weight = torch.tensor([1.0, 2.0, 3.0], **DOUBLE)
    out = plane_loop(step=steps, first=first, weight=weight)
    check_against_scipy(ol.SE2.group, out, out.D, steps, first, weight)


def test_a_loop_in_space_agrees_with_scipy():
    steps, first = noisy_loop(ol.SE3.group, 5, 0.1)
    weight = torch.linspace(1, 2, 6, **DOUBLE)
    out = space_loop(step=steps, first=first, weight=weight)
    check_against_scipy(ol.SE3.group, out, out.D, steps, first, weight)


def test_a_long_loop_is_sparse_and_agrees_with_scipy():
    """Every step touches two poses of twelve, which the solver knows."""
    steps, first = noisy_loop(ol.SE3.group, 12, 0.05)
    weight = torch.linspace(1, 2, 6, **DOUBLE)
    template = space_loop.template({"k": 12}, None)
    assert template.pattern is not None and template.pattern.shape == (78, 72)
    assert template.pattern.size < 78 * 72 / 6
    out = space_loop(step=steps, first=first, weight=weight)
    check_against_scipy(ol.SE3.group, out, out.D, steps, first, weight)


def test_the_errors_of_a_loop_are_those_of_other_classes():
    """The residuals above, by scipy's own rotations."""
    steps, T = noisy_loop(ol.SE3.group, 5, 0.3)
    d = misfits(ol.SE3.group, steps, 1.0)(ol.SE3.group.log(T).numpy().ravel())
    R, S = Rotation.from_matrix(T[:, :3, :3]), Rotation.from_matrix(steps[:, :3, :3])
    turned = (S.inv() * R.inv() * R[[1, 2, 3, 4, 0]]).as_rotvec()
    assert_close(d[:-6].reshape(5, 6)[:, 3:], turned, rtol=0, atol=1e-12)


def test_sixteen_loops_are_closed_in_one_call():
    loops = [noisy_loop(ol.SE2.group, 8, 0.1, seed=k) for k in range(16)]
    steps, first = (torch.stack(each) for each in zip(*loops, strict=True))
    out = plane_loop(step=steps, first=first, weight=torch.ones(3, **DOUBLE))
    assert bool(out.ok.all())
    # Of 24 errors of size 0.1 only the three that a loop cannot take up are left.
    assert float(out.objective.max()) < 0.3


# ---- routes --------------------------------------------------------------------------


def test_a_pose_is_never_convex_and_says_so():
    layer = wahba.layer(m=3)
    assert layer.kind is Kind.MINIMIZE
    assert "R = SO3() is a pose" in layer.why
    assert "is a pose" in str(layer.explain())


def test_insisting_on_convexity_is_refused():
    @ol.problem(convex=True)
    def insisted(R=ol.SO3(), M=Parameter("3 3")):
        return minimize(ol.sum_squares(R.matrix() - M))

    with pytest.raises(NotConvex, match="no convex set"):
        insisted.layer()


def test_unknown_weights_do_not_make_a_pose_convex():
    """Else a missing sign would be blamed."""

    @ol.problem
    def weighted(R=ol.SO3(), M=Parameter("3 3"), w=Parameter()):
        return minimize(w * ol.sum_squares(R.matrix() - M))

    out = weighted(M=torch.eye(3, **DOUBLE), w=torch.tensor(2.0, **DOUBLE))
    assert_close(out.R, torch.eye(3, **DOUBLE), **CLOSE)


def test_equations_between_poses_are_solved():
    goal = ol.SE3.exp(normal(4, 6)).matrix().requires_grad_()
    out = reach(goal=goal)
    assert_close(out.T, goal, **CLOSE)
    (slope,) = torch.autograd.grad(out.T[..., :3, 3].sum(), goal)
    exact = torch.zeros_like(goal)
    exact[:, :3, 3] = 1
    assert_close(slope[:, :3, 3], exact[:, :3, 3], **CLOSE)
