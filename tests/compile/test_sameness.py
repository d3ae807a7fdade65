"""Expressions that are the same by construction: options with arrays within them."""

import numpy as np
import pytest

import optlayers as ol
from optlayers import Variable, minimize
from optlayers.compile.parametric import same


def picked(first, second):
    """The two sides of an objective, each a variable indexed with arrays."""
    found = []

    @ol.problem
    def pick(x=Variable("3 2")):
        found.extend([x[first], x[second]])
        return minimize(ol.sum_squares(x))

    pick.layer()
    return found[-2:]


@pytest.mark.parametrize("column", [0, slice(None), np.array([1, 0])])
def test_entries_of_the_same_places_are_the_same(column):
    rows = np.array([0, 2])
    assert same(*picked((rows, column), (rows.copy(), column)))


def test_entries_of_other_places_are_others():
    rows = np.array([0, 2])
    assert not same(*picked((rows, 0), (np.array([2, 0]), 0)))
    assert not same(*picked((rows, 0), (rows, 1)))
    assert not same(*picked((rows, rows // 2), (rows, 0)))
