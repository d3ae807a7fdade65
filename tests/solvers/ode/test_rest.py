"""Derivatives where a solution rests at an equilibrium, or nearly."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from optlayers import functional
from optlayers.programs.initial_value import InitialValueProgram
from optlayers.solvers.ode import Dopri5, Tsit5
from tests.solvers.ode.problems import program_of

TIMES = torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64)
# A damped swing, a fast and a slow decay, an undamped swing, a saddle.
MATRICES = {
    "damped": [[-0.5, 2.0], [-2.0, -0.5]],
    "decays": [[-8.0, 1.0], [0.0, -0.5]],
    "undamped": [[0.0, 3.0], [-3.0, 0.0]],
    "saddle": [[1.0, 0.5], [0.5, -2.0]],
}


def matrix(parameter: Tensor, name: str) -> Tensor:
    return parameter * torch.tensor(MATRICES[name], dtype=torch.float64)


def found(parameter, start, name, **options):
    """x' = A(p) x + p b, whose equilibrium at p = 1 is (1, 1)."""
    bias = -matrix(torch.ones(()).double(), name).sum(1)

    def field(time, state):
        return state @ matrix(parameter, name).T + parameter**2 * bias

    return functional.integrate(field, start, TIMES, **options).value[0, -1]


def exact(parameter, start, name):
    """exp(A t) (x0 - x*) + x*, x* = -A^-1 p^2 b = (p, p)."""
    rest = parameter * torch.ones(1, 2, dtype=torch.float64)
    flow = torch.linalg.matrix_exp(matrix(parameter, name) * TIMES[-1])
    return ((start - rest) @ flow.T + rest)[0]


@pytest.mark.parametrize("away", [0.0, 1e-13])
@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize(
    "method", ["tsit5", pytest.param("dopri8", marks=pytest.mark.slow)]
)
def test_derivatives_at_rest_are_those_of_the_flow(method, name, away):
    parameter = torch.ones((), dtype=torch.float64, requires_grad=True)
    start = torch.tensor([[1.0 + away, 1.0 - 0.5 * away]], dtype=torch.float64)
    start.requires_grad_()
    options = {"solver": method, "rtol": 1e-8}
    for i in range(2):
        one = found(parameter, start, name, **options)[i]
        other = exact(parameter, start, name)[i]
        assert_close(
            torch.autograd.grad(one, (parameter, start)),
            torch.autograd.grad(other, (parameter, start)),
            rtol=1e-6, atol=1e-6,
        )  # fmt: skip


@pytest.mark.parametrize("solver", ["auto", "dopri5"])
def test_a_steady_state_has_the_derivative_of_its_equation(solver):
    a = torch.tensor([2.0, 1.0], dtype=torch.float64, requires_grad=True)

    def field(time, state):
        x, y = state.unbind(1)
        return torch.stack((a[0] - x**3 - y, x - a[1] * y), 1)

    start = torch.ones(1, 2, dtype=torch.float64)
    times = torch.tensor([0.0, 15.0, 30.0], dtype=torch.float64)
    value = functional.integrate(field, start, times, solver=solver).value
    (gradient,) = torch.autograd.grad(value[0, -1, 0], a)
    assert_close(gradient, torch.full_like(a, 0.25), rtol=1e-6, atol=0)


def relaxation(time, state):
    return torch.stack((-3 * state[:, 0], -20 * (state[:, 1] - state[:, 0])), 1)


def test_a_sample_at_rest_leaves_the_others_as_they_are_alone():
    start = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    times = torch.tensor([[0.0, 2.0]], dtype=torch.float64)
    together = Dopri5().solve(
        InitialValueProgram(relaxation, start, times.expand(3, -1))
    )
    for row in range(3):
        alone = Dopri5().solve(
            program_of(relaxation, start[row].tolist(), times[0].tolist())
        )
        assert_close(together.value[row], alone.value[0], rtol=1e-12, atol=1e-14)
        for key in ("steps", "evaluations"):
            assert together.stats[key][row] == alone.stats[key][0]


def test_a_moving_sample_asks_for_no_more_of_the_field():
    calls = []

    def field(time, state):
        calls.append(len(time))
        return torch.stack((state[:, 1], -state[:, 0]), 1)

    solved = Dopri5(first_step=0.1).solve(program_of(field, [1.0, 0.0], [0.0, 20.0]))
    assert int(solved.stats["evaluations"]) == 2 + 6 * int(solved.stats["steps"])


def test_stiff_samples_at_rest_are_handed_over():
    rates = torch.tensor([1e6, 1.0], dtype=torch.float64)

    def field(time, state):
        return -rates.unsqueeze(1) * (state - 1)

    start = torch.ones(2, 1, dtype=torch.float64)
    times = torch.tensor([0.0, 2.0], dtype=torch.float64)
    solved = functional.integrate(field, start, times, solver="auto")
    assert solved.stats["is_stiff"].tolist() == [True, False]
    assert int(solved.stats["steps"].amax()) < 200


def test_steps_at_a_spring_follow_its_frequency_and_not_the_norm():
    """J = [[0, 1], [-k, 0]] has the norm k, and the frequency sqrt k."""

    def spring(time, state):
        return torch.stack((state[:, 1], -1e4 * state[:, 0]), 1)

    solved = Tsit5().solve(program_of(spring, [0.0, 0.0], [0.0, 1.0]))
    # 100 / 0.164 of h |J| = (5! 1e-6)^(1/5); an estimate by the norm takes 6e4.
    assert 300 < int(solved.stats["steps"]) < 1200
