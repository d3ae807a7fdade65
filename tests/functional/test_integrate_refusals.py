"""What `functional.integrate` says of arguments that are not what they should be."""

import pytest
import torch

import optlayers as ol
from optlayers.errors import ParameterError, SolveError
from optlayers.functional import integrate
from optlayers.programs.initial_value import Event

D = torch.float64
START = torch.ones(2, 1, dtype=D)
TIMES = torch.tensor([0.0, 1.0], dtype=D)


def decay(time, state):
    return -state


@pytest.mark.parametrize(
    ("field", "said"),
    [
        (lambda t, x: (-x,), "returns tuple; it must return a tensor of rates"),
        (lambda t, x: None, "returns NoneType"),
        (lambda t, x: -x.float(), r"state of torch.float64 to rates of torch.float32"),
    ],
)
def test_a_field_that_returns_something_else_is_told_what_it_must_return(field, said):
    with pytest.raises(ParameterError, match=said):
        integrate(field, START, TIMES)


@pytest.mark.parametrize("wrap", [lambda one: one, lambda one: [one]])
def test_a_bare_function_is_no_event(wrap):
    with pytest.raises(ParameterError, match=r"give Event\(function\)"):
        integrate(decay, START, TIMES, events=wrap(lambda t, x: x[:, 0]))


def test_an_event_without_a_value_is_named():
    with pytest.raises(ParameterError, match="function of an event returns NoneType"):
        integrate(decay, START, TIMES, events=Event(lambda t, x: None))


@pytest.mark.parametrize("rtol", ["1e-3", -1, 2])
def test_a_tolerance_that_is_none_is_called_as_it_was_given(rtol):
    with pytest.raises(ParameterError, match=f"rtol={rtol!r}: give a number between"):
        integrate(decay, START, TIMES, rtol=rtol)


def test_options_of_solvers_are_numbers_and_fit_each_other():
    with pytest.raises(ParameterError, match="atol='1e-3'"):
        integrate(decay, START, TIMES, atol="1e-3")
    with pytest.raises(ParameterError, match="every step would be too short"):
        ol.solvers.ode.Tsit5(min_step=1.0, max_step=0.1)


def test_times_that_are_one_number_in_float32_are_told_so():
    times = torch.tensor([0.0, 1e8, 1e8 + 1], dtype=D)
    with pytest.raises(SolveError, match=r"times 1 and 2 are the same number in torch"):
        integrate(decay, START.float(), times)


def test_bounces_without_end_are_told_to_accumulate():
    floor = Event(
        lambda t, x: x[:, 0],
        direction=-1,
        jump=lambda t, x: x * torch.tensor([1.0, -0.5], dtype=D),
    )

    def falling(time, state):
        return torch.stack([state[:, 1], torch.full_like(state[:, 1], -9.81)], 1)

    start = torch.tensor([[1.0, 0.0]], dtype=D)
    with pytest.raises(SolveError, match="events that follow one another ever faster"):
        integrate(falling, start, torch.tensor([0.0, 5.0], dtype=D), events=floor)
