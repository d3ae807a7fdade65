import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from optlayers.linalg.dense import DenseOperator, pseudo_inverse

# Well-conditioned matrices of a few rows: rounding is near 1e-15.
ROUNDING = {"rtol": 1e-10, "atol": 1e-10}


def regular(batch, n):
    return torch.randn(batch, n, n).double() + 2 * n * torch.eye(n).double()


@given(batch=st.integers(0, 3), n=st.integers(0, 6))
def test_solve_undoes_matvec_and_its_transpose_is_the_transpose(batch, n):
    operator = DenseOperator.from_matrix(regular(batch, n))
    x, r = torch.randn(2, batch, n).double()
    assert_close(operator.solve(operator.matvec(x)), x, **ROUNDING)
    left = (r * operator.solve(x)).sum()
    assert_close((operator.solve_transposed(r) * x).sum(), left, **ROUNDING)
    assert operator.condition.shape == (batch,)


def test_condition_of_a_diagonal_matrix_is_that_of_the_frobenius_norm():
    matrix = torch.diag_embed(torch.tensor([[1.0, 2.0, 4.0]]).double())
    expected = np.sqrt(1 + 4 + 16) * np.sqrt(1 + 1 / 4 + 1 / 16)
    assert_close(DenseOperator.from_matrix(matrix).condition.item(), expected)


def test_singular_matrices_get_the_pseudo_inverse_and_leave_the_others_alone():
    matrix = regular(3, 5)
    matrix[1, 4] = matrix[1, 3]
    inverse, condition = pseudo_inverse(matrix)
    assert_close(
        inverse[1], torch.from_numpy(np.linalg.pinv(matrix[1].numpy())), **ROUNDING
    )
    assert condition[1] == torch.inf
    assert torch.equal(inverse[::2], pseudo_inverse(matrix[::2])[0])
    assert bool(condition[::2].isfinite().all())


def test_zero_matrix_has_the_zero_pseudo_inverse():
    inverse, condition = pseudo_inverse(torch.zeros(1, 3, 3).double())
    assert torch.equal(inverse, torch.zeros(1, 3, 3).double())
    assert condition.item() == torch.inf


def test_nearly_dependent_rows_count_as_singular():
    matrix = regular(1, 6)
    matrix[0, 5] = matrix[0, 0] + 1e-15 * torch.randn(6).double()
    inverse, condition = pseudo_inverse(matrix)
    assert condition.item() == torch.inf
    assert float(inverse.abs().amax()) < 1e3


def test_bad_scaling_alone_is_not_singular():
    scales = torch.tensor([1e-9, 1.0, 1e9]).double()
    matrix = scales[:, None] * regular(1, 3) * scales
    inverse, condition = pseudo_inverse(matrix)
    assert bool(condition.isfinite().all())
    assert_close(
        scales[:, None] * (inverse @ matrix) / scales,
        torch.eye(3)[None].double(),
        **ROUNDING,
    )


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_matrices_that_are_not_finite_give_zeros_and_say_so(value):
    matrix = regular(2, 3)
    matrix[0, 1, 2] = value
    inverse, condition = pseudo_inverse(matrix)
    assert torch.equal(inverse[0], torch.zeros(3, 3).double())
    assert bool(condition[0].isnan())
    assert torch.equal(inverse[1], pseudo_inverse(matrix[1:])[0][0])


def test_solves_are_differentiable_in_the_right_hand_side():
    operator = DenseOperator.from_matrix(regular(2, 3))
    r = torch.randn(2, 3).double().requires_grad_()
    for solve in (operator.solve, operator.solve_transposed, operator.matvec):
        assert gradcheck(solve, r, check_forward_ad=True, check_batched_grad=True)
        assert gradgradcheck(solve, r)


def test_no_derivative_reaches_the_matrix():
    matrix = regular(2, 3).requires_grad_()
    operator = DenseOperator.from_matrix(matrix)
    assert not operator.solve(torch.ones(2, 3).double()).requires_grad


def test_vmap_over_either_axis_is_the_loop():
    matrices = torch.stack(
        [regular(2, 4), regular(2, 4), torch.zeros(2, 4, 4)]
    ).double()
    for axis in (0, 1):
        mapped = torch.vmap(pseudo_inverse, axis)(matrices.movedim(0, axis))
        for k in range(3):
            for one, many in zip(pseudo_inverse(matrices[k]), mapped, strict=True):
                assert_close(many[k], one, rtol=0, atol=0)


def test_operator_obeys_the_rules_of_torch_library():
    operator = torch.ops.optlayers.pseudo_inverse.default
    singular = torch.ones(2, 3, 3).double()
    for matrix in (regular(2, 3), singular, regular(0, 3)):
        torch.library.opcheck(operator, (matrix,))
