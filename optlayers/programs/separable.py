"""Objectives that are sums of functions of single entries of affine functions.

f(x) = sum_k phi_k(u_k(x)) with u(x) = U x + c has the Hessian U' diag(phi'') U, whose
U is found once and whose phi'' costs two gradients.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

BatchFunction = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Separable:
    """The two functions such an objective is made of, for a batch.

    Attributes:
        arguments: u, affine, [B, n] -> [B, K].
        value: f as a function of u, [B, K] -> [B]; no entry of u meets another in it.
    """

    arguments: BatchFunction
    value: BatchFunction
    _known: dict[Any, Tensor] = field(default_factory=dict, init=False, repr=False)

    def hessian(self, x: Tensor) -> Tensor:
        """The second derivative of f, [B, n] -> [B, n, n], detached."""
        U = self._slopes(x)
        with torch.no_grad():
            u = self.arguments(x)
        weight = self._curvatures(u)
        return torch.bmm(U.mT, weight.unsqueeze(2) * U)

    def _slopes(self, x: Tensor) -> Tensor:
        """du/dx, the same everywhere, [B, K, n]."""
        key = (x.shape, x.dtype, x.device)
        if key not in self._known:
            self._known[key] = _slopes(self.arguments, torch.zeros_like(x))
        return self._known[key]

    def _curvatures(self, u: Tensor) -> Tensor:
        """phi''(u) of each entry, [B, K]."""
        with torch.inference_mode(False), torch.enable_grad():
            u = u.detach().clone().requires_grad_()
            value = self.value(u).sum()
            if not value.requires_grad:
                return torch.zeros_like(u)
            (slope,) = torch.autograd.grad(
                value, u, create_graph=True, materialize_grads=True
            )
            if not slope.requires_grad:
                return torch.zeros_like(u)
            # As no entry meets another, the slope of the sum holds every curvature.
            (found,) = torch.autograd.grad(slope.sum(), u, materialize_grads=True)
        return found


def _slopes(arguments: BatchFunction, x: Tensor) -> Tensor:
    """The derivative of an affine function, column by column, detached."""
    batch, n = x.shape
    with torch.inference_mode(False), torch.enable_grad():
        x = x.clone().requires_grad_()
        u = arguments(x)
        # U'w is linear in w, so its derivative along a unit vector is a column of U.
        w = torch.zeros_like(u).requires_grad_()
        (image,) = torch.autograd.grad(
            u, x, w, create_graph=True, materialize_grads=True
        )
        unit = torch.eye(n, dtype=x.dtype, device=x.device)
        columns = [
            torch.autograd.grad(
                image, w, one.expand(batch, n), retain_graph=True,
                materialize_grads=True,
            )[0]
            for one in unit
        ]  # fmt: skip
    return torch.stack(columns, 2)
