"""Events at the level of solvers: how they are seen, found and logged."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from optlayers.programs.initial_value import Event, InitialValueProgram
from optlayers.solvers.ode import RK4, Dopri5, Dopri8, FixedStep, Tsit5


def crossings(time: Tensor, state: Tensor) -> Tensor:
    """Zero where sin t is."""
    return state[:, 0]


def oscillation(event: Event, batch: int = 1, end: float = 10.0, **changes):
    """x = sin t, x' = cos t."""
    start = torch.tensor([[0.0, 1.0]] * batch, dtype=torch.float64)
    times = torch.tensor([[0.0, end]] * batch, dtype=torch.float64)

    def field(time, state):
        return torch.stack((state[:, 1], -state[:, 0]), 1)

    return InitialValueProgram(field, start, times, events=(event,), **changes)


def test_every_kind_of_dense_output_finds_the_same_times():
    event = Event(crossings, terminal=False)
    exact = torch.pi * torch.arange(1, 4, dtype=torch.float64)
    for solver, slack in (
        (Dopri5(rtol=1e-10), 1e-8),
        (Tsit5(rtol=1e-10), 1e-8),
        (Dopri8(rtol=1e-10), 1e-8),
        # Order 4 with a cubic between steps of 1/20.
        (RK4(control=FixedStep(size=0.05)), 1e-5),
    ):
        found = solver.solve(oscillation(event)).events[0].times[0]
        # The start is a zero, too, but nothing crosses there.
        assert_close(found, exact, rtol=0, atol=slack)


def test_an_event_is_evaluated_once_a_step():
    calls = []

    def function(time, state):
        calls.append(time)
        return state[:, 0] + 5

    solved = Dopri5().solve(oscillation(Event(function)))
    # Once more at the beginning.
    assert len(calls) == int(solved.stats["steps"]) + 1


def test_samples_without_an_event_take_the_same_steps_as_without_any():
    level = torch.tensor([0.5, 9.0], dtype=torch.float64)
    event = Event(lambda time, state: state[:, 0] - level, direction=1)
    with_events = Dopri5().solve(oscillation(event, batch=2))
    never = Event(lambda time, state: state[:, 0] + 9)
    without = Dopri5().solve(oscillation(never, batch=2))
    assert torch.equal(with_events.value[1], without.value[1])
    assert with_events.stats["steps"][1] == without.stats["steps"][1]
    assert with_events.stats["steps"][0] < without.stats["steps"][0]


def test_a_saw_tooth_fires_again_and_again():
    event = Event(
        lambda time, state: state[:, 0] - 1, terminal=False,
        jump=lambda time, state: torch.zeros_like(state),
    )  # fmt: skip
    program = InitialValueProgram(
        lambda time, state: torch.ones_like(state),
        torch.zeros(1, 1, dtype=torch.float64),
        torch.tensor([[0.0, 4.5]], dtype=torch.float64), events=(event,),
    )  # fmt: skip
    solved = Dopri5().solve(program)
    exact = torch.arange(1.0, 5.0, dtype=torch.float64)
    assert_close(solved.events[0].times[0], exact, rtol=0, atol=1e-12)
    assert_close(solved.value[0, -1, 0], exact[0] / 2, rtol=0, atol=1e-12)


def test_an_event_that_is_zero_at_the_start_and_stays_there_never_fires():
    event = Event(lambda time, state: 0 * state[:, 0])
    solved = Dopri5().solve(oscillation(event))
    assert solved.events[0].times.shape == (1, 0)
    assert solved.stats["time"] == 10


def test_a_function_that_becomes_nan_does_not_fire():
    event = Event(lambda time, state: torch.where(time > 3, torch.nan, 5 - time))
    solved = Dopri5().solve(oscillation(event))
    assert solved.events[0].times.shape == (1, 0)


def test_a_jump_of_the_field_after_an_event_is_seen_from_its_right_side():
    # x' = -1 until x = 0.5, +1 from then on: the mode is a state of its own.
    event = Event(
        lambda time, state: state[:, 0] - 0.5, terminal=False, direction=-1,
        jump=lambda time, state: torch.stack((state[:, 0], -state[:, 1]), 1),
    )  # fmt: skip
    program = InitialValueProgram(
        lambda time, state: torch.stack((state[:, 1], 0 * state[:, 1]), 1),
        torch.tensor([[1.0, -1.0]], dtype=torch.float64),
        torch.tensor([[0.0, 2.0]], dtype=torch.float64), events=(event,),
    )  # fmt: skip
    solved = Dopri5().solve(program)
    expected = torch.tensor([2.0, 1.0], dtype=torch.float64)
    assert_close(solved.value[0, -1], expected, rtol=0, atol=1e-12)


def test_events_and_stops_may_meet():
    # u jumps at 1, exactly where x = 1 is met with slope one.
    event = Event(lambda time, state: state[:, 0] - 1, terminal=False)

    def field(time, state):
        return torch.where(time < 1, 1.0, 3.0).to(state)[:, None].expand_as(state)

    program = InitialValueProgram(
        field, torch.zeros(1, 1, dtype=torch.float64),
        torch.tensor([[0.0, 2.0]], dtype=torch.float64), events=(event,),
        stops=torch.tensor([[1.0]], dtype=torch.float64),
    )  # fmt: skip
    solved = Dopri5().solve(program)
    assert_close(solved.events[0].times, torch.ones(1, 1).double(), rtol=0, atol=1e-12)
    assert_close(solved.value[0, -1], torch.tensor([4.0]).double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("inside", [False, True])
def test_events_are_found_in_inference_mode(inside):
    # Whatever the function closes over was made in inference mode, or not.
    with torch.inference_mode(inside):
        one = torch.ones(1, dtype=torch.float64)
    event = Event(
        lambda time, state: one * state[:, 0], terminal=False, direction=-1,
        jump=lambda time, state: -state,
    )  # fmt: skip
    with torch.inference_mode():
        solved = Dopri5(rtol=1e-10).solve(oscillation(event))
    # Each jump starts the same half of the wave anew.
    exact = torch.pi * torch.arange(1, 4, dtype=torch.float64)
    assert_close(solved.events[0].times[0], exact, rtol=0, atol=1e-8)


def test_a_function_that_autograd_cannot_see_through_fires_again_after_jumps():
    event = Event(
        lambda time, state: state.detach()[:, 0], terminal=False, direction=-1,
        jump=lambda time, state: -state,
    )  # fmt: skip
    solved = Dopri5(rtol=1e-10).solve(oscillation(event))
    assert solved.events[0].times.shape == (1, 3)
