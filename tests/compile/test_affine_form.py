"""Affine maps read off directly: entries stand where torch puts them."""

import pytest
import torch

import optlayers as ol
from optlayers import Parameter, Variable, minimize


@pytest.mark.parametrize(
    "move",
    [
        lambda X: ol.vec(X, order="F"),
        lambda X: ol.vec(X, order="C"),
        lambda X: ol.reshape(X, (3, 2), order="F"),
        lambda X: ol.transpose(X),
        lambda X: ol.transpose(ol.reshape(X, (1, 2, 3), order="C"), axes=(1, 2, 0)),
    ],
)
def test_rearranged_variables_meet_their_own_entries(move):
    @ol.problem
    def nearest(X=Variable("2 3"), Y=Parameter("2 3")):
        return minimize(ol.sum_squares(move(X) - move(Y)))

    Y = torch.arange(6.0).reshape(2, 3)
    torch.testing.assert_close(nearest(Y=Y).X, Y)
