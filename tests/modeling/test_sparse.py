import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch.testing import assert_close

import optlayers as ol
from optlayers.errors import DeclarationError
from optlayers.modeling.dimensions import parse_dimensions
from optlayers.modeling.sparse import read_pattern, sparse_constant

DENSE = np.array([[0.0, 2.0, 0.0], [1.0, 0.0, -3.0]])
FORMATS = ["csr", "csc", "coo", "dia", "lil", "dok", "bsr"]


@pytest.mark.parametrize("layout", FORMATS)
def test_every_format_of_scipy_is_read_row_by_row(layout):
    pattern, values = sparse_constant(sp.csr_array(DENSE).asformat(layout))
    assert_close(pattern.scatter(values).numpy(), DENSE)
    assert_close(pattern.places, pattern.places.sort().values)


@pytest.mark.filterwarnings("ignore:Sparse .* tensor support is in beta")
def test_torch_layouts_are_read_too():
    tensor = torch.from_numpy(DENSE)
    for value in (tensor.to_sparse(), tensor.to_sparse_csr(), tensor.to_sparse_csc()):
        pattern, values = sparse_constant(value)
        assert_close(pattern.scatter(values), tensor)


def test_repeated_entries_add_up_and_integers_become_numbers():
    places = (np.array([0, 0]), np.array([1, 1]))
    pattern, values = sparse_constant(sp.coo_array((np.array([1, 2]), places), (2, 2)))
    assert_close(values, torch.tensor([3.0], dtype=torch.float64))
    assert pattern.size == 1


def test_a_sparse_vector_is_held_whole():
    vector = sparse_constant(sp.coo_array(np.array([1.0, 0.0, 2.0])))
    assert_close(vector, torch.tensor([1.0, 0.0, 2.0], dtype=torch.float64))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (sp.csr_array(DENSE * 1j), "complex"),
        (sp.csr_array(DENSE * np.nan), "NaN"),
        (sp.coo_array((2, 2, 2)), "more than two axes"),
    ],
)
def test_what_is_no_constant_says_so(value, said):
    with pytest.raises(DeclarationError, match=said):
        sparse_constant(value)


@pytest.mark.parametrize("make", [sp.csr_array, sp.csc_matrix, sp.coo_array])
def test_operators_of_scipy_give_way_to_expressions(make):
    S, shape = make(DENSE), {}

    @ol.problem
    def body(x=ol.Variable("3"), y=ol.Variable("2"), X=ol.Variable("2 3")):
        shape["S @ x"] = (S @ x).shape
        shape["y @ S"] = (y @ S).shape
        shape["S + X"] = (S + X).shape
        shape["X - S"] = (X - S).shape
        return ol.minimize(ol.sum(x), S <= X, X >= S, S == X)

    assert shape == {"S @ x": (2,), "y @ S": (3,), "S + X": (2, 3), "X - S": (2, 3)}
    assert len(body.declared.trace().constraints) == 3


def test_the_star_of_a_scipy_matrix_is_refused_as_it_means_a_product_there():
    with pytest.raises(DeclarationError, match="Write S @ x"):

        @ol.problem
        def body(x=ol.Variable("3")):
            return ol.minimize(ol.sum(sp.csr_matrix(DENSE) * x))


@pytest.mark.parametrize(
    "value",
    [
        sp.csr_array(DENSE),
        DENSE != 0,
        torch.from_numpy(DENSE) != 0,
        ([0, 1, 1], [1, 2, 0]),
        torch.from_numpy(DENSE).to_sparse(),
    ],
)
def test_patterns_are_sorted_row_by_row(value):
    pattern = read_pattern(value, parse_dimensions("m n"))
    assert pattern.rows.tolist() == [0, 1, 1]
    assert pattern.cols.tolist() == [1, 0, 2]


@pytest.mark.parametrize("value", [DENSE, "S", ([0.5], [1]), np.zeros((2, 2), bool)])
def test_what_is_no_pattern_says_so(value):
    with pytest.raises(DeclarationError, match="pattern"):
        ol.Parameter("m n", pattern=value)


def test_a_pattern_must_fit_its_dimensions():
    with pytest.raises(DeclarationError, match="does not fit"):
        ol.Parameter("n n", pattern=DENSE != 0)
    with pytest.raises(DeclarationError, match="two axes"):
        ol.Parameter("n", pattern=DENSE != 0)
    with pytest.raises(DeclarationError, match="not symmetric"):
        ol.Parameter("2 2", symmetric=True, pattern=([0], [1]))
