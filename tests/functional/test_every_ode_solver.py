"""What holds of every solver of initial value problems, by its registered name."""

import math

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


def residual(name: str, size: float) -> float:
    """The largest x'(t) - f(x(t)) of dense output between steps of one size."""
    control = FixedStep(size=size)
    solver = registry.create("ode", name, control=control, rtol=1e-11)
    start = torch.tensor([[1.0, 0.0], [0.0, 0.5]], dtype=D)
    ends = torch.tensor([0.0, 0.8], dtype=D)
    solved = integrate(swing, start, ends, solver=solver, dense=True)
    begins = torch.arange(4, dtype=D).unsqueeze(1) * 0.2
    times = begins + torch.tensor([0.3, 0.8], dtype=D) * size
    times = times.flatten().expand(2, -1).clone().requires_grad_()
    with torch.enable_grad():
        value = solved.at(times)
        slopes = [
            torch.autograd.grad(value[..., k].sum(), times, retain_graph=True)[0]
            for k in range(2)
        ]
    rate = swing(times[..., :0], value.detach().flatten(0, 1)).view_as(value)
    return float((torch.stack(slopes, 2) - rate).abs().max())


# Of the residual of dense output: the power of h that it falls with, and what it is
# below at h = 0.1. Interpolants up to order 2 lose no order to the derivative.
RESIDUALS = {1: (1, 0.1), 2: (2, 4e-3), 3: (3, 1e-4), 4: (3, 5e-5), 5: (4, 1e-6),
             8: (6, 1e-11)}  # fmt: skip


@pytest.mark.parametrize("name", SOLVERS)
def test_dense_output_satisfies_the_equation_to_its_order(name):
    power, bound = RESIDUALS[registry.create("ode", name).stepper.order]
    coarse, fine = residual(name, 0.2), residual(name, 0.1)
    assert fine < bound
    assert math.log2(coarse / fine) > power - 0.3


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
