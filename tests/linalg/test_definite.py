import numpy as np
import pytest
import scipy.sparse as sp
import torch

from optlayers.linalg.definite import is_semidefinite, is_symmetric
from optlayers.linalg.pattern import Pattern


def entries_of(matrix):
    found = sp.coo_array(sp.csr_array(matrix))
    rows, cols = (torch.from_numpy(one.astype(np.int64)) for one in found.coords)
    return Pattern(rows, cols, found.shape), found.data


def gram(order, rank):
    factor = sp.random_array((order, rank), density=min(0.5, 3 / order), rng=0)
    return sp.csr_array(factor @ factor.T)


@pytest.mark.parametrize("order", [4, 60, 260, 900])
def test_a_singular_gram_matrix_is_semidefinite_and_less_a_little_it_is_not(order):
    matrix = gram(order, order // 2)
    assert is_semidefinite(*entries_of(matrix))
    assert not is_semidefinite(*entries_of(matrix - 1e-4 * sp.eye_array(order)))


def test_one_entry_that_differs_across_the_diagonal_is_seen():
    matrix = gram(30, 30).tolil()
    matrix[3, 4] = matrix[4, 3] + 1e-3
    assert not is_symmetric(*entries_of(matrix))
    assert not is_semidefinite(*entries_of(matrix))


def test_numbers_that_are_not_finite_are_not_semidefinite():
    pattern, values = entries_of(sp.eye_array(3))
    assert not is_semidefinite(pattern, values * np.nan)


def test_a_symmetric_matrix_that_is_not_dominant_may_be_indefinite():
    assert not is_semidefinite(*entries_of(np.array([[1.0, 2.0], [2.0, 1.0]])))
    assert is_semidefinite(*entries_of(np.array([[1.0, 1.0], [1.0, 1.0]])))
