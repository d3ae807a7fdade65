"""What holds of every solver of initial value problems, by its registered name."""

import pytest
import torch
from torch.testing import assert_close

from optlayers import registry
from optlayers.errors import TransformError
from optlayers.functional import integrate
from optlayers.solvers.ode import FixedStep

SOLVERS = registry.names("ode")
D = torch.float64


def swing(time: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
    """q' = v, v' = -q."""
    return torch.stack((state[:, 1], -state[:, 0]), 1)


def made(name: str, size: float = 0.01):
    """A solver; those without an estimate of errors with fixed steps."""
    if name in ("rk4", "euler", "leapfrog"):
        return registry.create("ode", name, control=FixedStep(size=size))
    return registry.create("ode", name, rtol=1e-5, max_step=0.1)


@pytest.mark.parametrize("name", SOLVERS)
def test_dense_output_satisfies_the_equation(name):
    start = torch.tensor([[1.0, 0.0], [0.0, 0.5]], dtype=D)
    ends = torch.tensor([0.0, 0.6], dtype=D)
    solved = integrate(swing, start, ends, solver=made(name), dense=True)
    times = torch.linspace(0.05, 0.55, 7, dtype=D).expand(2, -1).clone()
    times.requires_grad_()
    with torch.enable_grad():
        value = solved.at(times)
        slopes = [
            torch.autograd.grad(value[..., k].sum(), times, retain_graph=True)[0]
            for k in range(2)
        ]
    rate = swing(times[..., :0], value.detach().flatten(0, 1)).view_as(value)
    # Straight pieces of length h are off by h |x''| at one end: h is 0.01 at most.
    tolerance = 1.1e-2 if name in ("euler", "implicit_euler") else 1e-3
    assert_close(torch.stack(slopes, 2), rate, rtol=0.0, atol=tolerance)


@pytest.mark.parametrize("name", SOLVERS)
def test_single_precision_is_kept_and_right(name):
    start = torch.tensor([[1.0, 0.0]], requires_grad=True)
    ends = torch.tensor([0.0, 0.5])
    value = integrate(swing, start, ends, solver=made(name)).value
    (found,) = torch.autograd.grad(value[0, -1, 0], start)
    assert value.dtype == found.dtype == torch.float32
    wanted = torch.stack((ends[-1].cos(), ends[-1].sin())).unsqueeze(0)
    # Euler's error in half a second is h / 4.
    tolerance = 4e-3 if name == "euler" else 1e-3
    assert_close(found, wanted, rtol=0.0, atol=tolerance)


@pytest.mark.parametrize("transform", [torch.func.vmap, torch.func.jacrev])
def test_under_a_transform_the_remedy_is_named_and_true(transform):
    def last(start):
        ends = torch.tensor([0.0, 0.5], dtype=D)
        return integrate(swing, start, ends, solver="dopri5").value[:, -1]

    start = torch.rand(3, 2, 2, dtype=D)
    with pytest.raises(TransformError, match="one more batch axis"):
        transform(last)(start)

    def apart(one):
        ends = torch.tensor([0.0, 0.5], dtype=D)
        return integrate(swing, one, ends, solver="dopri5").value[..., -1, :]

    # What the message says to do instead of vmap.
    def by_axis(time, state):
        return torch.stack((state[..., 1], -state[..., 0]), -1)

    ends = torch.tensor([0.0, 0.5], dtype=D)
    together = integrate(by_axis, start, ends, solver="dopri5").value[..., -1, :]
    assert_close(together, torch.stack([apart(one) for one in start]))
