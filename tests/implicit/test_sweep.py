import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from optlayers.implicit import sweep as module
from optlayers.implicit.checkpoint import checkpointed
from optlayers.implicit.recorded import record
from optlayers.implicit.sweep import sweep
from optlayers.programs.initial_value import InitialValueProgram
from optlayers.solvers.ode.dopri5 import Dopri5

SOLVER = Dopri5(rtol=1e-6)


def oscillators(stiffness: Tensor, field=None, stops=None) -> InitialValueProgram:
    """q' = v, v' = -k q + (t < 1), each from its own start."""

    def spring(time: Tensor, state: Tensor) -> Tensor:
        q, v = state.unbind(1)
        push = (time < 1.0).to(q) if stops is not None else 0.0
        return torch.stack((v, -stiffness * q + push), 1)

    start = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    times = torch.tensor([[0.0, 0.7, 2.0], [0.0, 1.5, 3.0]], dtype=torch.float64)
    return InitialValueProgram(field or spring, start, times, stops=stops)


def stiffness() -> Tensor:
    return torch.tensor([1.0, 9.0], dtype=torch.float64, requires_grad=True)


def gradient(solved, k: Tensor) -> Tensor:
    return torch.autograd.grad(solved.value.square().sum(), k)[0]


def test_values_are_the_bits_of_the_solver():
    program = oscillators(stiffness())
    with torch.no_grad():
        expected = SOLVER.solve(program).value
    assert torch.equal(sweep(program, SOLVER).value, expected)


@pytest.mark.parametrize("together", [1, 12, 10_000])
def test_the_gradient_is_that_of_the_steps_in_parts_of_any_size(together, monkeypatch):
    monkeypatch.setattr(module, "TOGETHER", together)
    k = stiffness()
    program = oscillators(k)
    # Both differentiate the same steps, in another order of sums.
    assert_close(
        gradient(sweep(program, SOLVER), k),
        gradient(SOLVER.solve(program), k),
        rtol=1e-10,
        atol=1e-10,
    )


@pytest.mark.parametrize("mode", [sweep, checkpointed])
def test_steps_that_end_where_the_field_jumps_see_it_from_their_side(mode):
    k = stiffness()
    stops = torch.ones(2, 1, dtype=torch.float64)
    program = oscillators(k, stops=stops)
    assert_close(
        gradient(mode(program, SOLVER), k),
        gradient(SOLVER.solve(program), k),
        rtol=1e-9,
        atol=1e-9,
    )


def test_a_field_that_cannot_be_mapped_is_called_step_by_step():
    k = stiffness()

    def unmappable(time: Tensor, state: Tensor) -> Tensor:
        assert float(state.detach().abs().max()) < 100  # looks at numbers
        q, v = state.unbind(1)
        return torch.stack((v, -k * q), 1)

    program = oscillators(k)
    odd = oscillators(k, unmappable)
    assert_close(gradient(sweep(odd, SOLVER), k), gradient(sweep(program, SOLVER), k))


def test_a_gradient_may_be_taken_twice_from_one_graph():
    k = stiffness()
    value = sweep(oscillators(k), SOLVER).value.sum()
    first, second = (
        torch.autograd.grad(value, k, retain_graph=True)[0] for _ in range(2)
    )
    assert torch.equal(first, second)


def test_rejected_steps_are_left_out_of_the_record():
    solved, steps = record(oscillators(stiffness()), Dopri5(rtol=1e-6, first_step=1.0))
    assert solved.stats["rejected"].amin() > 0
    assert (steps.sizes > 0).sum(0).tolist() == solved.stats["accepted"].tolist()
    ends = steps.times + steps.sizes
    assert_close(ends[-1], torch.tensor([2.0, 3.0], dtype=torch.float64))
