"""What a layer of a differential equation takes as times and options, and what not."""

import pytest
import torch
from torch import nn

import optlayers as ol
from optlayers import Parameter, State, Time, integrate
from optlayers.errors import InvalidDataError, ParameterError, UnknownName

D = torch.float64
ONE = torch.ones((), dtype=D)


@ol.problem
def decay(x=State(), x0=Parameter(), rate=Parameter(), t=Time()):
    return integrate(ol.der(x) == -rate * x, x.first == x0)


def test_integer_times_are_numbers():
    found = decay(x0=ONE, rate=ONE, t=torch.tensor([0, 1, 2])).x
    assert torch.equal(found, decay(x0=ONE, rate=ONE, t=[0, 1, 2]).x)
    assert found.dtype == D


def test_rtol_is_answered_with_tolerance():
    with pytest.raises(UnknownName, match=r"write tolerance=..., or solver=ol.*rtol="):
        decay(x0=ONE, rate=ONE, t=[0, 1], rtol=1e-3)


def test_a_tolerance_that_is_no_number_is_refused():
    with pytest.raises(ParameterError, match="tolerance='1e-3': give a number"):
        decay(x0=ONE, rate=ONE, t=[0, 1], tolerance="1e-3")


def test_a_parameter_that_is_nan_is_to_be_looked_for_in_parameters():
    with pytest.raises(InvalidDataError, match="rate is nan") as caught:
        decay(x0=ONE, rate=ONE * torch.nan, t=[0, 1])
    assert "the parameters" in str(caught.value)


def test_a_network_of_another_dtype_is_named():
    net = nn.Linear(1, 1)

    @ol.problem
    def learned(x=State(1), x0=Parameter(1), t=Time()):
        return integrate(ol.der(x) == net(x), x.first == x0)

    with pytest.raises(ParameterError, match=r"net\.weight is torch\.float32 and"):
        learned(x0=torch.ones(1, dtype=D), t=[0, 1])
    with pytest.raises(ParameterError, match=r"NeuralODE: field\.weight is torch"):
        ol.NeuralODE(net)(torch.ones(1, dtype=D), torch.tensor([0.0, 1.0], dtype=D))


def test_other_errors_of_a_network_stay_as_they_are():
    class Failing(nn.Linear):
        def forward(self, state):
            raise RuntimeError("out of order")

    field = Failing(1, 1).to(D)
    with pytest.raises(RuntimeError, match="out of order"):
        ol.NeuralODE(field)(torch.ones(1, dtype=D), torch.tensor([0.0, 1.0], dtype=D))
