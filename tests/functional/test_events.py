"""Events of integrations: when they are met, what they change, their slopes."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from optlayers.errors import ParameterError, ShapeError, SingularError, SolveError
from optlayers.functional import Event, Status, integrate

# A falling ball is a parabola, which every step of order 5 follows exactly: what is
# left is rounding, of times of about one second over some tens of steps.
EXACT = {"rtol": 0.0, "atol": 1e-11}
# Smooth problems at rtol 1e-10: dense output is one order behind the steps.
TIGHT = {"rtol": 0.0, "atol": 1e-8}


def double(*numbers: float, grad: bool = False) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64, requires_grad=grad)


def falling(gravity: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    def field(time, state):
        return torch.stack((state[:, 1], -gravity.expand_as(time)), 1)

    return field


def bounce(restitution: Tensor) -> Event:
    def jump(time, state):
        return torch.stack((0 * state[:, 0], -restitution * state[:, 1]), 1)

    return Event(
        lambda time, state: state[:, 0], terminal=False, direction=-1, jump=jump
    )


def drop(height: Tensor, gravity: Tensor, restitution: Tensor, end: float, **options):
    """Balls dropped from heights [B], seen at five times."""
    start = torch.stack((height, torch.zeros_like(height)), 1)
    times = torch.linspace(0, end, 5, dtype=torch.float64)
    return integrate(
        falling(gravity), start, times, events=bounce(restitution), solver="dopri5",
        **options,
    )  # fmt: skip


def impacts(height: Tensor, gravity: Tensor, restitution: Tensor, count: int) -> Tensor:
    """t_1 = sqrt(2 h / g), t_(k+1) = t_k + 2 e^k sqrt(2 h / g)."""
    first = (2 * height / gravity).sqrt()
    powers = restitution ** torch.arange(1, count, dtype=torch.float64)
    return torch.cat((first[None], first + 2 * first * powers.cumsum(0)))


def decay(time: Tensor, state: Tensor) -> Tensor:
    return -state


def below(level: float | Tensor, **options) -> Event:
    return Event(lambda time, state: state[:, 0] - level, **options)


def test_impact_times_of_a_bouncing_ball_are_those_of_the_closed_form():
    gravity, restitution = double(9.81)[0], double(0.7)[0]
    height = double(1.0, 4.0, 30.0)
    log = drop(height, gravity, restitution, 2.2).events[0]
    assert log.times.shape == (3, 5)
    assert log.times.isfinite().sum(1).tolist() == [5, 2, 0]
    for row, count in enumerate((5, 2)):
        exact = impacts(height[row], gravity, restitution, count)
        assert_close(log.times[row, :count], exact, **EXACT)


def test_states_of_events_are_those_before_the_jump():
    height, gravity = double(1.0), double(9.81)[0]
    log = drop(height, gravity, double(0.5)[0], 1.0).events[0]
    speed = -(2 * gravity * height).sqrt()
    assert_close(log.states[0, 0], torch.stack((0 * speed[0], speed[0])), **EXACT)


def test_derivatives_of_impact_times_agree_with_the_closed_form():
    numbers = double(1.0, 9.81, 0.7, grad=True)
    height, gravity, restitution = numbers
    found = drop(height[None], gravity, restitution, 2.2).events[0].times[0]
    exact = impacts(height, gravity, restitution, 5)
    for one, other in zip(found, exact, strict=True):
        pair = [
            torch.autograd.grad(time, numbers, create_graph=True)[0]
            for time in (one, other)
        ]
        assert_close(*pair, **EXACT)
        seconds = [
            torch.autograd.grad(first.sum(), numbers, retain_graph=True)[0]
            for first in pair
        ]
        assert_close(*seconds, **EXACT)


@pytest.mark.parametrize("wanted", ["value", "times", "states"])
def test_everything_after_an_event_has_the_derivative_of_finite_differences(wanted):
    def solve(height, gravity, restitution):
        solved = drop(height[None], gravity, restitution, 1.2)
        log = solved.events[0]
        return {"value": solved.value, "times": log.times, "states": log.states}[wanted]

    inputs = tuple(one.clone().requires_grad_() for one in double(1.0, 9.81, 0.7))
    assert torch.autograd.gradcheck(solve, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(solve, inputs, fast_mode=True)


def test_a_ball_bounces_alike_alone_and_in_company():
    def solve(height):
        height = height.clone().requires_grad_()
        solved = drop(height, double(9.81)[0], double(0.7)[0], 2.2)
        log = solved.events[0]
        (solved.value.sum() + log.times.nansum()).backward()
        return solved.value, log.times, height.grad

    together = solve(double(1.0, 4.0, 30.0, 2.0))
    for row, height in enumerate((1.0, 4.0, 30.0, 2.0)):
        value, times, grad = solve(double(height))
        count = times.shape[1]
        assert torch.equal(value[0], together[0][row])
        assert torch.equal(times[0], together[1][row, :count])
        assert torch.equal(grad[0], together[2][row])


def test_a_terminal_event_ends_each_sample_at_its_own_time():
    start = double(1.0, 4.0)[:, None]
    times = torch.linspace(0, 2, 9, dtype=torch.float64)
    solved = integrate(
        decay, start, times, events=below(0.5), rtol=1e-10, solver="dopri5"
    )
    ends = (start[:, 0] / 0.5).log()
    assert_close(solved.events[0].times[0, 0], ends[0], **TIGHT)
    assert solved.events[0].times[1].isnan().all()
    assert_close(solved.stats["time"], torch.minimum(ends, times[-1]), **TIGHT)
    exact = torch.where(
        times < ends[:, None], start * (-times).exp(), double(0.5)[:, None]
    )
    assert_close(solved.value[..., 0], exact, **TIGHT)
    assert solved.ok.all()


def test_the_state_of_a_terminal_event_is_repeated_with_its_gradient():
    level = double(0.5, grad=True)
    solved = integrate(
        decay, double(1.0)[:, None], double(0.0, 1.0, 2.0), events=below(level),
        rtol=1e-10, solver="dopri5",
    )  # fmt: skip
    assert_close(solved.value[0, 1:, 0], double(0.5, 0.5), **TIGHT)
    for value in solved.value[0, 1:, 0]:
        (slope,) = torch.autograd.grad(value, level, retain_graph=True)
        assert_close(slope, double(1.0), **TIGHT)


def test_a_parameter_that_only_the_event_knows_has_a_gradient():
    level = double(0.5, grad=True)
    solved = integrate(
        decay, double(1.0)[:, None], double(0.0, 2.0), events=below(level),
        rtol=1e-10, solver="dopri5",
    )  # fmt: skip
    # t_e = -log c: dt_e/dc = -1 / c, d2t_e/dc2 = 1 / c^2.
    (first,) = torch.autograd.grad(
        solved.events[0].times.sum(), level, create_graph=True
    )
    (second,) = torch.autograd.grad(first, level)
    assert_close(first, double(-2.0), **TIGHT)
    assert_close(second, double(4.0), **TIGHT)


def test_event_times_move_with_the_initial_time():
    begin = double(0.25, grad=True)
    times = torch.cat((begin, double(3.0)))
    solved = integrate(
        decay, double(1.0)[:, None], times, events=below(0.5), rtol=1e-10,
        solver="dopri5",
    )  # fmt: skip
    (slope,) = torch.autograd.grad(solved.events[0].times.sum(), begin)
    assert_close(slope, double(1.0), **TIGHT)


def test_save_times_after_a_terminal_event_have_no_gradient():
    times = double(0.0, 0.5, 2.0, grad=True)
    solved = integrate(
        decay, double(1.0)[:, None], times, events=below(0.5), rtol=1e-10,
        solver="dopri5",
    )  # fmt: skip
    (slope,) = torch.autograd.grad(solved.value.sum(), times)
    # x(0.5) = exp(t0 - 0.5) is all that depends on times; the last state is 1/2.
    shrunk = double(-0.5).exp()[0]
    assert_close(slope, torch.stack((shrunk, -shrunk, 0 * shrunk)), **TIGHT)


@pytest.mark.parametrize("solver", ["rodas5p", "kvaerno5", "dopri8", "bosh3", "auto"])
def test_every_kind_of_method_finds_the_impacts_and_their_derivatives(solver):
    gravity = double(9.81, grad=True)
    restitution = double(0.7)[0]
    start = double(1.0, 0.0)[None]
    solved = integrate(
        falling(gravity[0]), start, double(0.0, 1.2), events=bounce(restitution),
        solver=solver,
    )  # fmt: skip
    found = solved.events[0].times[0]
    exact = impacts(start[0, 0], gravity[0], restitution, 2)
    assert_close(found, exact, **EXACT)
    for one, other in zip(found, exact, strict=True):
        pair = [
            torch.autograd.grad(time, gravity, retain_graph=True)[0]
            for time in (one, other)
        ]
        assert_close(*pair, **EXACT)


@pytest.mark.parametrize(("direction", "count"), [(0, 4), (1, 2), (-1, 2)])
def test_an_event_fires_in_its_direction(direction, count):
    event = Event(
        lambda time, state: state[:, 0] - 0.5, terminal=False, direction=direction
    )
    solved = integrate(
        lambda time, state: time.cos()[:, None], double(0.0)[:, None],
        double(0.0, 12.0), events=event, rtol=1e-10, solver="dopri5",
    )  # fmt: skip
    found = solved.events[0].times[0]
    pi = torch.pi
    rising = double(pi / 6, pi / 6 + 2 * pi)
    setting = double(5 * pi / 6, 5 * pi / 6 + 2 * pi)
    exact = {0: torch.cat((rising, setting)).sort().values, 1: rising, -1: setting}
    assert_close(found, exact[direction], **TIGHT)
    assert len(found) == count


def test_events_that_only_log_do_not_change_the_steps():
    def solve(**events):
        return integrate(
            decay, double(1.0, 2.0)[:, None], double(0.0, 3.0), solver="dopri5",
            **events,
        )  # fmt: skip

    alone, logged = solve(), solve(events=below(0.5, terminal=False))
    assert torch.equal(alone.value, logged.value)
    assert torch.equal(alone.stats["steps"], logged.stats["steps"])
    assert logged.events[0].times.isfinite().all()


def test_backward_in_time_events_carry_the_times_and_directions_of_the_walk():
    # Seen backward, exp(-t) rises: it passes e at t = -1.
    solved = integrate(
        decay, double(1.0)[:, None], double(0.0, -0.5, -2.0),
        events=below(torch.e, direction=1), rtol=1e-10, solver="dopri5",
    )  # fmt: skip
    assert_close(solved.events[0].times, double(-1.0)[:, None], **TIGHT)
    assert_close(solved.stats["time"], double(-1.0), **TIGHT)
    assert_close(solved.value[0, -1], double(torch.e), **TIGHT)


def test_of_two_events_within_a_step_the_earlier_one_ends_it():
    later, earlier = below(0.5), below(0.6)
    solved = integrate(
        decay, double(1.0)[:, None], double(0.0, 3.0), events=(later, earlier),
        rtol=1e-2, atol=1e-2, solver="dopri5",
    )  # fmt: skip
    # Both lie in one step at this tolerance.
    assert solved.stats["steps"] <= 3
    assert solved.events[0].times.shape == (1, 0)
    assert solved.events[1].times.shape == (1, 1)


def test_events_at_the_same_time_all_change_the_state():
    # A ball runs into a corner along its diagonal.
    def wall(axis: int) -> Event:
        def jump(time, state):
            mirror = torch.ones_like(state)
            mirror[:, 2 + axis] = -1
            return state * mirror

        return Event(
            lambda time, state: 1 - state[:, axis], terminal=False, direction=-1,
            jump=jump,
        )  # fmt: skip

    def straight(time, state):
        return torch.cat((state[:, 2:], torch.zeros_like(state[:, 2:])), 1)

    solved = integrate(
        straight, double(0.3, 0.3, 0.7, 0.7)[None], double(0.0, 1.5),
        events=(wall(0), wall(1)), solver="dopri5",
    )  # fmt: skip
    assert_close(
        solved.value[0, -1], double(0.65, 0.65, -0.7, -0.7), rtol=0, atol=1e-12
    )


def test_a_ball_thrown_from_the_ground_does_not_land_before_it_has_flown():
    start = double(0.0, 3.0)[None]
    gravity = double(9.81)[0]
    solved = integrate(
        falling(gravity), start, double(0.0, 1.0), solver="dopri5",
        events=Event(lambda time, state: state[:, 0]),
    )  # fmt: skip
    assert_close(solved.events[0].times, (2 * start[:, 1:] / gravity), **EXACT)


def test_infinitely_many_bounces_end_with_a_status():
    gravity, restitution = double(9.81)[0], double(0.5)[0]
    height = double(1.0, 50.0)
    solved = drop(height, gravity, restitution, 3.0, on_failure="keep")
    # The bounces of the first ball add up: t = 3 sqrt(2 h / g) = 1.35.
    limit = 3 * (2 * height[0] / gravity).sqrt()
    assert solved.status.tolist() == [Status.STALLED, Status.SOLVED]
    assert_close(solved.stats["time"][0], limit, **EXACT)
    assert solved.value[0, -1].isnan().all()
    with pytest.raises(SolveError, match=r"sample 0.*t = 1\.354"):
        drop(height, gravity, restitution, 3.0)


def test_a_sample_that_fails_leaves_no_gradient_of_its_events():
    height = double(1.0, 50.0, grad=True)
    solved = drop(height, double(9.81)[0], double(0.5)[0], 3.5, on_failure="keep")
    assert solved.status.tolist() == [Status.STALLED, Status.SOLVED]
    solved.events[0].times.nansum().backward()
    assert height.grad is not None
    assert height.grad[0] == 0 and height.grad[1] > 0


def test_an_event_that_only_touches_zero_has_no_derivative_and_says_so():
    level = double(1.0, grad=True)
    solved = integrate(
        lambda time, state: torch.ones_like(state), double(0.0)[:, None],
        double(0.0, 3.0), events=Event(lambda time, state: (time - level) ** 3),
        solver="dopri5",
    )  # fmt: skip
    # A triple root is found to a third of the digits.
    assert_close(solved.events[0].times, double(1.0)[:, None], rtol=0, atol=1e-4)
    with pytest.raises(SingularError, match=r"events\[0\].*sample 0 at t = 0.99"):
        solved.events[0].times.sum().backward()


def test_events_of_a_pytree_take_and_give_its_form():
    start = {"q": double(1.0, 2.0)[:, None], "v": double(0.0, 0.0)[:, None]}

    def field(time, state):
        return {"q": state["v"], "v": -torch.ones_like(state["v"])}

    event = Event(
        lambda time, state: state["q"][:, 0], terminal=False,
        jump=lambda time, state: {"q": state["q"], "v": -state["v"]},
    )  # fmt: skip
    solved = integrate(field, start, double(0.0, 2.5), events=event, solver="dopri5")
    assert_close(solved.events[0].times[:, 0], (2 * start["q"][:, 0]).sqrt(), **EXACT)
    assert solved.events[0].states["v"].shape == (2, 1, 1)


def test_batch_axes_of_any_number_reach_events():
    start = double(1.0, 2.0, 3.0, 4.0, 5.0, 6.0).view(2, 3, 1)
    event = Event(lambda time, state: state[..., 0] - 0.9)
    solved = integrate(decay, start, double(0.0, 9.0), events=event, solver="dopri5")
    assert solved.events[0].times.shape == (2, 3, 1)
    assert solved.events[0].states.shape == (2, 3, 1, 1)


def test_events_are_found_in_float32():
    start = torch.tensor([[1.0]])
    solved = integrate(
        decay, start, torch.tensor([0.0, 2.0]), events=below(0.5), solver="dopri5"
    )
    assert solved.events[0].times.dtype == torch.float32
    # Some roundings of float32 beside its tolerance of 1e-5.
    assert_close(solved.events[0].times, torch.tensor([[2.0]]).log(), rtol=0, atol=1e-4)


def test_a_function_of_another_shape_is_named():
    with pytest.raises(ShapeError, match=r"\[1\] and states \[1, 1\] to \[1, 1\]"):
        integrate(
            decay, double(1.0)[:, None], double(0.0, 1.0), solver="dopri5",
            events=Event(lambda time, state: state),
        )  # fmt: skip


def test_derivatives_of_events_beyond_the_second_are_refused():
    with pytest.raises(ParameterError, match="order=3 with events"):
        integrate(
            decay, double(1.0)[:, None], double(0.0, 1.0), events=below(0.5), order=3
        )


@pytest.mark.parametrize("direction", [2, -3])
def test_a_direction_that_is_none_is_refused(direction):
    with pytest.raises(ParameterError, match="direction="):
        Event(lambda time, state: time, direction=direction)
