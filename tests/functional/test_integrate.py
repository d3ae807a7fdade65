"""Integrations of plain functions: shapes, failures, dense output."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from optlayers.errors import ParameterError, ShapeError, SolveError, TransformError
from optlayers.functional import Event, Status, integrate
from optlayers.solvers.ode import Dopri5

# The default tolerance of a step is 1e-6; errors of some steps add up.
DEFAULT = {"rtol": 0.0, "atol": 1e-5}


def double(*numbers: float, grad: bool = False) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64, requires_grad=grad)


def decay(time: Tensor, state: Tensor) -> Tensor:
    return -state


def square(time: Tensor, state: Tensor) -> Tensor:
    """x' = x^2: x = x0 / (1 - x0 t), which is infinite at t = 1 / x0."""
    return state * state


# ---- shapes --------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2,), (3, 2), (2, 3, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_times_are_the_axis_before_the_state(shape, dtype):
    start = torch.rand(shape, dtype=dtype)
    times = torch.linspace(0, 1, 4, dtype=dtype)
    solved = integrate(decay, start, times, solver="dopri5")
    assert solved.value.dtype == dtype
    assert_close(
        solved.value, start.unsqueeze(-2) * (-times).exp()[:, None], rtol=0, atol=1e-4
    )
    assert solved.status.shape == solved.stats["time"].shape == shape[:-1]


def test_each_sample_may_have_its_own_times_and_direction():
    times = torch.stack((double(0, 1, 2), double(0, -0.5, -1), double(1, 0.5, 0)))
    solved = integrate(decay, double(1.0, 1.0, 1.0)[:, None], times, solver="dopri5")
    assert_close(solved.value[..., 0], (times[:, :1] - times).exp(), **DEFAULT)
    assert_close(solved.stats["time"], times[:, -1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(0, 2), (3, 0), (0, 0), (2, 0, 3)])
@pytest.mark.parametrize("count", [1, 3])
def test_nothing_to_integrate_gives_nothing(shape, count):
    start = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    times = torch.linspace(0, 1, count, dtype=torch.float64)
    solved = integrate(decay, start, times, solver="dopri5", dense=True)
    assert solved.value.shape == (*shape[:-1], count, shape[-1])
    assert solved.at(times[:1]).shape == (*shape[:-1], 1, shape[-1])
    solved.value.sum().backward()
    assert start.grad is not None and start.grad.shape == shape


def test_a_single_time_gives_the_initial_value():
    start = double(1.0, 2.0, grad=True)
    solved = integrate(decay, start, double(0.5), solver="dopri5")
    assert torch.equal(solved.value, start[None])
    assert solved.ok
    solved.value.sum().backward()
    assert torch.equal(start.grad, torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize("times", [torch.zeros(()), torch.zeros(0), torch.zeros(4, 3)])
def test_times_that_fit_no_batch_are_refused(times):
    with pytest.raises(ShapeError, match="times"):
        integrate(decay, torch.ones(2, 1), times, solver="dopri5")


def test_integration_inside_a_transform_is_refused():
    with pytest.raises(TransformError, match=r"functional\.integrate"):
        torch.func.vmap(lambda x: integrate(decay, x, torch.ones(2)).value)(
            torch.ones(3, 1)
        )


def test_tolerances_belong_to_a_solver_that_was_made():
    with pytest.raises(ParameterError, match=r"Dopri5\(rtol"):
        integrate(decay, torch.ones(1), torch.ones(1), solver=Dopri5(), rtol=1e-3)


# ---- failures ------------------------------------------------------------------------


def batch_of_squares(bad: float) -> tuple[Tensor, Tensor]:
    """32 initial values below 1/2, the eighth given, and times up to 2."""
    start = torch.linspace(0.1, 0.4, 32, dtype=torch.float64)
    start[7] = bad
    return start[:, None].requires_grad_(), double(0.0, 0.2, 1.0, 2.0)


@pytest.mark.parametrize("gradient", ["direct", "exact"])
def test_a_sample_that_blows_up_leaves_the_others_bitwise_as_they_are(gradient):
    found = []
    for bad in (0.3, 2.0):
        start, times = batch_of_squares(bad)
        solved = integrate(
            square, start, times, solver="dopri5", on_failure="keep", gradient=gradient
        )
        # Cotangents of the failed sample must not matter, so they are not zero.
        (slope,) = torch.autograd.grad(solved.value.nansum(), start)
        found.append((solved.value, slope, solved.status))
    others = torch.arange(32) != 7
    for one, other in zip(*found, strict=True):
        assert torch.equal(one[others], other[others])
    value, slope, status = found[1]
    assert status[7] == Status.NOT_FINITE
    assert value[7, :2].isfinite().all() and value[7, 2:].isnan().all()
    assert slope[7] == 0


def test_a_sample_that_blows_up_changes_no_shared_gradient():
    slopes = []
    for rows in (32, 31):
        start, times = batch_of_squares(2.0)
        order = [k for k in range(32) if k != 7] + [7]
        rate = double(1.0, grad=True)
        solved = integrate(
            lambda time, state, rate=rate: rate * state * state,
            start[order[:rows]], times, solver="dopri5", on_failure="nan",
            gradient="direct",
        )  # fmt: skip
        solved.value.nansum().backward()
        slopes.append(rate.grad)
    # The sum over rows is taken in another order.
    assert_close(*slopes, rtol=1e-12, atol=0)


def test_a_nan_in_one_sample_leaves_the_others_bitwise_as_they_are():
    found = []
    for bad in (1.0, torch.nan):
        rate = torch.ones(32, 1, dtype=torch.float64)
        rate[7] = bad
        rate.requires_grad_()
        start, times = batch_of_squares(0.3)
        solved = integrate(
            lambda time, state, rate=rate: rate * state * state, start, times,
            solver="dopri5", on_failure="nan", gradient="direct",
        )  # fmt: skip
        slopes = torch.autograd.grad(solved.value.nansum(), (start, rate))
        found.append((solved.value, *slopes, solved.status))
    others = torch.arange(32) != 7
    for one, other in zip(*found, strict=True):
        assert torch.equal(one[others], other[others])
    assert found[1][0][7].isnan().all()
    assert found[1][-1][7] == Status.NOT_FINITE


def test_a_failure_names_the_sample_and_the_time_it_reached():
    start, times = batch_of_squares(2.0)
    with pytest.raises(SolveError, match=r"(?s)sample 7: NOT_FINITE.*t = 0\.5 after"):
        integrate(square, start.detach(), times, solver="dopri5")


def test_the_time_reached_has_the_sign_of_the_user_backward_in_time():
    with pytest.raises(SolveError, match=r"stopped at t = -0\.5 after"):
        integrate(
            lambda time, state: -state * state, double(2.0), double(0.0, -2.0),
            solver="dopri5",
        )  # fmt: skip


def test_a_step_limit_keeps_what_was_found():
    solved = integrate(
        decay, double(1.0), double(0.0, 1.0, 100.0), on_failure="keep",
        solver=Dopri5(max_step=0.5, max_steps=20),
    )  # fmt: skip
    assert solved.status == Status.STEP_LIMIT
    assert_close(solved.value[1], double(1.0).neg().exp(), **DEFAULT)
    assert solved.value[2].isnan().all()
    assert solved.stats["steps"] == 20


def test_times_that_do_not_grow_break_their_sample_alone():
    times = torch.stack((double(0, 1, 2), double(0, 1, 1), double(0, torch.nan, 2)))
    solved = integrate(
        decay, double(1.0, 1.0, 1.0)[:, None], times, on_failure="nan", solver="dopri5"
    )
    assert solved.status.tolist() == [
        Status.SOLVED, Status.INVALID_DATA, Status.INVALID_DATA,
    ]  # fmt: skip
    assert_close(solved.value[0, :, 0], (-times[0]).exp(), **DEFAULT)
    assert solved.value[1:].isnan().all()


# ---- dense output --------------------------------------------------------------------


def test_dense_output_agrees_with_saves_at_the_same_times():
    start = double(1.0, 2.0)[:, None]
    times = torch.linspace(0, 3, 7, dtype=torch.float64)
    dense = integrate(decay, start, times[[0, -1]], solver="dopri5", dense=True)
    saved = integrate(decay, start, times, solver="dopri5")
    # The fraction of a step is found from both its ends alike.
    assert_close(dense.at(times), saved.value, rtol=1e-13, atol=0)


def test_dense_output_satisfies_the_equation():
    # x'(t) - f(x(t), w) = 0 between steps, too: the derivative of the interpolant of
    # order 4 errs by at most some hundred times what is allowed of a step's end.
    tolerance, frequency = 1e-8, double(1.5)
    times = double(0.0, 5.0)

    def field(time, state):
        position, speed = state.unbind(1)
        return torch.stack((speed, -(frequency**2) * position), 1)

    solved = integrate(
        field, double(1.0, 0.0)[None], times, rtol=tolerance, dense=True,
        solver="dopri5",
    )  # fmt: skip
    asked = torch.linspace(0, 5, 101, dtype=torch.float64, requires_grad=True)
    state = solved.at(asked)[0]
    slopes = [torch.autograd.grad(one.sum(), asked, retain_graph=True)[0] for one in
              state.unbind(1)]  # fmt: skip
    residual = torch.stack(slopes, 1) - field(asked, state)
    assert residual.abs().max() < 300 * tolerance


def test_dense_output_is_differentiable_as_the_solution_is():
    def solve(rate, start, asked):
        solved = integrate(
            lambda time, state: -rate * state, start[:, None], double(0.0, 2.0),
            rtol=1e-9, dense=True, solver="dopri5",
        )  # fmt: skip
        return solved.at(asked)

    rate, start = double(0.7, grad=True), double(1.0, 2.0, grad=True)
    asked = double(0.3, 1.1, 2.0, grad=True)
    found = solve(rate, start, asked)[..., 0]
    exact = start[:, None] * (-rate * asked).exp()
    for one, other in zip(
        torch.autograd.grad(found.sum(), (rate, start, asked)),
        torch.autograd.grad(exact.sum(), (rate, start, asked)),
        strict=True,
    ):
        # The derivative of the interpolant in time is one order behind it.
        assert_close(one, other, rtol=0, atol=1e-6)


def test_dense_output_takes_times_of_each_sample_backward_and_in_any_order():
    start = double(1.0, 2.0)[:, None]
    solved = integrate(decay, start, double(0.0, -2.0), solver="dopri5", dense=True)
    asked = torch.stack((double(-1.5, -0.2, 0.0), double(-2.0, -0.7, -1.0)))
    assert_close(solved.at(asked)[..., 0], start * (-asked).exp(), rtol=1e-5, atol=0)


def test_dense_output_follows_jumps_and_ends_with_terminal_events():
    # A saw tooth: x' = 1 from 0, back to 0 at 1; the second sample ends there.
    ends = torch.tensor([False, True])
    tooth = Event(
        lambda time, state: state[:, 0] - torch.where(ends, 9.0, 1.0), terminal=False,
        jump=lambda time, state: 0 * state,
    )  # fmt: skip
    last = Event(lambda time, state: state[:, 0] - torch.where(ends, 1.0, 9.0))
    solved = integrate(
        lambda time, state: torch.ones_like(state), double(0.0, 0.0)[:, None],
        double(0.0, 2.5), events=(tooth, last), dense=True, solver="dopri5",
    )  # fmt: skip
    found = solved.at(double(0.5, 1.25, 2.5))[..., 0]
    exact = torch.stack((double(0.5, 0.25, 0.5), double(0.5, 1.0, 1.0)))
    assert_close(found, exact, rtol=0, atol=1e-12)


def test_dense_output_of_failed_samples_is_nan_from_where_they_stopped():
    start = double(2.0, 0.2)[:, None]
    solved = integrate(
        square, start, double(0.0, 1.0), on_failure="keep", dense=True, solver="dopri5"
    )
    found = solved.at(double(0.25, 0.75))[..., 0]
    assert_close(found[:, 0], double(4.0, 0.2 / 0.95), rtol=1e-4, atol=0)
    assert found[0, 1].isnan() and found[1, 1].isfinite()


def test_a_time_outside_is_named_with_the_interval():
    solved = integrate(
        decay, double(1.0), double(0.0, 2.0), solver="dopri5", dense=True
    )
    with pytest.raises(ParameterError, match=r"t = 2\.5 of sample 0.*\[0, 2\]"):
        solved.at(double(1.0, 2.5))


def test_dense_output_that_was_not_kept_says_how_to_keep_it():
    solved = integrate(decay, double(1.0), double(0.0, 2.0), solver="dopri5")
    with pytest.raises(ParameterError, match="dense=True"):
        solved.at(double(1.0))


def test_dense_output_of_a_pytree_has_its_form():
    start = {"q": torch.ones(2, 3), "v": torch.zeros(2, 1)}
    solved = integrate(
        lambda time, state: {k: -one for k, one in state.items()}, start,
        torch.tensor([0.0, 1.0]), solver="dopri5", dense=True,
    )  # fmt: skip
    found = solved.at(torch.tensor([0.5, 0.75]))
    assert found["q"].shape == (2, 2, 3) and found["v"].shape == (2, 2, 1)
