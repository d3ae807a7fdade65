"""Cone programs whose solution is known by construction.

Any x and v make a solution of the program with y = proj(v), s = y - v, q = -(P x + A'y)
and b = A x + s; no solver is needed.
"""

import torch
from torch import Tensor

from optlayers.programs.cone_program import ConeProgram
from optlayers.programs.cones import Cones

QP = Cones(zero=1, nonneg=4)
SOCP = Cones(zero=1, nonneg=1, soc=(3, 2))


def known_program(
    cones: Cones, *, batch: int = 2, n: int = 4, is_shared: bool = False, seed: int = 0
) -> tuple[ConeProgram, Tensor]:
    """A strictly convex program and its point z, [B, n + m], far from every kink.

    Second-order cones are active, on their boundary. With `is_shared`, P and A have no
    batch axis.
    """
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    lead = () if is_shared else (batch,)
    L = random(*lead, n, n)
    P = L @ L.mT / n + torch.eye(n, dtype=torch.float64)
    A, x, v = random(*lead, cones.size, n), random(batch, n), random(batch, cones.size)
    v = v + 0.1 * v.sign()
    first = cones.zero + cones.nonneg
    for size in cones.soc:
        length = v[:, first + 1 : first + size].norm(dim=1)
        v[:, first] = 0.5 * length * v[:, first].sign()
        first += size
    return program_at(P, A, x, v, cones), torch.cat([x, v], 1)


def program_at(P: Tensor, A: Tensor, x: Tensor, v: Tensor, cones: Cones) -> ConeProgram:
    """The program with these P and A that [x, v] solves."""
    y = cones.project_dual(v)
    q = -(P @ x.unsqueeze(2) + A.mT @ y.unsqueeze(2)).squeeze(2)
    b = (A @ x.unsqueeze(2)).squeeze(2) + y - v
    return ConeProgram(P, q, A, b, cones)


def newton(program: ConeProgram, start: Tensor) -> Tensor:
    """The point of a program near `start`, to rounding."""
    program, point = program.detach(), start.detach()
    for _ in range(8):
        point = point - program.linearize(point).solve(program.residual(point))
    assert float(program.residual(point).abs().amax()) < 1e-11
    return point


def numbers_of(program: ConeProgram) -> list[Tensor]:
    """Fresh leaves P, q, A, b that require gradients."""
    return [tensor.detach().clone().requires_grad_() for tensor in program.tensors()]


def symmetric(P: Tensor) -> Tensor:
    """The symmetric part, so that any perturbation of P is a valid one."""
    return (P + P.mT) / 2
