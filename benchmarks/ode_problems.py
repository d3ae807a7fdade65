"""Initial value problems for the benchmarks, written once for torch, jax and numpy.

x'(t) = f(x, p),  x(t_0) = start,  with a reference solution of SciPy's DOP853.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

Tensors = dict[str, Tensor]
REFERENCE = 1e-13  # tolerance of the batch taken as one system
FINE_STEPS = 1000  # of the Runge-Kutta method that the gradients are checked by


@dataclass(frozen=True)
class Problem:
    """B initial value problems.

    Attributes:
        title: what the table is called.
        rates: f(x, parameters, xp) of x [..., n]; xp is torch, jax.numpy or numpy.
        parameters: [B] each; those named in `shared` have no batch axis.
        start: [B, n].
        times: [T], the first is the initial time.
        target: the error at which contestants are compared.
        absolute: the absolute tolerance over the relative one.
        shared: the parameters that all samples have in common.
    """

    title: str
    rates: Callable[..., Any]
    parameters: Tensors
    start: Tensor
    times: Tensor
    target: float = 1e-5
    absolute: float = 1.0
    shared: frozenset[str] = field(default_factory=frozenset)

    @cached_property
    def reference(self) -> Tensor:
        """The solution at the save times after the first, [B, T - 1, n].

        Explicit, and so without a nonlinear solver whose errors would enter: mildly
        stiff problems only cost more steps.
        """
        given = {name: value.numpy() for name, value in self.parameters.items()}
        shape, times = self.start.shape, self.times.numpy()

        def rates(_: float, x: np.ndarray) -> np.ndarray:
            return self.rates(x.reshape(shape), given, np).ravel()

        solution = solve_ivp(
            rates, (times[0], times[-1]), self.start.numpy().ravel(), "DOP853",
            t_eval=times[1:], rtol=REFERENCE, atol=REFERENCE * self.absolute,
        )  # fmt: skip
        assert solution.success, solution.message
        return torch.from_numpy(solution.y.T.reshape(-1, *shape)).transpose(0, 1)

    def error(self, value: Any) -> float:
        """Root mean square of the error over the size of each state, of x [B, T, n]."""
        reference = self.reference
        value = torch.from_numpy(np.array(value))[:, -reference.shape[1] :]
        scale = reference.abs().amax(1, keepdim=True)
        return ((value - reference) / scale).square().mean().sqrt().item()

    @cached_property
    def gradients(self) -> list[Tensor]:
        """Of the weighted sum to the start and to each parameter.

        Through the classical Runge-Kutta method with many steps between the ends.
        """
        start, given = leaves(self)
        x, total = start, (start * weights(self)).sum()
        steps = max(1, FINE_STEPS // (len(self.times) - 1))
        for low, high in zip(self.times[:-1], self.times[1:], strict=True):
            h = ((high - low) / steps).item()
            for _ in range(steps):
                k1 = self.rates(x, given, torch)
                k2 = self.rates(x + h / 2 * k1, given, torch)
                k3 = self.rates(x + h / 2 * k2, given, torch)
                k4 = self.rates(x + h * k3, given, torch)
                x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
            total = total + (x * weights(self)).sum()
        return list(torch.autograd.grad(total, [start, *given.values()]))

    def first(self, count: int) -> "Problem":
        """The same problem of fewer samples, spread over the batch."""
        rows = slice(None, None, max(1, len(self.start) // count))
        own = {
            name: value if name in self.shared else value[rows]
            for name, value in self.parameters.items()
        }
        return replace(self, start=self.start[rows], parameters=own)


def leaves(problem: Problem) -> tuple[Tensor, Tensors]:
    """The start and the parameters, to be differentiated in."""
    given = {k: v.clone().requires_grad_() for k, v in problem.parameters.items()}
    return problem.start.clone().requires_grad_(), given


def weights(problem: Problem) -> Tensor:
    """Of the sum over saves whose gradient is taken, [n]."""
    n = problem.start.shape[1]
    return torch.linspace(-1, 1, n, dtype=problem.start.dtype) + 0.25


# ---- the equations ------------------------------------------------------------------


def van_der_pol(x: Any, given: Mapping[str, Any], xp: Any) -> Any:
    """x'' = mu (1 - x^2) x' - x."""
    position, speed = x[..., 0], x[..., 1]
    force = given["mu"] * (1 - position * position) * speed - position
    return xp.stack([speed, force], -1)


def lotka_volterra(x: Any, given: Mapping[str, Any], xp: Any) -> Any:
    """Prey a x - b x y, predators d x y - c y."""
    prey, predators = x[..., 0], x[..., 1]
    met = prey * predators
    return xp.stack(
        [
            given["a"] * prey - given["b"] * met,
            given["d"] * met - given["c"] * predators,
        ],
        -1,
    )


def robertson(x: Any, given: Mapping[str, Any], xp: Any) -> Any:
    """Three reactions whose rates lie nine decades apart."""
    first = given["k1"] * x[..., 0]
    second = given["k2"] * x[..., 1] * x[..., 1]
    third = given["k3"] * x[..., 1] * x[..., 2]
    return xp.stack([third - first, first - third - second, second], -1)


def network(x: Any, given: Mapping[str, Any], xp: Any) -> Any:
    """Two hidden layers with tanh."""
    # In torch as nn.Linear computes it.
    layer = torch.addmm if xp is torch else lambda b, x, W: x @ W + b
    x = xp.tanh(layer(given["b1"], x, given["W1"]))
    x = xp.tanh(layer(given["b2"], x, given["W2"]))
    return layer(given["b3"], x, given["W3"])


def decay(x: Any, given: Mapping[str, Any], xp: Any) -> Any:
    """x' = -k x, the cheapest of all: what is left is the loop."""
    return -given["k"] * x


# ---- the problems -------------------------------------------------------------------


def _wide(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def oscillators(
    batch: int = 256, highest: float = 20, end: float = 20, saves: int = 200
) -> Problem:
    """Van der Pol, each with its mu."""
    return Problem(
        f"Van der Pol, mu in [1, {highest:g}], t to {end:g}, batch {batch}, "
        f"{saves} saves",
        van_der_pol,
        {"mu": torch.linspace(highest, 1, batch, dtype=torch.float64)},
        _wide(2, 0).expand(batch, 2).contiguous(),
        torch.linspace(0, end, saves, dtype=torch.float64),
    )


def predators(batch: int) -> Problem:
    """Lotka-Volterra with 20 saves, from starts apart."""
    rates = {"a": 1.5, "b": 1.0, "c": 3.0, "d": 1.0}
    return Problem(
        f"Lotka-Volterra, t to 10, batch {batch}, 20 saves",
        lotka_volterra,
        {name: torch.full((batch,), one).double() for name, one in rates.items()},
        torch.linspace(1, 2, batch, dtype=torch.float64).unsqueeze(1).expand(-1, 2)
        .contiguous(),
        torch.linspace(0, 10, 20, dtype=torch.float64),
    )  # fmt: skip


def neural(n: int = 32, hidden: int = 64, batch: int = 128) -> Problem:
    """A neural ODE whose weights are drawn as torch draws them."""
    draw = partial(
        torch.randn, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    sizes = (n, hidden, hidden, n)
    parameters: Tensors = {}
    for i in range(1, 4):
        inputs, outputs = sizes[i - 1], sizes[i]
        parameters[f"W{i}"] = draw(inputs, outputs) / inputs**0.5
        parameters[f"b{i}"] = draw(outputs) / inputs**0.5
    return Problem(
        f"Neural ODE, {n}-{hidden}-{hidden}-{n}, t to 1, batch {batch}, the end saved",
        network, parameters, draw(batch, n), _wide(0, 1), 1e-6,
        shared=frozenset(parameters),
    )  # fmt: skip


def kinetics(batch: int = 64) -> Problem:
    """Robertson with the constants of each sample within a fifth of the usual ones."""
    generator = torch.Generator().manual_seed(0)
    usual = {"k1": 0.04, "k2": 3e7, "k3": 1e4}
    parameters = {
        name: one * (0.8 + 0.4 * torch.rand(batch, generator=generator).double())
        for name, one in usual.items()
    }
    for name, one in usual.items():
        parameters[name][0] = one
    return Problem(
        f"Robertson, t to 40, batch {batch}, the end saved", robertson, parameters,
        _wide(1, 0, 0).expand(batch, 3).contiguous(), _wide(0, 40), 1e-6, absolute=1e-4,
    )  # fmt: skip


def loop(batch: int = 64, n: int = 2) -> Problem:
    """A field that costs next to nothing."""
    return Problem(
        f"Loop time: x' = -k x, n = {n}, t to 5, batch {batch}, the end saved", decay,
        {"k": torch.linspace(0.5, 1, batch, dtype=torch.float64).unsqueeze(1)},
        torch.ones(batch, n, dtype=torch.float64), _wide(0, 5), 1e-6, absolute=1e-2,
    )  # fmt: skip
