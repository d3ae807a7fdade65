"""Inverses of the small matrices of implicit steps."""

import pytest
import torch
from torch.testing import assert_close

from optlayers.solvers.ode.factor import ELIMINATED_SIZE, eliminated


@pytest.mark.parametrize("size", range(1, ELIMINATED_SIZE + 1))
def test_elimination_finds_the_inverse(size):
    matrix = torch.randn(
        6, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    unit = torch.eye(size, dtype=torch.float64).expand(6, -1, -1)
    # Roundings, times condition numbers of less than a thousand.
    assert_close(eliminated(matrix) @ matrix, unit, rtol=0, atol=1e-12)


def test_elimination_needs_no_nonzero_diagonal():
    matrix = torch.tensor([[[0.0, 2, 0], [0, 0, 4], [1, 0, 0]]], dtype=torch.float64)
    expected = torch.tensor(
        [[[0.0, 0, 1], [0.5, 0, 0], [0, 0.25, 0]]], dtype=torch.float64
    )
    assert torch.equal(eliminated(matrix), expected)


def test_elimination_takes_the_largest_pivot():
    # Without an exchange of rows the inverse of this would have lost all digits.
    matrix = torch.tensor([[[1e-20, 1], [1, 1]]], dtype=torch.float64)
    expected = torch.tensor([[[-1.0, 1], [1, 0]]], dtype=torch.float64)
    assert_close(eliminated(matrix), expected, rtol=0, atol=1e-15)


def test_a_singular_matrix_gives_what_is_not_finite():
    matrix = torch.tensor([[[1.0, 2], [2, 4]]], dtype=torch.float64)
    assert not eliminated(matrix).isfinite().any()
