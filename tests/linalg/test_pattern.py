import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from optlayers.errors import ShapeError
from optlayers.linalg.pattern import PatternMatrix


def random_pattern(m, n, nnz, batch=None):
    rows = torch.randint(m, (nnz,))
    cols = torch.randint(n, (nnz,))
    lead = () if batch is None else (batch,)
    return PatternMatrix(torch.randn(*lead, nnz).double(), rows, cols, (m, n))


@given(m=st.integers(1, 6), n=st.integers(1, 6), nnz=st.integers(0, 12))
def test_dense_form_is_that_of_scipy_with_repeated_positions_added(m, n, nnz):
    matrix = random_pattern(m, n, nnz)
    places = (matrix.rows.numpy(), matrix.cols.numpy())
    expected = sp.coo_matrix((matrix.values.numpy(), places), (m, n)).toarray()
    np.testing.assert_allclose(matrix.to_dense().numpy(), expected, atol=1e-14)


@given(
    m=st.integers(0, 5),
    n=st.integers(0, 5),
    batch=st.integers(0, 3),
    is_batched=st.booleans(),
)
def test_products_are_those_of_the_dense_form(m, n, batch, is_batched):
    nnz = 7 if m * n else 0
    rows = torch.randint(max(m, 1), (nnz,))
    cols = torch.randint(max(n, 1), (nnz,))
    values = torch.randn(*((batch,) if is_batched else ()), nnz).double()
    matrix = PatternMatrix(values, rows, cols, (m, n))
    dense = matrix.to_dense().expand(batch, m, n)
    x, y = torch.randn(batch, n).double(), torch.randn(batch, m).double()
    assert_close(matrix.matvec(x), torch.einsum("bmn,bn->bm", dense, x))
    assert_close(matrix.transposed_matvec(y), torch.einsum("bmn,bm->bn", dense, y))


@pytest.mark.parametrize("batch", [None, 3])
def test_gradient_of_the_values_stays_on_the_pattern(batch):
    matrix = random_pattern(4, 5, 6, batch)
    values = matrix.values.requires_grad_()
    x, weight = torch.randn(3, 5).double(), torch.randn(3, 4).double()
    (on_pattern,) = torch.autograd.grad((matrix.matvec(x) * weight).sum(), values)
    outer = weight[:, :, None] * x[:, None, :]
    outer = outer.sum(0) if batch is None else outer
    assert on_pattern.shape == values.shape
    assert_close(on_pattern, outer[..., matrix.rows, matrix.cols])


@pytest.mark.parametrize("batch", [None, 2])
def test_every_product_is_differentiable_in_both_modes_and_twice(batch):
    matrix = random_pattern(3, 4, 6, batch)
    x, y = torch.randn(2, 4).double(), torch.randn(2, 3).double()
    for product in (
        lambda values, x: matrix.with_values(values).matvec(x),
        lambda values, x: matrix.with_values(values).transposed_matvec(y) * x,
        lambda values, x: matrix.with_values(values).to_dense() @ x[0],
    ):
        inputs = (matrix.values.clone().requires_grad_(), x.clone().requires_grad_())
        assert gradcheck(
            product, inputs, check_forward_ad=True, check_batched_grad=True
        )
        assert gradgradcheck(product, inputs)


def test_vmap_over_the_values_is_the_loop():
    matrix = random_pattern(3, 4, 6, 2)
    values, x = torch.randn(5, 2, 6).double(), torch.randn(2, 4).double()
    mapped = torch.vmap(lambda v: matrix.with_values(v).matvec(x))(values)
    looped = [matrix.with_values(v).matvec(x) for v in values]
    assert_close(mapped, torch.stack(looped))


def test_detached_matrix_has_no_derivative():
    matrix = random_pattern(3, 4, 6)
    matrix.values.requires_grad_()
    assert not matrix.detach().to_dense().requires_grad


def test_values_that_do_not_fit_the_positions_are_named():
    places = torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ShapeError, match=r"values \[2\], rows \[3\]"):
        PatternMatrix(torch.zeros(2), places, places, (1, 1))
