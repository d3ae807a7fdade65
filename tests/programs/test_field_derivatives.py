"""Derivatives of fields in state and time."""

import pytest
import torch

from optlayers.programs.field_derivatives import linearization


def moving(time, state):
    """sin t times the squares, each of the state before it."""
    return time.sin().unsqueeze(1) * state.roll(1, 1) ** 2


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_the_derivatives_are_those_in_closed_form(size):
    time = torch.tensor([0.3, 1.2], dtype=torch.float64)
    state = torch.rand(2, size, dtype=torch.float64)
    found = linearization(moving, time, state)
    rows = torch.zeros(2, size, size, dtype=torch.float64)
    for k in range(size):
        rows[:, k, k - 1] = 2 * time.sin() * state[:, k - 1]
    assert torch.allclose(found.rate, moving(time, state))
    assert torch.allclose(found.jacobian, rows)
    drift = time.cos().unsqueeze(1) * state.roll(1, 1) ** 2
    assert found.drift is not None and torch.allclose(found.drift, drift)


def test_a_field_that_ignores_time_has_no_drift():
    ones = torch.ones(1, 2)
    assert linearization(lambda t, x: x * x, ones[:, 0], ones).drift is None


def test_a_constant_rate_has_a_jacobian_of_zero():
    ones = torch.ones(1, 2)
    found = linearization(lambda t, x: torch.ones_like(x), ones[:, 0], ones)
    assert torch.equal(found.jacobian, torch.zeros(1, 2, 2))


def test_one_entry_that_does_not_move_has_a_row_of_zeros():
    def field(time, state):
        return torch.stack((torch.ones_like(time), time * state[:, 0]), 1)

    found = linearization(field, torch.ones(1), torch.full((1, 2), 3.0))
    assert torch.equal(found.jacobian, torch.tensor([[[0.0, 0.0], [1.0, 0.0]]]))
    assert torch.equal(found.drift, torch.tensor([[0.0, 3.0]]))


def test_what_the_field_holds_is_no_part_of_the_derivative():
    state = torch.full((1, 1), 2.0, requires_grad=True)
    found = linearization(
        lambda t, x: state * x, torch.ones(1), state, differentiable=True
    )
    assert found.jacobian.item() == 2.0
    (again,) = torch.autograd.grad(found.jacobian.sum(), state)
    assert float(again) == 1.0
