"""Derivatives of solved poses, their batches, precision and failures."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

import optlayers as ol
from optlayers.errors import InvalidDataError
from optlayers.solution import Status
from tests.layers.pose_problems import (
    CLOSE,
    DOUBLE,
    average,
    bundle,
    hand_eye,
    noisy_loop,
    normal,
    plane_loop,
    procrustes,
    register,
    wahba,
)

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


def test_transforms_see_through_poses():
    p, q = normal(3, 5, 3), normal(3, 5, 3) + 0.2 * normal(3, 5, 3, seed=1)

    def solved(p, q):
        return register(p=p, q=q, tolerance=1e-10).T

    assert_close(torch.func.vmap(solved)(p, q), solved(p, q), **CLOSE)
    forward = torch.func.jacfwd(solved)(p[0], q[0])
    assert_close(forward, torch.func.jacrev(solved)(p[0], q[0]), **CLOSE)


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
