"""Save times of diagonally implicit methods, whose steps end there."""

import pytest
import torch
from scipy.integrate import solve_ivp
from torch.autograd import gradcheck
from torch.testing import assert_close

from optlayers.programs.initial_value import InitialValueProgram
from optlayers.solvers.ode import FixedStep, ImplicitEuler, Kvaerno5, Trapezoid
from tests.solvers.ode.stiff_problems import RATES, program, robertson

SAVES = torch.logspace(-3, 1.6020599913279623, 40, dtype=torch.float64)  # to 40
TIMES = [0.0, *SAVES.tolist()]


@pytest.fixture(scope="module")
def reference():
    """Robertson's problem by SciPy's Radau, [T, 3]."""

    def rate(_, x):
        slow, fast, middle = 0.04 * x[0], 3e7 * x[1] ** 2, 1e4 * x[1] * x[2]
        return [middle - slow, slow - middle - fast, fast]

    def jacobian(_, x):
        fast, back, middle = 6e7 * x[1], 1e4 * x[1], 1e4 * x[2]
        return [[-0.04, middle, back], [0.04, -middle - fast, -back], [0, fast, 0]]

    found = solve_ivp(
        rate, (0, 40.0), [1.0, 0.0, 0.0], "Radau", TIMES,
        rtol=1e-11, atol=1e-16, jac=jacobian,
    )  # fmt: skip
    return torch.as_tensor(found.y.T.copy())


@pytest.mark.parametrize("rtol", [1e-6, 1e-8])
def test_every_save_time_is_as_right_as_the_last(reference, rtol):
    solver = Kvaerno5(rtol=rtol, atol=1e-5 * rtol)
    field = robertson(torch.tensor(RATES, dtype=torch.float64))
    solved = solver.solve(program(field, [[1.0, 0.0, 0.0]], TIMES))
    error = (solved.value[0] - reference)[1:].abs() / reference[1:]
    # Found: 5 times the tolerance, which left 2000 times of it within longer steps.
    assert float(error.max()) < 20 * rtol


def decay(time, state):
    """x' = -50 (x - cos t), y' = -x y."""
    x, y = state.unbind(1)
    return torch.stack((-50 * (x - time.cos()), -x * y), 1)


@pytest.mark.parametrize("method", [Kvaerno5, Trapezoid, ImplicitEuler])
def test_steps_end_at_the_save_times_of_each_sample(method):
    times = [[0.0, 0.31, 0.32, 1.0], [0.0, 0.05, 0.9, 1.0]]
    start = [[1.0, 1.0], [0.0, 2.0]]
    solver = method(rtol=1e-3, atol=1e-5)
    given = InitialValueProgram(
        decay,
        torch.tensor(start, dtype=torch.float64),
        torch.tensor(times, dtype=torch.float64),
    )
    walk = solver.walk(given, records=True)
    while walk.is_running:
        walk.advance()
    assert_close(walk.saves.places().fraction[:, 1:], torch.ones(2, 3).double())


def test_a_save_time_costs_no_more_than_a_step_or_two():
    solver = Kvaerno5(rtol=1e-6, atol=1e-9)
    steps = [
        solver.solve(program(decay, [[0.0, 1.0]], times)).stats["steps"].item()
        for times in ([0.0, 3.0], [0.0, *(0.3 * k for k in range(1, 10)), 3.0])
    ]
    assert steps[0] < steps[1] <= steps[0] + 2 * 9


def test_fixed_steps_are_as_long_as_they_were_said_to_be():
    solver = Kvaerno5(control=FixedStep(size=0.25))
    times = [0.0, 0.1, 0.2, 0.6, 1.0]
    solved = solver.solve(program(decay, [[1.0, 1.0]], times))
    assert solved.stats["steps"].item() == 4


def test_gradients_at_save_times_are_those_of_the_solution():
    # Steps are chosen by the values, so their rounding is far below the difference.
    solver = Kvaerno5(rtol=1e-9, atol=1e-11)
    times = [0.0, 0.03, 0.1]

    def solution(start, rate):
        def field(time, state):
            x, y = state.unbind(1)
            return torch.stack((-rate * (x - time.cos()), -x * y), 1)

        return solver.solve(program(field, start, times)).value

    start = torch.tensor([[0.7, 1.2]], dtype=torch.float64, requires_grad=True)
    rate = torch.tensor(8.0, dtype=torch.float64, requires_grad=True)
    assert gradcheck(solution, (start, rate), eps=1e-5, atol=1e-6, rtol=1e-5)
