"""Derivatives of solutions by the sensitivity equations, integrated by SciPy.

S' = (df/dx) S + df/dp,   S(t0) = 0;   R' = (df/dx) R,   R(t0) = I
"""

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor


def van_der_pol(p: Tensor):
    """x' = y, y' = p (1 - x^2) y - x; p [1], or [B, 1] of each sample."""

    def field(time: Tensor, state: Tensor) -> Tensor:
        x, y = state.unbind(-1)
        return torch.stack((y, p[..., 0] * (1 - x * x) * y - x), -1)

    return field


def lotka_volterra(p: Tensor):
    """x' = a x - b x y, y' = -c y + d x y; p = (a, b, c, d), shared."""

    def field(time: Tensor, state: Tensor) -> Tensor:
        x, y = state.unbind(-1)
        rates = p[..., 0] * x - p[..., 1] * x * y, p[..., 3] * x * y - p[..., 2] * y
        return torch.stack(rates, -1)

    return field


def sensitivities(
    family, parameters: list[float], initial: list[float], times: list[float],
    method: str = "DOP853", rtol: float = 1e-10, atol: float = 1e-12,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """x [T, n], dx/dp [T, n, m] and dx/dx0 [T, n, n] at the times."""
    n, m = len(initial), len(parameters)
    given = torch.tensor(parameters, dtype=torch.float64)

    def rate(time: float, flat: np.ndarray) -> np.ndarray:
        x = torch.tensor(flat[:n])
        own = given.clone()

        def of(state: Tensor, p: Tensor) -> Tensor:
            return family(p)(torch.tensor(time), state)

        jacobian, slope = torch.autograd.functional.jacobian(of, (x, own))
        matrix = flat[n:].reshape(n, m + n)
        moved = jacobian.numpy() @ matrix
        moved[:, :m] += slope.numpy()
        return np.concatenate((of(x, own).numpy(), moved.reshape(-1)))

    start = np.concatenate((np.zeros((n, m)), np.eye(n)), 1)
    start = np.concatenate((np.array(initial), start.reshape(-1)))
    found = solve_ivp(
        rate, (times[0], times[-1]), start, method, t_eval=times, rtol=rtol, atol=atol
    )
    assert found.success
    flat = found.y.T
    matrix = flat[:, n:].reshape(len(times), n, m + n)
    return flat[:, :n], matrix[:, :, :m], matrix[:, :, m:]
