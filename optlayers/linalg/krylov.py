"""Krylov methods for a batch of square systems known by their products alone.

Every row is a system of its own; finished rows stay frozen. Nothing here has a
derivative; see `matrix_free.py` for that.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]

# Steps of GMRES between two looks at how far it is, each a small least-squares problem.
LOOK_EVERY = 5
# Steps of Richardson's iteration between two looks, and what share of a residual may be
# left after them: twelve digits take at most 160 products then, and stabilized
# biconjugate gradients, at twice the work beside each, would not take half of them.
RICHARDSON_LOOK = 4
RICHARDSON_SHARE = 0.5


class Krylov(NamedTuple):
    """Solutions of linear systems.

    Attributes:
        value: x, [B, n].
        residual: |b - J x| / |b|, [B]; zero where b is.
    """

    value: Tensor
    residual: Tensor


def gmres(
    matvec: Product,
    b: Tensor,
    *,
    tolerance: float | Tensor,
    max_steps: int,
    restart: int = 30,
) -> Krylov:
    """Generalized minimal residuals: the best point of each Krylov space.

    Source: Y. Saad, M. H. Schultz (1986), algorithm 4, by Arnoldi with a second
    orthogonalization.

    Args:
        matvec: x -> J x, [B, n] -> [B, n].
        b: [B, n].
        tolerance: relative residual that ends a row, one number or [B].
        max_steps: most products per row.
        restart: largest dimension of a space.
    """
    x, goal = torch.zeros_like(b), tolerance * b.norm(dim=1)
    residual, left = b, max_steps
    while left > 0:
        active = residual.norm(dim=1, keepdim=True) > goal.unsqueeze(1)
        if not active.any():
            break
        size = min(restart, left, b.shape[1])
        x = torch.where(active, x + _cycle(matvec, residual, goal, size), x)
        residual = b - matvec(x)
        left -= size + 1
    return _measured(b, x, residual)


def richardson(matvec: Product, b: Tensor, *, tolerance: float) -> Krylov:
    """x <- x + (b - J x): one product and one sum a step, for J near the identity.

    Rows whose residual shrinks too slowly, or grows, are given up at x = 0.

    Source: L. F. Richardson (1911); C. Neumann's series, summed term by term.

    Args:
        matvec: x -> J x, [B, n] -> [B, n].
        b: [B, n].
        tolerance: relative residual that ends a row.
    """
    size = b.norm(dim=1)
    goal = tolerance * size
    active = size > goal
    x, chosen = b, torch.zeros_like(b)
    while active.any():
        before = size
        for _ in range(RICHARDSON_LOOK - 1):
            x = x + (b - matvec(x))
        residual = b - matvec(x)
        size = residual.norm(dim=1)
        # What a row gets is that of its own last look, whatever others take.
        is_done = active & (size <= goal)
        if is_done.any():
            chosen = torch.where(is_done.unsqueeze(1), x, chosen)
        active = active & ~is_done & (size <= RICHARDSON_SHARE * before)
        x = x + residual
    return _measured(b, chosen, b - matvec(chosen))


def bicgstab(matvec: Product, b: Tensor, *, tolerance: float, max_steps: int) -> Krylov:
    """Stabilized biconjugate gradients: two products a step, little memory.

    Source: H. A. van der Vorst (1992).

    Args:
        matvec: x -> J x, [B, n] -> [B, n].
        b: [B, n].
        tolerance: relative residual that ends a row.
        max_steps: most products per row.
    """
    x, r, goal = torch.zeros_like(b), b, tolerance * b.norm(dim=1, keepdim=True)
    if not goal.any():
        return _measured(b, x, r)
    shadow, p = b, b
    rho = _dot(shadow, r)
    for _ in range(max_steps // 2):
        active = r.norm(dim=1, keepdim=True) > goal
        if not active.any():
            break
        v = matvec(p)
        alpha = _ratio(rho, _dot(shadow, v))
        s = torch.addcmul(r, alpha, v, value=-1)
        t = matvec(s)
        omega = _ratio(_dot(t, s), _dot(t, t))
        moved = torch.addcmul(torch.addcmul(x, alpha, p), omega, s)
        new = torch.addcmul(s, omega, t, value=-1)
        following = _dot(shadow, new)
        beta = _ratio(following, rho) * _ratio(alpha, omega)
        turned = torch.addcmul(new, beta, torch.addcmul(p, omega, v, value=-1))
        if active.all():
            x, p, r, rho = moved, turned, new, following
            continue
        x, p = torch.where(active, moved, x), torch.where(active, turned, p)
        r, rho = torch.where(active, new, r), torch.where(active, following, rho)
    return _measured(b, x, b - matvec(x))


def normal_cg(
    matvec: Product,
    transposed: Product,
    b: Tensor,
    *,
    tolerance: float,
    max_steps: int,
) -> Krylov:
    """Conjugate gradients on J'J x = J'b: least squares, minimum norm if singular.

    Source: M. R. Hestenes, E. Stiefel (1952), section 10 (CGLS).

    Args:
        matvec: x -> J x, [B, n] -> [B, n].
        transposed: y -> J'y, [B, n] -> [B, n].
        b: [B, n].
        tolerance: size of J'(b - J x) relative to J'b that ends a row.
        max_steps: most pairs of products per row.
    """
    x, r = torch.zeros_like(b), b
    s = transposed(r)
    p, gamma = s, _dot(s, s)
    goal = tolerance**2 * gamma
    for _ in range(max_steps):
        active = gamma > goal
        if not active.any():
            break
        q = matvec(p)
        alpha = torch.where(active, _ratio(gamma, _dot(q, q)), 0.0)
        x, r = x + alpha * p, r - alpha * q
        s = transposed(r)
        following = _dot(s, s)
        p = s + _ratio(following, gamma) * p
        gamma = torch.where(active, following, gamma)
    return _measured(b, x, b - matvec(x))


def _cycle(matvec: Product, r: Tensor, goal: Tensor, size: int) -> Tensor:
    """The correction of least residual in the Krylov space of r, [B, n].

    A row whose goal is reached keeps the correction of that moment, so that none
    depends on how long others take.
    """
    batch, n = r.shape
    length = r.norm(dim=1)
    basis = r.new_zeros(batch, size + 1, n)
    basis[:, 0] = r / length.clamp_min(torch.finfo(r.dtype).tiny).unsqueeze(1)
    H = r.new_zeros(batch, size + 1, size)
    right = r.new_zeros(batch, size + 1, 1)
    right[:, 0, 0] = length
    chosen = r.new_zeros(batch, size, 1)
    is_done = torch.zeros_like(length, dtype=torch.bool)
    for k in range(size):
        w = matvec(basis[:, k])
        for _ in range(2):
            weights = torch.bmm(basis[:, : k + 1], w.unsqueeze(2))
            w = w - torch.bmm(basis[:, : k + 1].mT, weights).squeeze(2)
            H[:, : k + 1, k] += weights.squeeze(2)
        H[:, k + 1, k] = w.norm(dim=1)
        safe = H[:, k + 1, k].clamp_min(torch.finfo(r.dtype).tiny)
        basis[:, k + 1] = w / safe.unsqueeze(1)
        is_last = k + 1 == size
        if (k + 1) % LOOK_EVERY == 0 or is_last:
            part = H[:, : k + 2, : k + 1]
            weights = _least_squares(part, right[:, : k + 2])
            gap = (right[:, : k + 2] - part @ weights).squeeze(2).norm(dim=1)
            ends = ~is_done & ((gap <= goal) | is_last)
            chosen[:, : k + 1] = torch.where(
                ends.view(-1, 1, 1), weights, chosen[:, : k + 1]
            )
            is_done = is_done | ends
            if is_done.all():
                break
    return torch.bmm(basis[:, :size].mT, chosen).squeeze(2)


def _least_squares(H: Tensor, right: Tensor) -> Tensor:
    """The minimizer of |right - H y|, [B, k, 1], the shortest where H loses rank."""
    Q, R = torch.linalg.qr(H)
    size = R.diagonal(dim1=1, dim2=2).abs()
    limit = 100 * torch.finfo(H.dtype).eps * size.amax(1, keepdim=True)
    y = torch.linalg.solve_triangular(R, Q.mT @ right, upper=True)
    lost = (~(size > limit)).any(1)
    if lost.any():
        y[lost] = torch.linalg.pinv(H[lost].nan_to_num(0.0, 0.0, 0.0)) @ right[lost]
    return y


def _measured(b: Tensor, x: Tensor, residual: Tensor) -> Krylov:
    size = b.norm(dim=1)
    relative = residual.norm(dim=1) / size.clamp_min(torch.finfo(b.dtype).tiny)
    return Krylov(x, torch.where(size == 0, 0.0, relative))


def _dot(first: Tensor, second: Tensor) -> Tensor:
    return (first * second).sum(1, keepdim=True)


def _ratio(top: Tensor, bottom: Tensor) -> Tensor:
    """top / bottom, 0 where that is not finite."""
    ratio = top / bottom
    return torch.where(ratio.isfinite(), ratio, 0.0)
