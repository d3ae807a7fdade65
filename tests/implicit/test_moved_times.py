import torch
from torch.autograd import gradcheck, gradgradcheck

from optlayers.implicit.moved_times import moved


def test_a_moved_state_keeps_its_bits():
    time, state = torch.rand(3), torch.randn(3, 2)
    assert torch.equal(moved(lambda t, x: x.sin(), time, state, torch.zeros(3)), state)


def test_two_derivatives_are_those_of_the_flow():
    time = torch.zeros(1, dtype=torch.float64)
    state = torch.tensor([[2.0]], dtype=torch.float64)
    by = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    # x' = x + t from 2 at 0: x = 3 exp(t) - t - 1.
    after = moved(lambda t, x: x + t.unsqueeze(1), time, state, by)
    (first,) = torch.autograd.grad(after.sum(), by, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), by)
    assert first.item() == 2.0
    assert second.item() == 3.0


def test_moved_states_pass_gradcheck_in_state():
    time = torch.zeros(2, dtype=torch.float64)
    by = torch.zeros(2, dtype=torch.float64)
    state = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)

    def function(x):
        return moved(lambda t, x: x.sin(), time, x, by)

    assert gradcheck(function, state)
    assert gradgradcheck(function, state)
