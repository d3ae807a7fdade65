"""What a layer of a differential equation takes as times and options, and what not."""

import pytest
import torch
from torch import nn

import optlayers as ol
from optlayers import Control, Parameter, State, Time, Variable, integrate, solve
from optlayers.errors import (
    InvalidDataError,
    ParameterError,
    ShapeError,
    SolveError,
    UnknownName,
)
from optlayers.solution import Status

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


def test_no_times_are_refused():
    with pytest.raises(ShapeError, match=r"decay: t \[0\] has no times"):
        decay(x0=ONE, rate=ONE, t=torch.zeros(0, dtype=D))


def test_equal_times_that_require_a_gradient_are_told_without_warning():
    times = torch.tensor([0.0, 1.0, 1.0], dtype=D, requires_grad=True)
    with pytest.raises(SolveError, match="times 1 and 2 are the same number"):
        decay(x0=ONE, rate=ONE, t=times)


def test_a_control_without_an_axis_of_time_is_told_so():
    @ol.problem
    def cart(x=State(), u=Control(), t=Time()):
        return integrate(ol.der(x) == u, x.first == 0)

    with pytest.raises(ShapeError, match=r"u \[\] has no axis of values for 3 save t"):
        cart(u=ONE, t=[0, 1, 2])


def test_a_parameter_out_of_its_range_is_no_matter_of_times():
    @ol.problem
    def growth(x=State(), rate=Parameter(nonneg=True), t=Time()):
        return integrate(ol.der(x) == rate, x.first == 0)

    with pytest.raises(InvalidDataError, match="rate is -1") as caught:
        growth(rate=-ONE, t=[0, 1])
    assert "Map the parameter into its range" in str(caught.value)
    assert "times" not in str(caught.value)


@pytest.mark.parametrize("signal", [ol.hold, ol.interpolate])
def test_knots_that_decrease_are_the_fault_of_their_sample(signal):
    @ol.problem
    def driven(x=State(), v=Parameter("k"), knots=Parameter("k"), t=Time()):
        return integrate(ol.der(x) == signal(v, knots, t) - x, x.first == 0)

    v = torch.tensor([1.0, -1.0, 2.0], dtype=D)
    right, wrong = [0.1, 0.3, 0.8], [0.8, 0.3, 0.1]
    knots = torch.tensor([right, wrong], dtype=D, requires_grad=True)
    with pytest.raises(
        InvalidDataError, match=r"knots\[1\] is 0.3 after 0.8, knots of"
    ):
        driven(v=v, knots=knots, t=[0, 1])
    found = driven(v=v, knots=knots, t=[0, 1], on_failure="nan")
    alone = driven(v=v, knots=knots[0], t=[0, 1])
    assert found.status.tolist() == [Status.SOLVED, Status.INVALID_DATA]
    assert torch.equal(found.x[0], alone.x) and found.x[1].isnan().all()
    together, apart = (
        torch.autograd.grad(one, knots)[0] for one in (found.x[0, 1], alone.x[1])
    )
    assert torch.allclose(together, apart) and not together[1].any()


def test_knots_that_coincide_or_are_computed_are_taken_if_in_order():
    @ol.problem
    def driven(x=State(), lag=Parameter(), t=Time()):
        knots = torch.tensor([0.0, 0.5, 0.5], dtype=D) + lag * torch.tensor([0, 0, 1])
        return integrate(ol.der(x) == ol.hold([1.0, 5.0, 3.0], knots, t), x.first == 0)

    assert torch.allclose(driven(lag=0 * ONE, t=[0, 1]).x[1], 2 * ONE)
    with pytest.raises(InvalidDataError, match=r"knots of ol\.hold must not decrease"):
        driven(lag=-ONE, t=[0, 1])


def test_knots_of_other_kinds_of_problems_are_looked_at_too():
    @ol.problem
    def root(z=Variable(), v=Parameter("k"), knots=Parameter("k")):
        return solve(z + ol.interpolate(v, knots, z) == 0)

    with pytest.raises(InvalidDataError, match=r"knots\[1\] is 0 after 1"):
        root(v=[1.0, 2.0], knots=[1.0, 0.0])
