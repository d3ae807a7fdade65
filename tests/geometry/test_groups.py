"""Exponential, logarithm and action of the four groups, and their derivatives."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from scipy.spatial.transform import RigidTransform, Rotation
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.functional import normalize
from torch.testing import assert_close

from optlayers.geometry import quaternions, series
from optlayers.geometry.groups import GROUPS, SE2, SE3, SO2, SO3

# A dozen operations in float64, on numbers of size 1 to 10.
EXACT = {"rtol": 0, "atol": 1e-13}
# Of rotation angles; the last is 1e-3 before the jump of the logarithm.
ANGLES = (0.0, 1e-9, 1e-4, 0.5, 1.0, 2.0, math.pi - 1e-3)

# At zero, within the series, above it, and near the jump.
DIFFERENTIATED = (0.0, 1e-4, 1.5, math.pi - 1e-3)

each_group = pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def tangents(group, angle, count=4, dtype=torch.float64):
    """Tangents whose rotation is by `angle`, translations of size 1, [count, dof]."""
    turning = group.turns.degrees
    v = torch.randn(count, group.degrees - turning, generator=generator(1)).to(dtype)
    w = torch.randn(count, turning, generator=generator(2)).to(dtype)
    return torch.cat([v, angle * normalize(w, dim=-1)], -1)


def generators(group):
    """The matrices of the unit tangents, by a difference quotient, [dof, n, n]."""
    unit = torch.eye(group.degrees, dtype=torch.float64)
    slope = torch.func.jacfwd(group.exp)(torch.zeros_like(unit[0])).movedim(-1, 0)
    # They are 0 and 1 and -1.
    assert_close(slope, slope.round(), **EXACT)
    return slope.round()


# ---- values --------------------------------------------------------------------------


@each_group
@pytest.mark.parametrize("angle", [*ANGLES, 5.0])
def test_exp_is_the_exponential_of_matrices(group, angle):
    d = tangents(group, angle)
    matrices = torch.einsum("bd,dij->bij", d, generators(group)).numpy()
    truth = torch.from_numpy(np.stack([expm(one) for one in matrices]))
    assert_close(group.exp(d), truth, **EXACT)


@each_group
@pytest.mark.parametrize("angle", ANGLES)
def test_log_inverts_exp(group, angle):
    d = tangents(group, angle)
    assert_close(group.log(group.exp(d)), d, **EXACT)


def test_so3_agrees_with_scipy():
    w = torch.randn(50, 3, generator=generator(), dtype=torch.float64)
    theirs = Rotation.from_rotvec(w.numpy())
    assert_close(SO3.exp(w), torch.from_numpy(theirs.as_matrix()), **EXACT)
    q = torch.from_numpy(theirs.as_quat(canonical=True, scalar_first=True))
    assert_close(quaternions.quaternion_of(SO3.exp(w)), q, **EXACT)
    assert_close(quaternions.matrix_of(3 * q), SO3.exp(w), **EXACT)


def test_se3_agrees_with_scipy():
    d = tangents(SE3, 2.0)
    theirs = RigidTransform.from_exp_coords(d[:, [3, 4, 5, 0, 1, 2]].numpy())
    assert_close(SE3.exp(d), torch.from_numpy(theirs.as_matrix()), **EXACT)


@pytest.mark.parametrize("axis", range(3))
def test_half_a_turn_has_its_axis(axis):
    R = -torch.eye(3, dtype=torch.float64)
    R[axis, axis] = 1
    w = SO3.log(R)
    assert_close(w.abs(), math.pi * torch.eye(3, dtype=torch.float64)[axis], **EXACT)
    assert_close(SO3.exp(w), R, **EXACT)


@each_group
def test_inverse_act_and_adjoint(group):
    S = group.exp(tangents(group, 0.7))
    T = group.exp(tangents(group, 2.0).flip(0))
    p = torch.randn(4, group.space, generator=generator(), dtype=torch.float64)
    unit = torch.eye(group.order, dtype=torch.float64).expand_as(T)
    assert_close(group.inverse(T) @ T, unit, **EXACT)
    assert_close(group.act(S @ T, p), group.act(S, group.act(T, p)), **EXACT)
    d = tangents(group, 0.3)
    Ad = (group.adjoint(T) @ d.unsqueeze(-1)).squeeze(-1)
    assert_close(T @ group.exp(d) @ group.inverse(T), group.exp(Ad), **EXACT)


@each_group
def test_retraction_and_its_inverse(group):
    base = group.exp(tangents(group, 2.0).flip(0))
    d = tangents(group, 1.5)
    assert_close(group.step(base, group.retract(base, d)), d, **EXACT)
    for angle in (1.6 * math.pi, 2 * math.pi + 0.5):
        far = tangents(group, angle)
        near = group.shortened(far)
        assert_close(group.retract(base, near), group.retract(base, far), **EXACT)
        assert float(near[:, -group.turns.degrees :].norm(dim=1).max()) < math.pi
    assert torch.equal(group.shortened(d), d)


# ---- derivatives ---------------------------------------------------------------------


@each_group
@pytest.mark.parametrize("angle", DIFFERENTIATED)
def test_derivatives_of_exp(group, angle):
    d = tangents(group, angle, count=1).requires_grad_()
    assert gradcheck(group.exp, d)
    assert gradgradcheck(group.exp, d, fast_mode=True)


@each_group
@pytest.mark.parametrize("angle", DIFFERENTIATED)
def test_derivatives_of_log_along_the_group(group, angle):
    T = group.exp(tangents(group, angle, count=1))
    d = torch.zeros(1, group.degrees, dtype=torch.float64, requires_grad=True)

    def log_near(d):
        return group.log(T @ group.exp(d))

    assert gradcheck(log_near, d)
    assert gradgradcheck(log_near, d, fast_mode=True)


@each_group
def test_third_derivatives_at_the_identity(group):
    zero = torch.zeros(1, group.degrees, dtype=torch.float64, requires_grad=True)

    def curvature(d):
        value = group.log(group.exp(d) @ group.exp(d.flip(-1))).square().sum()
        (slope,) = torch.autograd.grad(value, d, create_graph=True)
        return torch.autograd.grad(slope.sum(), d, create_graph=True)[0]

    assert gradcheck(curvature, zero)


@pytest.mark.parametrize(
    "ratio", [series.sinc, series.versine, series.cubic, series.half_cotangent]
)
def test_series_and_closed_form_meet(ratio):
    """Values and two derivatives on either side of where one hands to the other."""
    s = torch.tensor([0.25 - 1e-12, 0.25 + 1e-12], dtype=torch.float64)
    s.requires_grad_()
    value = ratio(s)
    (first,) = torch.autograd.grad(value.sum(), s, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), s)
    for one in (value, first, second):
        assert_close(one[0], one[1], rtol=1e-9, atol=0)


def test_the_cotangent_is_that_of_its_closed_form():
    a = torch.tensor([0.3, 0.9, 2.0, 3.1], dtype=torch.float64)
    exact = (1 - a / 2 * torch.cos(a / 2) / torch.sin(a / 2)) / a**2
    assert_close(series.half_cotangent(a**2), exact, rtol=1e-13, atol=0)


# ---- batches and precision -----------------------------------------------------------


@each_group
def test_any_batch_and_vmap(group):
    d = torch.stack([tangents(group, angle) for angle in (0.0, 0.3, 3.0)])
    T = group.exp(d)
    assert T.shape == (3, 4, group.order, group.order)
    assert_close(torch.func.vmap(group.exp)(d[1]), T[1], **EXACT)
    assert_close(torch.func.vmap(group.log)(T[2]), group.log(T[2]), **EXACT)
    assert group.log(group.exp(d[:, :0])).shape == (3, 0, group.degrees)


@each_group
@pytest.mark.parametrize("angle", [0.0, 1e-4, 1.0, 3.0])
def test_single_precision_stays_single_up_to_roundings(group, angle):
    d = tangents(group, angle, dtype=torch.float32).requires_grad_()
    back = group.log(group.exp(d))
    assert back.dtype == torch.float32
    # Some roundings of 1e-7.
    assert_close(back, d, rtol=0, atol=3e-6)
    (slope,) = torch.autograd.grad(back.sum(), d)
    assert_close(slope, torch.ones_like(d), rtol=0, atol=3e-5)


# ---- what is no element --------------------------------------------------------------


def test_elements_have_no_fault():
    for group in GROUPS:
        for dtype in (torch.float32, torch.float64):
            T = group.exp(tangents(group, 2.0, dtype=dtype))
            assert [group.fault(one) for one in T] == [""] * len(T)


@pytest.mark.parametrize(
    ("group", "matrix", "words"),
    [
        (SO2, torch.eye(2) * 1.01, "differs from I by 0.02"),
        (SO3, torch.diag(torch.tensor([1.0, 1.0, -1.0])), "reflection"),
        (SE2, 2 * torch.eye(3) - torch.diag(torch.tensor([1.0, 1.0, 0.0])), "last row"),
    ],
)
def test_a_fault_has_its_number(group, matrix, words):
    assert words in group.fault(matrix)


@each_group
def test_the_nearest_element_is_one(group):
    T = group.exp(tangents(group, 2.0))
    near = group.nearest(T + 1e-5 * torch.randn(T.shape, generator=generator()))
    assert_close(near, T, rtol=0, atol=1e-4)
    R = group.rotation(near)
    unit = torch.eye(group.space, dtype=torch.float64).expand_as(R)
    assert_close(R.mT @ R, unit, **EXACT)
