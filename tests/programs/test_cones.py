import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from optlayers.errors import ShapeError
from optlayers.programs.cones import Cones

MIXED = Cones(zero=2, nonneg=3, soc=(3, 1, 4, 3, 2, 4))
ROUNDING = 1e-12

all_cones = st.builds(
    Cones,
    zero=st.integers(0, 2),
    nonneg=st.integers(0, 2),
    soc=st.lists(st.integers(1, 4), max_size=4).map(tuple),
)


def is_in_cone(s, cones):
    """Whether s lies in K up to rounding, from the definition, cone by cone."""
    first = cones.zero + cones.nonneg
    good = (s[:, : cones.zero].abs() <= ROUNDING).all(1)
    good &= (s[:, cones.zero : first] >= -ROUNDING).all(1)
    for size in cones.soc:
        part = s[:, first : first + size]
        good &= part[:, 1:].norm(dim=1) <= part[:, 0] + ROUNDING
        first += size
    return good


@given(cones=all_cones, batch=st.integers(0, 5))
def test_projection_and_slack_are_complementary_members_of_the_two_cones(cones, batch):
    # Moreau: v = y - s with y in K*, s in K and y's = 0 holds for the projection alone.
    v = torch.randn(batch, cones.size).double()
    y = cones.project_dual(v)
    s = y - v
    assert bool(is_in_cone(s, cones).all())
    dual = Cones(nonneg=cones.nonneg, soc=cones.soc)
    assert bool(is_in_cone(y[:, cones.zero :], dual).all())
    assert_close((y * s).sum(1), torch.zeros(batch).double(), atol=ROUNDING, rtol=0)


def test_second_order_projection_has_its_closed_form():
    v = torch.tensor([[1.0, 3.0, 4.0], [6.0, 3.0, 4.0], [-6.0, 3.0, 4.0]]).double()
    y = Cones(soc=(3,)).project_dual(v)
    expected = [[3.0, 1.8, 2.4], [6.0, 3.0, 4.0], [0.0, 0.0, 0.0]]
    assert_close(y, torch.tensor(expected).double())


@given(cones=all_cones)
def test_derivative_is_that_of_autograd(cones):
    v = torch.randn(3, cones.size).double()
    jacobian = torch.vmap(
        torch.func.jacrev(lambda row: cones.project_dual(row[None])[0])
    )(v)
    assert_close(cones.project_dual_derivative(v), jacobian)


@pytest.mark.parametrize("batched", [False, True])
def test_products_with_the_derivative_need_not_form_it(batched):
    v = torch.randn(3, MIXED.size).double()
    matrix = torch.randn(*([3] if batched else []), 5, MIXED.size).double()
    expected = matrix @ MIXED.project_dual_derivative(v)
    assert_close(MIXED.times_derivative(matrix, v), expected)


def test_projection_is_differentiable_twice_off_the_kinks():
    v = torch.randn(2, MIXED.size).double().requires_grad_()
    project = MIXED.project_dual
    assert gradcheck(project, v, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(project, v, check_batched_grad=True)


@pytest.mark.parametrize(
    "at", [(0.0, 0.0, 0.0), (5.0, 3.0, 4.0), (-5.0, 3.0, 4.0), (0.0, 1e-200, 0.0)]
)
def test_kinks_have_finite_derivatives_that_agree(at):
    cones = Cones(zero=1, nonneg=1, soc=(3,))
    v = torch.tensor([[0.0, 0.0, *at]]).double()

    def project(row):
        return cones.project_dual(row[None])[0]

    jacobian = torch.func.jacrev(project)(v[0])
    assert_close(cones.project_dual_derivative(v)[0], jacobian)
    second = torch.func.hessian(lambda row: project(row).sum())(v[0])
    assert bool(second.isfinite().all())


def test_cones_of_equal_size_are_one_batch_wherever_they_stand():
    assert [block.shape for block in MIXED.blocks] == [(2, 3), (1, 1), (2, 4), (1, 2)]
    v = torch.randn(4, MIXED.size).double()
    alone, first = [v[:, :2], v[:, 2:5].relu()], 5
    for size in MIXED.soc:
        alone.append(Cones(soc=(size,)).project_dual(v[:, first : first + size]))
        first += size
    assert_close(MIXED.project_dual(v), torch.cat(alone, 1))


def test_slices_tell_the_rows_of_every_kind():
    cones = Cones(zero=1, nonneg=2, soc=(3,), psd=(2,), exp=1, power=(0.5,))
    rows = {name: (s.start, s.stop) for name, s in cones.slices.items()}
    assert rows == {
        "zero": (0, 1),
        "nonneg": (1, 3),
        "soc": (3, 6),
        "psd": (6, 9),
        "exp": (9, 12),
        "power": (12, 15),
    }
    assert cones.size == 15


@pytest.mark.parametrize(
    "wrong", [{"zero": -1}, {"soc": (3, 0)}, {"psd": (0,)}, {"power": (1.0,)}]
)
def test_sizes_that_no_cone_has_are_refused(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ShapeError, match=name) as error:
        Cones(**wrong)
    assert str(value) in str(error.value)


def test_cones_are_values():
    twin = Cones(zero=2, nonneg=3, soc=[3, 1, 4, 3, 2, 4])
    assert twin == MIXED
    assert hash(twin) == hash(MIXED)
    assert Cones(zero=2) != MIXED
    v = torch.randn(2, MIXED.size).double()
    for copied in (copy.deepcopy(MIXED), pickle.loads(pickle.dumps(MIXED))):
        assert copied == MIXED
        assert torch.equal(copied.project_dual(v), MIXED.project_dual(v))
