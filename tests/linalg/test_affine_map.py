import copy
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck
from torch.testing import assert_close

from optlayers.errors import ShapeError
from optlayers.linalg.affine_map import (
    DENSE_ENTRIES,
    AffineMap,
    DenseMap,
    GatherMap,
    ScatterMap,
)


def random_sparse(rows, columns, density=0.4, seed=0):
    generator = np.random.default_rng(seed)
    return sp.random(rows, columns, density, random_state=generator, format="csc")


def form_of(matrix):
    with_constant = sp.hstack([matrix, sp.csc_matrix((matrix.shape[0], 1))])
    ((_, term),) = AffineMap.from_sparse(with_constant, [matrix.shape[1]]).terms
    return term


def one_entry_a_row(rows, columns, coefficient):
    places = (np.arange(rows), np.arange(rows) % columns)
    return sp.csc_matrix((np.full(rows, coefficient), places), (rows, columns))


@given(
    rows=st.integers(0, 6),
    sizes=st.lists(st.integers(0, 4), max_size=4),
    density=st.floats(0, 1),
    seed=st.integers(0, 100),
)
def test_values_are_those_of_the_sparse_matrix(rows, sizes, density, seed):
    matrix = random_sparse(rows, sum(sizes) + 1, density, seed)
    leaves = [torch.randn(size).double() for size in sizes]
    values = AffineMap.from_sparse(matrix, sizes)(leaves)
    expected = matrix @ np.concatenate([*leaves, np.ones(1)])
    np.testing.assert_allclose(values.numpy(), expected, rtol=1e-13, atol=1e-13)


@given(rows=st.integers(1, 5), batch=st.integers(0, 3), mask=st.integers(0, 7))
def test_batched_leaves_give_one_row_a_sample(rows, batch, mask):
    sizes = [2, 3, 1]
    matrix = random_sparse(rows, 7, 0.7, seed=mask)
    affine = AffineMap.from_sparse(matrix, sizes)
    leaves = [
        torch.randn(*([batch] if mask >> k & 1 else []), size).double()
        for k, size in enumerate(sizes)
    ]
    values = affine(leaves)
    if not any(leaves[k].ndim == 2 for k, _ in affine.terms):
        assert values.shape == (rows,)
    expanded = [leaf.expand(batch, leaf.shape[-1]) for leaf in leaves]
    stacked = np.concatenate([*expanded, np.ones((batch, 1))], 1)
    expected = torch.from_numpy(stacked @ matrix.toarray().T)
    assert_close(values.expand(batch, rows), expected)


def test_it_depends_on_the_leaves_with_an_entry_only():
    matrix = sp.csc_matrix(np.array([[0.0, 0.0, 3.0, 0.0, 1.0]]))
    affine = AffineMap.from_sparse(matrix, [2, 1, 1])
    assert [leaf for leaf, _ in affine.terms] == [1]
    others = torch.full((2,), torch.nan).double()
    values = affine([others, torch.ones(1).double(), others[:1]])
    assert_close(values, torch.tensor([4.0]).double())


def test_a_map_of_nothing_is_its_constant():
    affine = AffineMap.from_sparse(sp.csc_matrix(np.array([[2.0], [0.0]])), [])
    assert affine.terms == ()
    assert torch.equal(affine([]), torch.tensor([2.0, 0.0]).double())


def test_each_matrix_takes_the_form_that_is_fastest_for_it():
    plain = form_of(one_entry_a_row(6, 3, 1.0))
    assert isinstance(plain, GatherMap)
    assert plain.coefficients is None
    scaled = form_of(one_entry_a_row(6, 3, -2.0))
    assert isinstance(scaled, GatherMap)
    assert scaled.coefficients is not None
    assert isinstance(form_of(random_sparse(5, 5, 1.0)), DenseMap)
    rows = DENSE_ENTRIES // 10
    assert isinstance(form_of(random_sparse(rows, 11, 0.5)), ScatterMap)


@pytest.mark.parametrize(
    "matrix",
    [
        one_entry_a_row(6, 3, 1.0),
        one_entry_a_row(6, 3, -2.0),
        random_sparse(6, 3, 0.9),
    ],
    ids=["gather", "scaled gather", "dense"],
)
@pytest.mark.parametrize("shape", [(3,), (2, 3)])
def test_every_form_is_differentiable_in_both_modes(matrix, shape):
    leaf = torch.randn(shape).double().requires_grad_()
    form = form_of(matrix)
    assert gradcheck(form, leaf, check_forward_ad=True, check_batched_grad=True)


def test_large_sparse_form_agrees_with_the_matrix_under_every_transform():
    matrix = random_sparse(DENSE_ENTRIES // 10, 11, 0.3)
    form, dense = form_of(matrix), torch.from_numpy(matrix.toarray())
    leaf = torch.randn(3, 11).double()
    assert_close(form(leaf), leaf @ dense.mT)
    assert_close(torch.vmap(form)(leaf), leaf @ dense.mT)
    assert_close(torch.func.jacrev(form)(leaf[0]), dense)
    assert_close(torch.func.jacfwd(form)(leaf[0]), dense)


def test_maps_compile_without_a_graph_break():
    affine = AffineMap.from_sparse(random_sparse(5, 8), [3, 4])
    leaves = [torch.randn(2, 3).double(), torch.randn(4).double()]
    compiled = torch.compile(affine.__call__, fullgraph=True, backend="eager")
    assert_close(compiled(leaves), affine(leaves))


def test_copies_and_pickles_give_the_same_values():
    affine = AffineMap.from_sparse(random_sparse(5, 8), [3, 4])
    leaves = [torch.randn(3).double(), torch.randn(4).double()]
    for twin in (copy.deepcopy(affine), pickle.loads(pickle.dumps(affine))):
        assert torch.equal(twin(leaves), affine(leaves))


def test_columns_that_do_not_fit_the_leaves_are_counted():
    with pytest.raises(ShapeError, match=r"4 columns for leaves of sizes \[2, 2\]"):
        AffineMap.from_sparse(random_sparse(2, 4), [2, 2])
