"""Integrations watched from a loop: moments, the solution after the last, refusals."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from optlayers.errors import ParameterError, SolveError
from optlayers.functional import Event, integrate, integration
from optlayers.interfaces import Kind


def double(*numbers: float, grad: bool = False) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64, requires_grad=grad)


def decay(time: Tensor, state: Tensor) -> Tensor:
    return -state


def square(time: Tensor, state: Tensor) -> Tensor:
    """x' = x^2: x = x0 / (1 - x0 t), which is infinite at t = 1 / x0."""
    return state * state


def test_a_loop_sees_every_step_and_ends_with_the_solution():
    start, times = double(1.0, 2.0, grad=True), double(0.0, 0.5, 3.0)
    steps = integration(decay, start[:, None], times, solver="dopri5")
    with pytest.raises(ParameterError, match="no solution yet"):
        _ = steps.solution
    moments = list(steps)
    whole = integrate(decay, start[:, None], times, solver="dopri5", gradient="direct")
    assert torch.equal(steps.solution.value, whole.value)
    assert len(moments) == whole.stats["steps"].max()
    assert all(torch.is_grad_enabled() and not m.state.requires_grad for m in moments)
    assert moments[-1].fraction == 1 and not moments[-1].is_running.any()
    assert_close(moments[-1].time, times[-1].expand(2), rtol=0, atol=1e-12)
    assert_close(
        torch.autograd.grad(steps.solution.value.sum(), start),
        torch.autograd.grad(whole.value.sum(), start),
    )


def test_a_loop_raises_at_its_end_if_a_sample_failed():
    start = double(2.0, 0.1)[:, None]
    steps = integration(square, start, double(0.0, 1.0), solver="dopri5")
    with pytest.raises(SolveError, match="integration: 1 of 2"):
        list(steps)


def test_a_gradient_that_keeps_no_steps_cannot_be_watched():
    with pytest.raises(ParameterError, match='gradient="backsolve"'):
        integration(decay, double(1.0), double(0.0, 1.0), gradient="backsolve")


def test_moments_lie_on_the_solution_and_time_goes_on():
    start = double(1.0, 2.0)[:, None]
    steps = integration(decay, start, double(0.0, 3.0), solver="dopri5", rtol=1e-9)
    moments = list(steps)
    for one in moments:
        exact = start * (-one.time[:, None]).exp()
        assert_close(one.state, exact, rtol=1e-7, atol=0)
    shares = [one.fraction for one in moments]
    assert shares == sorted(shares) and 0 < shares[0] < shares[-1] == 1


def test_moments_have_the_form_of_the_start_and_its_direction_of_time():
    start = {"q": torch.ones(2, 3, 4), "v": torch.zeros(2, 3, 1)}
    steps = integration(
        lambda time, state: {k: -one for k, one in state.items()}, start,
        torch.tensor([0.0, -1.0]), solver="dopri5",
    )  # fmt: skip
    last = list(steps)[-1]
    assert {k: one.shape for k, one in last.state.items()} == {
        k: one.shape for k, one in start.items()
    }
    assert last.is_running.shape == last.time.shape == (2,)
    assert_close(last.time, torch.full((2,), -1.0))


def test_moments_that_were_kept_do_not_change_later():
    steps = integration(decay, double(1.0)[None], double(0.0, 3.0), solver="rodas5p")
    moments = []
    for one in steps:
        moments.append((one, one.state.clone()))
    assert len(moments) > 2
    assert all(torch.equal(one.state, then) for one, then in moments)


def test_each_loop_begins_anew_and_one_that_was_left_has_no_solution():
    steps = integration(decay, double(1.0)[None], double(0.0, 3.0), solver="dopri5")
    times = [float(one.time) for one in steps]
    first = steps.solution.value
    for _ in steps:
        break
    with pytest.raises(ParameterError, match="no solution yet"):
        _ = steps.solution
    assert [float(one.time) for one in steps] == times
    assert torch.equal(steps.solution.value, first)


def test_events_and_dense_output_are_kept_in_a_loop():
    steps = integration(
        decay, double(2.0)[None], double(0.0, 3.0), solver="dopri5", rtol=1e-9,
        events=Event(lambda time, state: state[:, 0] - 1.0), dense=True,
    )  # fmt: skip
    list(steps)
    log_two = double(2.0).log()
    assert_close(steps.solution.events[0].times[0], log_two, rtol=0, atol=1e-8)
    found = steps.solution.at(double(0.25)).squeeze()
    assert_close(found, 2 * double(-0.25).exp().squeeze(), rtol=0, atol=1e-7)


class AtOnce:
    """A solver that tells nothing of its way."""

    kind = Kind.ODE

    def refuses(self, program):
        return None

    def solve(self, program, start=None):
        raise AssertionError("not to be called")


def test_a_solver_that_takes_no_single_steps_cannot_be_watched():
    with pytest.raises(ParameterError, match="AtOnce does not take its steps one"):
        integration(decay, double(1.0), double(0.0, 1.0), solver=AtOnce())
