"""The symmetric root: its value and its derivatives, singular matrices included."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from optlayers.compile.semidefinite import symmetric_root

DOUBLE = {"dtype": torch.float64}
ROTATION = torch.linalg.qr(torch.rand(3, 3, **DOUBLE, generator=torch.Generator()))[0]


def with_eigenvalues(*values):
    return ROTATION * torch.tensor(values, **DOUBLE) @ ROTATION.mT


@pytest.mark.parametrize(
    "values", [(1, 2, 3), (2, 2, 2), (1, 1, 4), (0, 1, 2), (0, 0, 3), (0, 0, 0)]
)
def test_the_root_squared_is_the_matrix(values):
    Q = with_eigenvalues(*values)
    R = symmetric_root(Q)
    assert_close(R @ R, Q)
    assert_close(R, R.mT)
    assert torch.linalg.eigvalsh(R).min() >= -1e-12


@pytest.mark.parametrize("values", [(1, 2, 3), (2, 2, 2), (1, 1, 4)])
def test_derivatives_are_right_whatever_eigenvalues_coincide(values):
    Q = with_eigenvalues(*values).requires_grad_()
    assert gradcheck(symmetric_root, Q)
    assert gradgradcheck(symmetric_root, Q)


@pytest.mark.parametrize("rank", [1, 2])
def test_derivatives_are_right_along_matrices_of_the_same_rank(rank):
    """Along G G' with G [3, rank], which stays semidefinite and singular."""

    def quadratic(G):
        return symmetric_root(G @ G.mT) @ torch.arange(3.0, **DOUBLE)

    G = torch.rand(3, rank, **DOUBLE, generator=torch.Generator().manual_seed(1))
    assert gradcheck(quadratic, G.requires_grad_())
    assert gradgradcheck(quadratic, G)


def test_at_zero_the_derivative_is_zero_and_finite():
    Q = torch.zeros(3, 3, **DOUBLE, requires_grad=True)
    symmetric_root(Q).sum().backward()
    assert_close(Q.grad, torch.zeros(3, 3, **DOUBLE))


def test_the_root_maps_over_a_batch():
    Q = torch.stack([with_eigenvalues(1, 2, 3), with_eigenvalues(0, 1, 1)])
    R = torch.func.vmap(symmetric_root)(Q)
    assert_close(R @ R, Q)
