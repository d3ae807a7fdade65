"""Recorded integrations: accepted steps alone, which give the same solution again."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from optlayers.implicit.recorded import (
    between_stops,
    due,
    due_of_each,
    over_steps,
    record,
    within,
)
from optlayers.programs.initial_value import InitialValueProgram
from optlayers.solvers.ode import Auto, Dopri5, Rodas5P

D = torch.float64
RATES = torch.tensor([1.0, 60.0], dtype=D)


def decay(time: Tensor, state: Tensor) -> Tensor:
    """x' = -k (x - cos t), its own rate in each sample."""
    return -RATES[: len(state), None] * (state - time.cos()[:, None])


def squares(time: Tensor, state: Tensor) -> Tensor:
    """x' = x^2, infinite at 1 / x0."""
    return state**2


def program(field=decay, start=(2.0, -1.0), times=(0.0, 0.4, 1.1, 3.0)):
    x = torch.tensor(start, dtype=D)[:, None]
    return InitialValueProgram(
        field, x, torch.tensor(times, dtype=D).expand(len(x), -1)
    )


@pytest.fixture
def rejecting():
    """A solver whose first step is far too long, so that it is rejected."""
    return Dopri5(first_step=2.0)


def test_rejected_steps_are_left_out_and_the_path_has_no_gap(rejecting):
    solution, steps = record(program(), rejecting)
    assert bool((solution.stats["rejected"] > 0).all())
    accepted = solution.stats["accepted"]
    assert torch.equal((steps.sizes > 0).sum(0), accepted)
    assert len(steps.times) == accepted.max()
    ends = steps.times + steps.sizes
    assert_close(steps.times[1:], ends[:-1], rtol=0, atol=1e-13)
    assert_close(ends[-1], torch.full((2,), 3.0, dtype=D), rtol=0, atol=1e-13)


def test_a_sample_that_arrived_rests_at_its_last_state(rejecting):
    solution, steps = record(program(), rejecting)
    first = int(solution.stats["accepted"].argmin())
    count = int(solution.stats["accepted"][first])
    assert count < len(steps.times)
    rest = steps.states[count:, first]
    last = solution.value[first, -1].expand_as(rest)
    assert_close(rest, last, rtol=0, atol=1e-12)
    assert (steps.sizes[count:, first] == 0).all()


def test_save_times_lie_in_the_steps_that_cover_them(rejecting):
    _, steps = record(program(), rejecting)
    assert (steps.iteration[:, 0] == -1).all()
    index = steps.iteration[:, 1:].t()
    found = steps.times.gather(0, index)
    found = found + steps.fraction[:, 1:].t() * steps.sizes.gather(0, index)
    assert_close(found.t(), program().times[:, 1:], rtol=0, atol=1e-13)


def test_every_save_time_after_the_first_is_due_once(rejecting):
    _, steps = record(program(), rejecting)
    whole = due(steps, 0, len(steps.times))
    each = due_of_each(steps)
    assert len(each) == len(steps.times)
    assert sorted(whole.save.tolist()) == [1, 2, 3, 5, 6, 7]
    saves = torch.cat([one.save for one in each])
    assert sorted(saves.tolist()) == sorted(whole.save.tolist())
    for k, one in enumerate(each):
        part = due(steps, k, k + 1)
        order, other = part.save.argsort(), one.save.argsort()
        assert torch.equal(part.step[order], one.step[other])
        assert torch.equal(part.fraction[order], one.fraction[other])


def test_failed_samples_stand_for_the_first_that_did_not_fail():
    solution, steps = record(program(squares, (2.0, 0.1, 5.0)), Dopri5())
    assert solution.ok.tolist() == [False, True, False]
    for failed in (0, 2):
        assert torch.equal(steps.states[:, failed], steps.states[:, 1])
        assert (steps.iteration[failed] == -1).all()
    assert bool((steps.iteration[1, 1:] >= 0).all())


def test_where_all_failed_nobody_moves():
    solution, steps = record(program(squares, (2.0, 5.0)), Dopri5())
    assert not solution.ok.any()
    assert not steps.sizes.any() and bool(steps.states.isfinite().all())
    assert (steps.iteration == -1).all()


def test_steps_are_cut_where_the_method_changes():
    rates = torch.tensor([1.0, 3e4], dtype=D)

    def stiff(time, state):
        return -rates[:, None] * (state - time.cos()[:, None])

    _, steps = record(program(stiff), Auto())
    (_, explicit), (change, implicit) = steps.methods
    assert not explicit.is_implicit and implicit.is_implicit
    chunks = list(steps.chunks(7))
    assert [first for _, first, _ in chunks[1:]] == [last for *_, last in chunks[:-1]]
    assert chunks[0][1] == 0 and chunks[-1][2] == len(steps.times)
    assert all(last - first <= 7 for _, first, last in chunks)
    assert all((one is implicit) == (first >= change) for one, first, _ in chunks)


@pytest.mark.parametrize("method", [Dopri5, Rodas5P])
def test_the_solution_within_steps_is_as_good_as_at_their_ends(method):
    solver = method(rtol=1e-8)
    time, size = torch.zeros(2, dtype=D), torch.tensor([0.1, 0.05], dtype=D)
    state = torch.tensor([[1.0], [3.0]], dtype=D)
    found = within(solver.stepper, lambda t, x: -x, time, size, state, (0.3, 0.9))
    places = torch.tensor([0.3, 0.9], dtype=D)
    exact = state * torch.exp(-size[:, None] * places)
    assert_close(found[..., 0], exact, rtol=1e-7, atol=0)


def test_a_field_over_many_steps_sees_the_numbers_of_each_sample():
    times = torch.linspace(0, 1, 3, dtype=D).repeat_interleave(2)
    states = torch.linspace(1, 2, 6, dtype=D)[:, None]
    found = over_steps(decay, 2)(times, states)
    apart = [decay(times[k : k + 2], states[k : k + 2]) for k in (0, 2, 4)]
    assert_close(found, torch.cat(apart))


def test_a_field_that_cannot_be_mapped_sees_the_steps_one_by_one():
    calls = []

    def asking(time, state):
        calls.append(len(state))
        return -state if bool((state > 0).all()) else state

    states = torch.tensor([1.0, 2.0, -1.0, 1.0], dtype=D)[:, None]
    found = over_steps(asking, 2)(torch.zeros(4, dtype=D), states)
    assert_close(found[:, 0], torch.tensor([-1.0, -2.0, -1.0, 1.0], dtype=D))
    assert calls[-2:] == [2, 2]


def test_a_step_between_stops_sees_neither_of_its_ends():
    asked = []
    stops = torch.tensor([1.0], dtype=D)
    time, size = torch.tensor([1.0], dtype=D), torch.tensor([0.5], dtype=D)

    def field(at, state):
        asked.append(float(at))
        return state

    inside = between_stops(field, stops, time, size)
    for at in (0.9, 1.0, 1.25, 1.5, 1.6):
        inside(torch.tensor([at], dtype=D), torch.ones(1, 1, dtype=D))
    assert all(1 < one < 1.5 for one in asked) and asked[2] == 1.25
    assert math.isclose(asked[0], 1, abs_tol=1e-14)
    assert between_stops(field, None, time, size) is field
