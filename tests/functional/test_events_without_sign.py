"""Events whose functions are zero or NaN where no sign can tell of a crossing."""

import pytest
import torch
from torch.testing import assert_close

import optlayers as ol
from optlayers import Parameter, State, Time, integrate
from optlayers.errors import SolveError
from optlayers.functional import integrate as follow
from optlayers.programs.initial_value import Event
from optlayers.solution import Status

D = torch.float64
TIMES = torch.tensor([0.0, 2.0], dtype=D)


def sink(time, state):
    return -torch.ones_like(state)


def root_of(level):
    """NaN once the state has fallen below the level, never negative."""
    return Event(lambda t, x: torch.sqrt(x[:, 0] - level))


@pytest.mark.parametrize("dense", [False, True])
def test_a_sample_ends_where_the_function_becomes_nan_and_the_others_go_on(dense):
    start = torch.tensor([[1.0], [5.0]], dtype=D, requires_grad=True)
    out = follow(sink, start, TIMES, events=root_of(0.0), on_failure="nan", dense=dense)
    assert out.status.tolist() == [Status.NOT_FINITE, Status.SOLVED]
    assert out.events[0].lost.tolist() == [True, False]
    assert_close(out.value[1, -1], torch.tensor([3.0], dtype=D))
    (gradient,) = torch.autograd.grad(out.value[1, -1, 0], start)
    assert gradient.tolist() == [[0.0], [1.0]]


def test_the_message_names_the_event_by_its_number():
    start = torch.ones(1, 1, dtype=D)
    with pytest.raises(SolveError, match=r"where the function of events\[0\] is NaN"):
        follow(sink, start, TIMES, events=root_of(0.0))


def test_the_message_names_a_declared_event_by_its_name():
    @ol.problem
    def falling(x=State(), x0=Parameter(), t=Time()):
        return integrate(ol.der(x) == -1, x.first == x0, impact=ol.event(torch.sqrt(x)))

    with pytest.raises(SolveError, match="where the function of impact is NaN"):
        falling(x0=torch.tensor(1.0, dtype=D), t=TIMES)


def test_a_function_that_is_nan_at_the_start_ends_the_sample_there():
    start = torch.tensor([[1.0], [6.0]], dtype=D)
    out = follow(sink, start, TIMES, events=root_of(3.0), on_failure="keep")
    assert out.status.tolist() == [Status.NOT_FINITE, Status.SOLVED]
    assert out.stats["time"][0] == 0.0
    assert out.stats["time"][1] == 2.0


def test_what_lies_behind_an_earlier_event_is_not_looked_at():
    ground = Event(lambda t, x: x[:, 0])
    start = torch.ones(1, 1, dtype=D)
    out = follow(sink, start, TIMES, events=[root_of(-0.1), ground])
    assert out.ok.all()
    assert_close(out.events[1].times, torch.ones(1, 1, dtype=D))


def test_a_function_that_is_zero_at_the_start_fires_where_it_is_crossed_again():
    def swinging(time, state):
        return torch.stack([state[:, 1], -state[:, 0]], 1)

    start = torch.tensor([[0.0, 1.0]], dtype=D)
    place = Event(lambda t, x: x[:, 0], terminal=False)
    times = torch.tensor([0.0, 4.0], dtype=D)
    out = follow(swinging, start, times, events=place, rtol=1e-9)
    # x = sin t: zero at 0, where nothing is crossed, and at pi.
    found = out.events[0].times
    assert_close(found, torch.full((1, 1), torch.pi, dtype=D), rtol=0, atol=1e-7)
