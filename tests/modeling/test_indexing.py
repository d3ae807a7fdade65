"""Indices of plain expressions have the shapes and values of numpy's and torch's."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from optlayers.errors import DeclarationError, ShapeError
from optlayers.modeling.field_kinds import Parameter, Variable
from optlayers.modeling.verbs import minimize
from tests.modeling.traced import built, value_of

SHAPE = (4, 3)
ENTRIES = st.one_of(
    st.integers(-4, 3),
    st.slices(4).filter(lambda one: one.step is None or one.step > 0),
    st.just(Ellipsis),
    st.none(),
    st.lists(st.integers(-3, 2), min_size=1, max_size=4),
)


def indexed(index):
    def body(x=Variable(SHAPE), p=Parameter(SHAPE)):
        return minimize(x.sum()), p[index]

    return built(body)


@given(index=st.one_of(ENTRIES, st.tuples(ENTRIES, ENTRIES)))
def test_indices_mean_what_they_mean_to_torch(index):
    p = torch.arange(12.0).reshape(SHAPE)
    try:
        expected = p[index]
    except IndexError:
        with pytest.raises(ShapeError, match="index"):
            indexed(index)
        return
    found = indexed(index)
    assert found.shape == tuple(expected.shape)
    assert_close(value_of(found, p=p), expected)


@pytest.mark.parametrize(
    "index",
    [
        np.array([True, False, True, True]),
        torch.tensor([True, False, True, True]),
        np.arange(12).reshape(SHAPE) > 4,
        np.int64(2),
        torch.tensor([0, 2]),
        torch.tensor(1),
        range(2),
        (),
        [],
    ],
    ids=str,
)
def test_masks_and_integer_arrays_index_too(index):
    p = torch.arange(12.0).reshape(SHAPE)
    key = torch.as_tensor(index) if isinstance(index, np.ndarray) else index
    key = list(key) if isinstance(key, range) else key
    assert_close(value_of(indexed(index), p=p), p[key])


def test_an_index_outside_the_shape_names_shape_and_index():
    with pytest.raises(ShapeError, match=r"index \[4\] does not fit shape \[4, 3\]"):
        indexed(4)
    with pytest.raises(ShapeError, match=r"index \[0, 0, 0\] does not fit"):
        indexed((0, 0, 0))


@pytest.mark.parametrize("index", [1.5, "a", True, slice(0.5, None), [0.5]])
def test_what_is_no_index_is_refused(index):
    with pytest.raises(DeclarationError, match=r"ind(ex|ices)|integers"):
        indexed(index)


def test_iterating_and_unpacking_read_rows():
    def body(x=Variable("3 2")):
        first, *_ = x
        return minimize(x.sum()), (first.shape, len(x), [len(row) for row in x])

    assert built(body) == ((2,), 3, [2, 2, 2])


def test_a_scalar_has_no_length():
    def body(x=Variable()):
        return minimize(x), len(x)

    with pytest.raises(DeclarationError, match="x is a scalar"):
        built(body)
