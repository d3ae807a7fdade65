"""A network as a field: batches, times, training, refusals."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import optlayers as ol
from optlayers.errors import ParameterError, ShapeError


class Swinging(nn.Module):
    """x' = t - x, with a rate that is learned."""

    def __init__(self):
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))

    def forward(self, time, state):
        return self.rate * (time.unsqueeze(-1) - state)


def test_the_path_has_time_before_the_state():
    net = nn.Linear(3, 3).double()
    start = torch.rand(4, 5, 3, dtype=torch.float64)
    path = ol.NeuralODE(net)(start, torch.linspace(0, 1, 7, dtype=torch.float64))
    assert path.shape == (4, 5, 7, 3)
    assert_close(path[:, :, 0], start)


def test_a_linear_network_gives_the_matrix_exponential():
    net = nn.Linear(3, 3, bias=False).double()
    start = torch.rand(2, 3, dtype=torch.float64)
    times = torch.tensor([0.0, 0.7], dtype=torch.float64)
    path = ol.NeuralODE(net, rtol=1e-10)(start, times)
    wanted = start @ torch.matrix_exp(0.7 * net.weight).T
    assert_close(path[:, -1], wanted, rtol=0, atol=1e-9)


def test_a_field_of_two_arguments_is_given_the_time():
    start = torch.zeros(1, 1, dtype=torch.float64)
    path = ol.NeuralODE(Swinging(), rtol=1e-10)(start, torch.tensor([0.0, 2.0]))
    # x(t) = t - 1 + exp(-t).
    exact = 1 + torch.exp(torch.tensor(-2.0, dtype=torch.float64))
    assert_close(path[0, -1, 0], exact, rtol=0, atol=1e-8)


def test_its_parameters_are_learned():
    module = ol.NeuralODE(Swinging(), rtol=1e-8)
    with torch.no_grad():
        module.field.rate.fill_(0.3)
    start = torch.tensor([[2.0], [-1.0]], dtype=torch.float64)
    times = torch.linspace(0, 2, 9, dtype=torch.float64)
    wanted = times - 1 + (start + 1) * torch.exp(-times)
    optimizer = torch.optim.LBFGS(
        module.parameters(), max_iter=60, tolerance_change=1e-14
    )

    def loss():
        optimizer.zero_grad()
        value = (module(start, times)[..., 0] - wanted).square().mean()
        value.backward()
        return value

    optimizer.step(loss)
    assert module.field.rate.item() == pytest.approx(1.0, abs=1e-5)


def test_statuses_are_within_reach():
    class Exploding(nn.Module):
        def forward(self, state):
            return state * state

    module = ol.NeuralODE(Exploding(), on_failure="nan")
    start = torch.tensor([[0.1], [1.0]], dtype=torch.float64)
    solved = module.solve(start, torch.tensor([0.0, 2.0]))
    assert solved.ok.tolist() == [True, False]


def test_an_unknown_option_is_named():
    with pytest.raises(ParameterError, match="unknown option rtoll="):
        ol.NeuralODE(nn.Linear(1, 1), rtoll=1e-3)


def test_a_field_of_three_arguments_is_refused():
    class Three(nn.Module):
        def forward(self, one, two, three):
            return two

    with pytest.raises(ParameterError, match=r"takes \(one, two, three\)"):
        ol.NeuralODE(Three())


def test_a_state_of_another_size_is_told_so():
    field = torch.nn.Linear(2, 2).double()
    start = torch.ones(3, 4, dtype=torch.float64)
    times = torch.tensor([0.0, 1.0], dtype=torch.float64)
    with pytest.raises(
        ShapeError, match=r"takes no state of size 4, as start \[3, 4\]"
    ):
        ol.NeuralODE(field)(start, times)
