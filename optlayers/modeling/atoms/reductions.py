"""Torch functions of the atoms that reduce axes, of one sample.

Names differ from cvxpy's where those would hide Python's sum, max and min. Norms have
gradient zero at the origin.
"""

import math
from typing import Any

import torch
from torch import Tensor

from optlayers.modeling.atoms.shapes import Axis, reduced_axes


def total(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Sum over axes."""
    axes = reduced_axes(x.ndim, axis)
    return torch.sum(x, axes, keepdim=keepdims) if axes else x


def mean(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Mean over axes."""
    axes = reduced_axes(x.ndim, axis)
    return torch.mean(x, axes, keepdim=keepdims) if axes else x


def var(
    x: Tensor, axis: Axis = None, keepdims: bool = False, ddof: float = 0
) -> Tensor:
    """Sum of squared deviations from the mean, over the count less ddof."""
    deviation = x - mean(x, axis, keepdims=True)
    return sum_squares(deviation, axis, keepdims) / (_count(x, axis) - ddof)


def std(
    x: Tensor, axis: Axis = None, keepdims: bool = False, ddof: float = 0
) -> Tensor:
    """Square root of the variance, with gradient zero where all entries agree."""
    deviation = x - mean(x, axis, keepdims=True)
    return pnorm(deviation, 2, axis, keepdims) / (_count(x, axis) - ddof) ** 0.5


def largest(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Largest entry; ties share the gradient."""
    axes = reduced_axes(x.ndim, axis)
    return torch.amax(x, axes, keepdim=keepdims) if axes else x


def smallest(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Smallest entry; ties share the gradient."""
    axes = reduced_axes(x.ndim, axis)
    return torch.amin(x, axes, keepdim=keepdims) if axes else x


def ptp(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Largest entry less the smallest."""
    return largest(x, axis, keepdims) - smallest(x, axis, keepdims)


def sum_squares(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Sum of the squared entries over axes."""
    return total(x * x, axis, keepdims)


def log_sum_exp(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Logarithm of the sum of exponentials."""
    axes = reduced_axes(x.ndim, axis)
    return torch.logsumexp(x, axes, keepdim=keepdims) if axes else x


def sum_largest(
    x: Tensor, k: float = 1, axis: Axis = None, keepdims: bool = False
) -> Tensor:
    """Sum of the k largest entries; a fractional k counts a part of the next one."""
    flat = join_last(x, axis)
    count = flat.shape[-1]
    whole = int(k) if k < count else count
    ranked = torch.topk(flat, count if whole == count else whole + 1, dim=-1).values
    result = ranked[..., :whole].sum(dim=-1)
    if whole < count and k > whole:
        result = result + (k - whole) * ranked[..., whole]
    return restore_axes(result, x, axis, keepdims)


def cvar(x: Tensor, beta: float) -> Tensor:
    """Mean of the largest entries, a share 1 - beta of all."""
    k = (1 - beta) * x.shape[0]
    return sum_largest(x, k) / k


def sum_smallest(
    x: Tensor, k: float = 1, axis: Axis = None, keepdims: bool = False
) -> Tensor:
    """Sum of the k smallest entries."""
    return -sum_largest(-x, k, axis, keepdims)


def geo_mean(
    x: Tensor,
    p: Any = None,
    axis: Axis = None,
    keepdims: bool = False,
    **_: Any,
) -> Tensor:
    """Weighted geometric mean; -inf where an entry with weight is negative."""
    flat = join_last(x, axis)
    weights = torch.ones(flat.shape[-1], dtype=flat.dtype, device=flat.device)
    if p is not None:
        weights = torch.as_tensor(p).to(weights)
    weights = weights / weights.sum()
    flat = torch.where(weights > 0, flat, 1.0)
    positive = (flat > 0).all(dim=-1)
    inside = torch.where(positive[..., None], flat, 1.0)
    result = (weights * inside.log()).sum(dim=-1).exp()
    result = torch.where(positive, result, 0.0)
    result = torch.where((flat < 0).any(dim=-1), -torch.inf, result)
    return restore_axes(result, x, axis, keepdims)


def inv_prod(value: Tensor, **_: Any) -> Tensor:
    """Reciprocal of the product of all entries; +inf where one is not positive."""
    positive = (value > 0).all()
    logs = torch.where(positive, value, 1.0).log()
    return torch.where(positive, torch.exp(-logs.sum()), torch.inf)


def harmonic_mean(x: Tensor) -> Tensor:
    """Count over the sum of reciprocals; -inf where an entry is negative."""
    return x.numel() * _small_pnorm(x.reshape(-1), -1.0)


# ---- norms ----------------------------------------------------------------------


def pnorm(
    x: Tensor, p: Any = 2, axis: Axis = None, keepdims: bool = False, **_: Any
) -> Tensor:
    """(sum |x|^p)^(1/p) over axes; for p < 1 of nonnegative x, -inf elsewhere."""
    exponent = float(p)
    if exponent < 1:
        result = _small_pnorm(join_last(x, axis), exponent)
        return restore_axes(result, x, axis, keepdims)
    axes = reduced_axes(x.ndim, axis)
    if not axes:
        return x.abs()
    if x.numel() == 0:
        return total(x.abs(), axis, keepdims)
    return torch.linalg.vector_norm(x, exponent, axes, keepdim=keepdims)


def _small_pnorm(flat: Tensor, p: float) -> Tensor:
    """(sum x^p)^(1/p) over the last axis for p < 1."""
    positive = flat > 0
    powers = torch.where(positive, torch.where(positive, flat, 1.0) ** p, 0.0)
    regular = positive.all(dim=-1) if p < 0 else positive.any(dim=-1)
    result = torch.where(regular, powers.sum(dim=-1), 1.0) ** (1 / p)
    result = torch.where(regular, result, 0.0)
    return torch.where((flat < 0).any(dim=-1), -torch.inf, result)


def norm1(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Sum of magnitudes."""
    return total(x.abs(), axis, keepdims)


def norm_inf(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Largest magnitude."""
    return largest(x.abs(), axis, keepdims)


def norm(x: Tensor, p: Any = 2, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Norm of a vector or along an axis; of a matrix the operator norms."""
    word = str(p).lower()
    if x.ndim == 2 and axis is None:
        if word == "1":
            return norm1(x, axis=0).amax()
        if word == "inf":
            return norm1(x, axis=1).amax()
        if word == "nuc":
            return norm_nuc(x)
        if word == "2" and min(x.shape) > 1:
            return sigma_max(x)
        return pnorm(x)
    return pnorm(x, 2 if word == "fro" else p, axis, keepdims)


def mixed_norm(X: Tensor, p: Any = 2, q: Any = 1) -> Tensor:
    """q-norm of the p-norms of the rows."""
    return pnorm(pnorm(X, p, axis=1), q)


def sigma_max(A: Tensor) -> Tensor:
    """Largest singular value."""
    return torch.linalg.matrix_norm(A, 2)


def norm_nuc(A: Tensor) -> Tensor:
    """Sum of singular values."""
    return torch.linalg.matrix_norm(A, "nuc")


# ---- axes -----------------------------------------------------------------------


def _count(x: Tensor, axis: Axis) -> int:
    """How many entries a reduction takes together."""
    return math.prod(x.shape[k] for k in reduced_axes(x.ndim, axis))


def join_last(x: Tensor, axis: Axis) -> Tensor:
    """The reduced axes moved to the end and joined."""
    axes = reduced_axes(x.ndim, axis)
    kept = [k for k in range(x.ndim) if k not in axes]
    return x.permute((*kept, *axes)).reshape((*(x.shape[k] for k in kept), -1))


def restore_axes(result: Tensor, x: Tensor, axis: Axis, keepdims: bool) -> Tensor:
    """The result with its reduced axes put back as ones where that was asked."""
    if not keepdims:
        return result
    axes = reduced_axes(x.ndim, axis)
    return result.reshape([1 if k in axes else n for k, n in enumerate(x.shape)])
