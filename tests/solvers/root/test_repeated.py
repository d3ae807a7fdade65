import math

import pytest
import torch

import optlayers as ol
from optlayers import Parameter, Variable, solve
from optlayers.errors import SolveError
from optlayers.functional import fixed_point
from optlayers.solvers.root.repeated import differing

DOUBLE = {"dtype": torch.float64}


def test_two_roundings_of_one_function_say_nothing():
    assert differing(1e-3, 1.00001e-3, 1e-10) == ""
    assert differing(3e-11, 1e-16, 1e-10) == ""
    assert differing(math.nan, 1.0, 1e-10) == differing(1.0, math.inf, 1e-10) == ""


def test_a_second_measurement_of_another_size_is_given():
    assert "at the same point gave 3.0e-16" in differing(0.1, 3e-16, 1e-10)


@pytest.fixture
def dropping():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(8, 8, **DOUBLE), torch.nn.Dropout(0.5))
    with torch.no_grad():
        net[0].weight.mul_(0.1)
    return net


def test_dropout_in_training_is_named_by_layers(dropping):
    @ol.problem
    def random(z=Variable(8), u=Parameter(8)):
        return solve(z == dropping(z) + u)

    with pytest.raises(SolveError, match=r"second evaluation.*random \(dropout"):
        random(torch.ones(2, 8, **DOUBLE))
    assert random.layer().eval()(torch.ones(2, 8, **DOUBLE)).ok.all()


def test_dropout_in_training_is_named_by_functions(dropping):
    with pytest.raises(SolveError, match=r"second evaluation.*random \(dropout"):
        fixed_point(lambda z: dropping(z) + 1, torch.zeros(2, 8, **DOUBLE))
