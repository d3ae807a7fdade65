"""Torch functions of the atoms of geometric programs, positive functions of positives.

Log-log convex or concave, neither convex nor concave; outside its domain a log-log
convex atom is +inf and a log-log concave one -inf or NaN.
"""

import torch
from torch import Tensor

from optlayers.modeling.atoms.reductions import join_last, restore_axes
from optlayers.modeling.atoms.shapes import Axis


def prod(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Product over axes."""
    return restore_axes(torch.prod(join_last(x, axis), dim=-1), x, axis, keepdims)


def cumprod(x: Tensor, axis: int = 0) -> Tensor:
    """Products so far."""
    return torch.cumprod(x, dim=axis)


def one_minus_pos(x: Tensor) -> Tensor:
    """1 - x for 0 < x < 1."""
    return torch.where(x <= 1, 1 - x, -torch.inf)


def diff_pos(x: Tensor, y: Tensor) -> Tensor:
    """x - y for x > y > 0."""
    return torch.where(x >= y, x - y, -torch.inf)


def eye_minus_inv(X: Tensor) -> Tensor:
    """(I - X)^-1 for positive X of spectral radius below 1."""
    eye = torch.eye(X.shape[0], dtype=X.dtype, device=X.device)
    # For X >= 0 the inverse is nonnegative if and only if the radius is below 1.
    inverse, failed = torch.linalg.inv_ex(eye - X.detach())
    inside = (X >= 0).all() & (inverse >= 0).all() & (failed == 0)
    inverse = torch.linalg.inv_ex(eye - torch.where(inside, X, 0.0)).inverse
    return torch.where(inside, inverse, torch.inf)


def resolvent(X: Tensor, s: Tensor) -> Tensor:
    """(s I - X)^-1 for positive X of spectral radius below s."""
    s = s.reshape(())
    scale = torch.where(s > 0, s, 1.0)
    return torch.where(s > 0, eye_minus_inv(X / scale) / scale, torch.inf)


def pf_eigenvalue(X: Tensor) -> Tensor:
    """Spectral radius of a positive matrix, which is its largest eigenvalue."""
    inside = (X >= 0).all()
    eye = torch.eye(X.shape[0], dtype=X.dtype, device=X.device)
    largest = torch.linalg.eigvals(torch.where(inside, X, eye)).real.amax()
    return torch.where(inside, largest, torch.inf)


def gmatmul(A: Tensor, X: Tensor) -> Tensor:
    """Products of the powers X_jk^A_ij over j."""
    return torch.exp(A @ torch.log(X))
