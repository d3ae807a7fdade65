"""Stiff problems with known solutions, and their sensitivities by SciPy."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from optlayers.programs.initial_value import InitialValueProgram
from tests.solvers.ode.problems import Field, columns

RATES = (0.04, 3e7, 1e4)


def robertson(rates: Tensor) -> Field:
    """Three reactions of the rates k, [..., 3], nine orders of magnitude apart."""

    def field(time: Tensor, state: Tensor) -> Tensor:
        x, y, z = state.unbind(1)
        k1, k2, k3 = rates.unbind(-1)
        first, second, third = k1 * x, k2 * y * y, k3 * y * z
        return columns(third - first, first - third - second, second)

    return field


def van_der_pol(eps: Tensor | float) -> Field:
    """y'' eps = (1 - y^2) y' - y."""

    def field(time: Tensor, state: Tensor) -> Tensor:
        x, y = state.unbind(1)
        return columns(y, ((1 - x * x) * y - x) / eps)

    return field


def oregonator(time: Tensor, state: Tensor) -> Tensor:
    """The reaction of Belousov and Zhabotinsky."""
    x, y, z = state.unbind(1)
    return columns(
        77.27 * (y + x * (1 - 8.375e-6 * x - y)),
        (z - (1 + x) * y) / 77.27,
        0.161 * (x - z),
    )


@dataclass(frozen=True)
class Stiff:
    """A problem with its solution at one time.

    Source: Hairer, Wanner, Solving ODEs II (1996), IV.10 and its test set.

    Attributes:
        field: f.
        start: at time zero.
        end: the time.
        value: the solution there.
        absolute: a tolerance well below every entry of it over a relative one of 1e-6.
    """

    field: Field
    start: list[float]
    end: float
    value: list[float]
    absolute: float

    def program(self, batch: int = 1) -> InitialValueProgram:
        """The problem, `batch` times, in float64."""
        return program(self.field, [self.start] * batch, [0.0, self.end])


STIFF = {
    "van der pol": Stiff(
        van_der_pol(1e-6), [2.0, 0.0], 2.0, [1.706167732170, -0.892809701025], 1e-6
    ),
    "robertson": Stiff(
        robertson(torch.tensor(RATES, dtype=torch.float64)), [1.0, 0.0, 0.0], 40.0,
        [7.158270687194e-1, 9.185534764558e-6, 2.841637457458e-1], 1e-10,
    ),
    "oregonator": Stiff(
        oregonator, [1.0, 2.0, 3.0], 360.0,
        [1.00081487032, 1228.17852152, 132.055494285], 1e-6,
    ),
}  # fmt: skip


def program(
    field: Field, start: list[list[float]] | Tensor, times: list[float]
) -> InitialValueProgram:
    """Problems with common times, in float64."""
    if not isinstance(start, Tensor):
        start = torch.tensor(start, dtype=torch.float64)
    shared = torch.tensor(times, dtype=torch.float64)
    return InitialValueProgram(field, start, shared.expand(len(start), -1))


def sensitivities(
    field: Callable[[np.ndarray], np.ndarray],
    in_state: Callable[[np.ndarray], np.ndarray],
    in_parameters: Callable[[np.ndarray], np.ndarray],
    start: list[float],
    end: float,
) -> tuple[np.ndarray, np.ndarray]:
    """dx(end)/dx0 [n, n] and dx(end)/dp [n, k], from S' = f_x S + f_p.

    Args:
        field: f(x), [n].
        in_state: f_x, [n, n].
        in_parameters: f_p, [n, k].
        start: x0.
        end: the time.
    """
    n = len(start)
    k = in_parameters(np.array(start)).shape[1]

    def joint(_: float, packed: np.ndarray) -> np.ndarray:
        x, S = packed[:n], packed[n:].reshape(n, n + k)
        moved = in_state(x) @ S
        moved[:, n:] += in_parameters(x)
        return np.concatenate((field(x), moved.ravel()))

    begin = np.concatenate((start, np.eye(n, n + k).ravel()))
    found = solve_ivp(joint, (0, end), begin, "LSODA", rtol=1e-11, atol=1e-15)
    S = found.y[n:, -1].reshape(n, n + k)
    return S[:, :n], S[:, n:]


def robertson_sensitivities(end: float) -> tuple[np.ndarray, np.ndarray]:
    """dx(end)/dx0 and dx(end)/dk of Robertson's problem, [3, 3] each."""
    k1, k2, k3 = RATES

    def field(x):
        a, b, c = k1 * x[0], k2 * x[1] ** 2, k3 * x[1] * x[2]
        return np.array([c - a, a - c - b, b])

    def in_state(x):
        first = np.array([-k1, k3 * x[2], k3 * x[1]])
        last = np.array([0.0, 2 * k2 * x[1], 0.0])
        return np.array([first, -first - last, last])

    def in_rates(x):
        return np.array([
            [-x[0], 0, x[1] * x[2]],
            [x[0], -(x[1] ** 2), -x[1] * x[2]],
            [0, x[1] ** 2, 0],
        ])  # fmt: skip

    return sensitivities(field, in_state, in_rates, [1.0, 0.0, 0.0], end)
