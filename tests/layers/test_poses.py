"""Layers whose unknowns are rotations and rigid motions: solutions and derivatives."""

import math

import pytest
import torch
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

import optlayers as ol
from optlayers import Parameter, Variable, minimize
from optlayers.errors import InvalidDataError, NotConvex
from optlayers.geometry.groups import GROUPS
from optlayers.interfaces import Kind
from optlayers.solution import Status

DOUBLE = {"dtype": torch.float64}
# A KKT residual of 1e-8 at conditions of some tens.
CLOSE = {"rtol": 0, "atol": 1e-7}


@ol.problem
def wahba(R=ol.SO3(), p=Parameter("m 3"), q=Parameter("m 3")):
    return minimize(ol.sum_squares(R @ p - q))


@ol.problem
def register(T=ol.SE3(), p=Parameter("m 3"), q=Parameter("m 3")):
    return minimize(ol.sum_squares(T @ p - q))


@ol.problem
def turn(R=ol.SO2(), p=Parameter("m 2"), q=Parameter("m 2")):
    return minimize(ol.sum_squares(R.act(p) - q))


@ol.problem
def average(R=ol.SO3(), given=ol.SO3.parameter("m")):
    return minimize(ol.sum_squares(R.between(given).log()))


def loop_misfit(T, step, weight):
    """Of poses round a loop; step i leads from pose i to the next, the last one back.

    The poses of a graph are searched from where the odometry leads: from the identity a
    loop of one turn has as its nearest minimum one of no turn.
    """
    after = [*range(1, len(T)), 0]
    error = step.between(T.between(T[after])).log()
    return ol.sum_squares(weight * error) + ol.sum_squares(T[0].log())


@ol.problem
def plane_loop(
    D=ol.SE2("k"), first=ol.SE2.parameter("k"), step=ol.SE2.parameter("k"),
    weight=Parameter("3"),
):  # fmt: skip
    return minimize(loop_misfit(first @ D, step, weight))


@ol.problem
def space_loop(
    D=ol.SE3("k"), first=ol.SE3.parameter("k"), step=ol.SE3.parameter("k"),
    weight=Parameter("6"),
):  # fmt: skip
    return minimize(loop_misfit(first @ D, step, weight))


@ol.problem
def hand_eye(X=ol.SE3(), A=ol.SE3.parameter("m"), B=ol.SE3.parameter("m")):
    """A X = X B of a camera on a robot's hand."""
    return minimize(ol.sum_squares((A @ X).between(X @ B).log()))


@ol.problem
def bundle(
    T=ol.SE3("c"),
    x=Variable("p 3", start=(0.0, 0.0, 4.0)),
    seen=Parameter("c p 2"),
    prior=Parameter("p 3"),
):
    """Cameras and points from where the points are seen, and roughly are."""
    local = T[:, None] @ x
    missed = local[..., :2] / local[..., 2:] - seen
    return minimize(ol.sum_squares(missed) + 1e-2 * ol.sum_squares(x - prior))


@ol.problem
def leaning(R=ol.SO2(), goal=Parameter("2"), limit=Parameter()):
    """The nearest direction to a goal that is low enough."""
    ahead = R @ [1.0, 0.0]
    return minimize(ol.sum_squares(ahead - goal), low=ahead[1] <= limit)


@ol.problem
def reach(T=ol.SE3(), goal=ol.SE3.parameter()):
    return ol.solve(pose=T == goal)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), **DOUBLE)


def procrustes(p, q):
    """The rotation that takes p nearest to q: by singular values, [*batch, 3, 3]."""
    U, _, Vh = torch.linalg.svd(q.mT @ p)
    sign = torch.linalg.det(U @ Vh).detach()
    ones = torch.ones_like(sign)
    return U @ torch.diag_embed(torch.stack([ones, ones, sign], -1)) @ Vh


def noisy_loop(group, count, noise, seed=0):
    """Steps round a closed loop with noise, and where they lead one after another."""
    turning = torch.zeros(count, group.degrees, **DOUBLE)
    turning[:, 0] = 1.0
    turning[:, -1] = 2 * math.pi / count
    error = noise * normal(count, group.degrees, seed=seed)
    steps = group.exp(turning) @ group.exp(error)
    poses = [torch.eye(group.order, **DOUBLE)]
    for one in steps[:-1]:
        poses.append(poses[-1] @ one)
    return steps, torch.stack(poses)


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


# ---- derivatives ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["step", "weight"])
def test_derivatives_of_a_loop(name):
    step, first = noisy_loop(ol.SE2.group, 3, 0.1)
    given = {
        "step": step,
        "first": first,
        "weight": torch.tensor([1.0, 2.0, 3.0], **DOUBLE),
    }

    def solved(value):
        return plane_loop(**{**given, name: value}, tolerance=1e-10).D

    assert gradcheck(solved, given[name].requires_grad_(), atol=1e-6, fast_mode=True)


def test_derivatives_of_hand_and_eye():
    A = ol.SE3.exp(normal(1, 3, 6)).matrix()
    B = ol.SE3.exp(normal(1, 3, 6) + 0.03 * normal(1, 3, 6, seed=1)).matrix()

    def solved(A, B):
        return hand_eye(A=A, B=B, tolerance=1e-10).X

    inputs = (A.requires_grad_(), B.requires_grad_())
    assert gradcheck(solved, inputs, atol=1e-6, fast_mode=True)


def test_derivatives_of_cameras_and_points():
    x = normal(5, 3) + torch.tensor([0.0, 0.0, 5.0], **DOUBLE)
    T = ol.SE3.exp(0.2 * normal(3, 6, seed=1))
    local = T[:, None] @ x
    seen = (local[..., :2] / local[..., 2:]).unsqueeze(0)
    prior = (x + 0.05 * normal(5, 3, seed=2)).unsqueeze(0)
    out = bundle(seen=seen, prior=prior)
    assert float(out.objective) <= 1e-2 * float((x - prior).square().sum())

    def solved(seen, prior):
        out = bundle(seen=seen, prior=prior, tolerance=1e-10)
        return out.T, out.x

    inputs = (seen.requires_grad_(), prior.requires_grad_())
    assert gradcheck(solved, inputs, atol=1e-5, fast_mode=True)


def test_a_derivative_may_be_taken_as_often_as_asked():
    p, q = normal(1, 4, 3), normal(1, 4, 3) + 0.3 * normal(1, 4, 3, seed=1)
    p.requires_grad_()
    q.requires_grad_()

    def solved(p, q):
        return wahba(p=p, q=q, order=2, tolerance=1e-10).R

    assert gradgradcheck(solved, (p, q), atol=1e-5, fast_mode=True)
    (slope,) = torch.autograd.grad(wahba(p=p, q=q).R.sum(), p, create_graph=True)
    with pytest.raises(ol.errors.OrderError, match="order"):
        slope.sum().backward()


# ---- batches, precision, failures ----------------------------------------------------


def test_batches_shared_data_and_single_precision():
    p, q = normal(5, 3).float(), normal(2, 3, 5, 3, seed=1).float()
    p.requires_grad_()
    out = wahba(p=p, q=q)
    assert out.R.dtype == torch.float32 and out.R.shape == (2, 3, 3, 3)
    # Roundings of single precision in the data.
    assert_close(out.R, procrustes(p.expand_as(q), q), rtol=0, atol=1e-5)
    out.R.sum().backward()
    assert p.grad is not None and bool(p.grad.isfinite().all())
    assert wahba(p=p, q=q[:, :0]).R.shape == (2, 0, 3, 3)


@pytest.mark.parametrize("on_failure", ["nan", "keep"])
def test_a_failing_sample_harms_no_other(on_failure):
    p = normal(5, 3).requires_grad_()
    q = normal(3, 5, 3, seed=1)
    apart = torch.autograd.grad(wahba(p=p, q=q[[0, 2]]).R.sum(), p)[0]
    q[1, 2, 0] = torch.nan
    out = wahba(p=p, q=q, on_failure=on_failure)
    assert out.status.tolist() == [0, int(Status.NOT_FINITE), 0]
    assert bool(out.R[1].isnan().all()) == (on_failure == "nan")
    assert_close(torch.autograd.grad(out.R[[0, 2]].sum(), p)[0], apart, **CLOSE)


def test_a_parameter_that_is_no_pose_is_named():
    given = torch.eye(3, **DOUBLE).repeat(2, 4, 1, 1)
    given[1, 2] *= 1.1
    with pytest.raises(InvalidDataError, match=r"given\[2\].*differs from I by 0.21"):
        average(given=given)
    out = average(given=given, on_failure="nan")
    assert out.status.tolist() == [0, int(Status.INVALID_DATA)]


def test_a_mirrored_matrix_is_a_reflection():
    given = torch.diag(torch.tensor([1.0, 1.0, -1.0], **DOUBLE)).expand(2, 3, 3)
    with pytest.raises(InvalidDataError, match="reflection"):
        average(given=given)


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
