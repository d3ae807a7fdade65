"""Where samples stand, without any steps."""

import torch

from optlayers.solution import Status
from optlayers.solvers.ode.course import Course, has_grown


def course(*ends: float) -> Course:
    """Samples at time zero on their way to the ends."""
    made = Course(torch.tensor([[0.0, end] for end in ends], dtype=torch.float64))
    made.look()
    return made


def rows(*chosen: bool) -> torch.Tensor:
    return torch.tensor(chosen)


def test_a_sample_runs_until_it_stands_at_its_end():
    one = course(1.0, 2.0)
    one.move(torch.ones(2, dtype=torch.float64), rows(True, True))
    one.look()
    assert one.running.tolist() == [False, True]


def test_a_rejected_step_moves_nobody():
    one = course(1.0, 2.0)
    one.move(torch.ones(2, dtype=torch.float64), rows(True, False))
    assert one.time.tolist() == [1.0, 0.0]


def test_within_a_rounding_of_its_end_a_sample_has_arrived():
    one = course(1.0)
    one.move(torch.full((1,), 1 - 2**-53, dtype=torch.float64), rows(True))
    one.look()
    assert not one.running.any()


def test_the_first_reason_of_a_failure_stays():
    one = course(1.0, 1.0)
    one.fail(rows(True, False), Status.STALLED)
    one.fail(rows(True, True), Status.STEP_LIMIT)
    assert one.status.tolist() == [Status.STALLED, Status.STEP_LIMIT]
    assert one.end.tolist() == [0.0, 0.0]


def test_a_sample_that_waits_goes_on_to_its_own_end_when_woken():
    one = course(1.0, 2.0)
    one.wait(rows(False, True))
    assert one.running.tolist() == [True, False]
    assert one.wake().tolist() == [False, True]
    one.look()
    assert one.running.all() and one.end.tolist() == [1.0, 2.0]


def test_a_turn_ends_only_those_that_have_arrived():
    one = course(2.0, 2.0)
    one.turn(rows(True, True), torch.ones(2, dtype=torch.float64), rows(True, False))
    one.look()
    assert one.time.tolist() == [1.0, 1.0] and one.end.tolist() == [1.0, 2.0]
    assert one.running.tolist() == [False, True]


def test_a_step_that_would_not_change_the_time_is_stuck():
    one = course(2.0, 2.0)
    one.move(torch.ones(2, dtype=torch.float64), rows(True, True))
    proposed = torch.tensor([1e-16, 1e-3], dtype=torch.float64)
    assert one.stuck(proposed, least=0.0).tolist() == [True, False]
    assert one.stuck(proposed, least=0.01).tolist() == [True, True]


def test_growth_is_judged_by_the_size_at_the_beginning():
    initial = torch.tensor([[1.0], [1e9]], dtype=torch.float64)
    state = torch.full_like(initial, 1e10)
    assert has_grown(state, initial).tolist() == [True, False]
