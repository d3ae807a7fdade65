import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.testing import assert_close

from optlayers.implicit.path import Path
from optlayers.implicit.recorded import record
from optlayers.programs.initial_value import InitialValueProgram
from optlayers.solvers.ode import Rodas5P, Tsit5

D = torch.float64


def decays() -> InitialValueProgram:
    """x' = -x from 1, over one second and over three."""
    times = torch.tensor([[0.0, 1.0], [0.0, 3.0]], dtype=D)
    start = torch.ones(2, 1, dtype=D)
    return InitialValueProgram(lambda t, x: -x, start, times)


def path_of(solver) -> Path:
    program = decays()
    _, steps = record(program, solver)
    return Path(program, steps)


def test_states_are_found_in_every_sample_at_several_times_of_each():
    for solver in (Rodas5P(rtol=1e-8), Tsit5(rtol=1e-8)):
        times = torch.tensor([[0.0, 0.1], [0.4, 2.9], [1.0, 3.0]], dtype=D)
        found = path_of(solver).at(times.reshape(-1)).view(3, 2)
        # Within steps the polynomial is of order 4.
        assert_close(found, torch.exp(-times), rtol=1e-6, atol=1e-6)


def test_a_sample_that_has_arrived_ends_in_its_own_last_step():
    path = path_of(Tsit5(rtol=1e-8))
    beyond = path.at(torch.tensor([1.0 + 1e-6, 1.0], dtype=D))[0]
    assert_close(beyond, torch.exp(-torch.ones(1, dtype=D)), rtol=2e-6, atol=0.0)


def test_states_have_the_derivative_of_the_polynomial_in_time():
    path = path_of(Rodas5P(rtol=1e-6))
    times = torch.tensor([0.33, 1.7], dtype=D, requires_grad=True)
    assert gradcheck(path.at, (times,))
    (slope,) = torch.autograd.grad(path.at(times).sum(), times)
    assert_close(slope, -torch.exp(-times.detach()), rtol=1e-3, atol=1e-3)


def test_nothing_of_it_has_a_graph():
    value: Tensor = path_of(Tsit5()).at(torch.tensor([0.5, 0.5], dtype=D))
    assert not value.requires_grad
