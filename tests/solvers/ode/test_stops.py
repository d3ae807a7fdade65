"""No step crosses a stop, and the field is seen from the right side of it."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from optlayers.programs.initial_value import InitialValueProgram
from optlayers.solvers.ode import RK4, Dopri5, FixedStep, Rodas5P

LEVELS = torch.tensor([1.0, -2.0, 3.0, 0.5], dtype=torch.float64)
KNOTS = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
# Errors of some 30 steps at rtol 1e-10.
TIGHT = {"rtol": 0.0, "atol": 1e-10}


def stepped(time: Tensor, state: Tensor) -> Tensor:
    """x' = u(t) - x with u constant between knots, continuous from the right."""
    piece = torch.searchsorted(KNOTS, time, right=True)
    return LEVELS[piece].unsqueeze(1) - state


def exact_end(start: Tensor) -> Tensor:
    """x(1) of `stepped` from x(0)."""
    shrink = torch.exp(torch.tensor(-0.25, dtype=torch.float64))
    for level in LEVELS:
        start = level + (start - level) * shrink
    return start


def program(start: Tensor, times: Tensor, stops: Tensor | None) -> InitialValueProgram:
    batch = len(start)
    if stops is not None and stops.ndim == 1:
        stops = stops.expand(batch, -1)
    return InitialValueProgram(stepped, start, times.expand(batch, -1), stops=stops)


def column(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)[:, None]


UNIT = torch.tensor([0.0, 1.0], dtype=torch.float64)


def test_a_piecewise_constant_input_is_followed_exactly_in_few_steps():
    start, solver = column(1.0, 2.0), Dopri5(rtol=1e-10, atol=1e-12)
    solved = solver.solve(program(start, UNIT, KNOTS))
    assert_close(solved.value[:, -1], exact_end(start), **TIGHT)
    # Without stops it takes over 200, and errs a thousand times as much.
    # The first begins at rest, where steps are as short as near it.
    assert (solved.stats["steps"] < 50).all()
    assert (solved.stats["rejected"] < 5).all()


def test_backward_in_time_the_field_is_seen_from_the_other_side():
    start, solver = column(1.0, 2.0), Dopri5(rtol=1e-10, atol=1e-12)
    solved = solver.solve(program(exact_end(start), UNIT.flip(0), KNOTS.flip(0)))
    # Errors of the end grow by e on the way back.
    assert_close(solved.value[:, -1], start, rtol=0, atol=1e-9)
    assert (solved.stats["steps"] < 40).all()


def test_each_sample_has_its_own_stops_and_fewer_are_padded():
    stops = torch.stack((KNOTS, KNOTS))
    stops[1, 2] = torch.nan
    start, solver = column(1.0, 2.0), Dopri5(rtol=1e-8)
    steps = solver.walk(program(start, UNIT, stops))
    seen = [steps.time]
    while steps.is_running:
        steps.advance()
        seen.append(steps.time)
    seen = torch.stack(seen)
    for knot in KNOTS:
        assert (seen[:, 0] == knot).any()
    assert not (seen[:, 1] == KNOTS[2]).any()


def test_stops_outside_of_the_interval_change_nothing():
    start, solver = column(1.0), Dopri5()
    stops = torch.tensor([-1.0, 2.0], dtype=torch.float64)
    found = [
        solver.solve(
            InitialValueProgram(
                lambda time, state: -state, start, UNIT[None],
                stops=None if one is None else one[None],
            )
        )
        for one in (None, stops)
    ]  # fmt: skip
    assert torch.equal(found[0].value, found[1].value)


def test_a_stop_at_the_beginning_is_passed_at_once():
    solved = Dopri5(rtol=1e-10).solve(
        program(column(1.0), torch.tensor([0.25, 0.5]).double(), KNOTS)
    )
    shrink = torch.exp(torch.tensor(-0.25, dtype=torch.float64))
    assert_close(solved.value[0, -1, 0], -2.0 + 3.0 * shrink, **TIGHT)


def test_after_a_stop_steps_are_as_long_as_before():
    # Stops that a smooth problem does not need must not make it start anew.
    def steps(stops):
        solved = Dopri5(rtol=1e-6).solve(
            InitialValueProgram(
                lambda time, state: -state, column(1.0),
                torch.tensor([[0.0, 10.0]]).double(), stops=stops,
            )
        )  # fmt: skip
        return int(solved.stats["steps"])

    near = torch.tensor([[5.0, 5.001, 5.002]], dtype=torch.float64)
    assert steps(near) <= steps(None) + 4


def test_derivatives_pass_stops():
    def end(start):
        return (
            Dopri5(rtol=1e-10, atol=1e-12)
            .solve(program(start, UNIT, KNOTS))
            .value[:, -1]
        )

    start = column(1.0, 2.0).requires_grad_()
    (slope,) = torch.autograd.grad(end(start).sum(), start)
    # Errors of the derivative are not controlled; they are some times as large.
    assert_close(slope, column(-1.0, -1.0).exp(), rtol=0, atol=1e-8)


@pytest.mark.parametrize("stops", [None, KNOTS])
def test_steps_without_size_go_from_save_to_save(stops):
    times = torch.tensor([0.0, 0.1, 0.4, 1.0], dtype=torch.float64)
    solved = RK4(control=FixedStep()).solve(program(column(1.0), times, stops))
    assert int(solved.stats["steps"]) == (3 if stops is None else 6)


def test_steps_from_save_to_save_give_the_method_itself():
    times = torch.tensor([[0.0, 0.5, 1.5]], dtype=torch.float64)
    solved = RK4(control=FixedStep()).solve(
        InitialValueProgram(lambda time, state: -state, column(1.0), times)
    )

    def growth(h: float) -> float:
        return 1 - h + h**2 / 2 - h**3 / 6 + h**4 / 24

    expected = [1.0, growth(0.5), growth(0.5) * growth(1.0)]
    assert_close(solved.value[0, :, 0], column(*expected)[:, 0], rtol=1e-14, atol=0)


def test_a_method_that_uses_the_derivative_in_time_has_it_beside_stops_too():
    def ends(stops):
        return Rodas5P(control=FixedStep(size=0.5)).solve(
            InitialValueProgram(
                lambda t, x: torch.cos(3 * t).unsqueeze(1) * x, column(1.0),
                torch.tensor([[0.0, 1.0]], dtype=torch.float64), stops=stops,
            )
        ).value  # fmt: skip

    stop = torch.tensor([[0.5]], dtype=torch.float64)
    # The field is seen some roundings beside the stop.
    assert_close(ends(stop), ends(None), rtol=1e-12, atol=0.0)
