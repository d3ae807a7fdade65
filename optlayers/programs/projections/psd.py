"""The cone of positive semidefinite matrices, which is its own dual.

A matrix of order k takes k (k + 1) / 2 rows: its upper triangle column by column, with
off-diagonal entries times sqrt 2, so that products of rows are those of matrices.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from optlayers.programs.projections.block import Block
from optlayers.programs.projections.derivatives import is_constant

# An eigenvalue of a polished point is known to about a tenth of this.
KINK = 1e-8


def project(v: Tensor, block: Block) -> Tensor:
    """The nearest points of the cones, [B, number, size] -> [B, number, size].

    Differentiable three times where no eigenvalue is zero. Derivatives never divide by
    a difference of eigenvalues, so these may repeat.
    """
    layout = _layout(v)
    at = _Spectrum.of(_to_matrix(v.detach(), layout))
    value = (at.Q * at.eigenvalues.clamp_min(0).unsqueeze(-2)) @ at.Q.mT
    if is_constant(v):  # a third of the time
        return _to_rows(value, layout)
    change = v - v.detach()  # zero, with all derivatives
    change = at.Q.mT @ _to_matrix(change, layout) @ at.Q
    return _to_rows(value + at.Q @ _expansion(change, at) @ at.Q.mT, layout)


def derivative(v: Tensor, block: Block) -> Tensor:
    """That of `project`, symmetric, [B, number, size] -> [B, number, size, size]."""
    layout = _layout(v)
    at = _Spectrum.of(_to_matrix(v.detach(), layout))
    # A row a of T is the basis matrix a of the cone's rows, seen from the eigenvectors:
    # Q'(e_r e_c' + e_c e_r') Q / 2, in rows again. T is orthogonal.
    R, C = at.Q[..., layout.rows, :], at.Q[..., layout.cols, :]
    T = R[..., layout.rows] * C[..., layout.cols]
    T = (T + C[..., layout.rows] * R[..., layout.cols]) / 2
    T = T * layout.weights.unsqueeze(-1) * layout.weights
    # Divided differences of max(l, 0); one half where both eigenvalues are zero.
    slopes = (1 + at.shares()[..., layout.rows, layout.cols]) / 2
    return (T * slopes.unsqueeze(-2)) @ T.mT


def is_kink(v: Tensor, block: Block) -> Tensor:
    """Whether a matrix has an eigenvalue near zero, [B, number, size] -> bool [B]."""
    sizes = _Spectrum.of(_to_matrix(v.detach(), _layout(v))).eigenvalues.abs()
    is_small = sizes.amin(-1) <= KINK * (1 + sizes.amax(-1))
    return is_small.any(-1)


class _Spectrum(NamedTuple):
    """Eigenvalues l and eigenvectors of symmetric matrices.

    Attributes:
        eigenvalues: ascending, [.., k]; NaN where the matrix is not finite.
        Q: in columns, [.., k, k].
    """

    eigenvalues: Tensor
    Q: Tensor

    @classmethod
    def of(cls, V: Tensor) -> "_Spectrum":
        # LAPACK refuses the whole batch for one entry that is not finite.
        is_finite = V.isfinite().all(-1).all(-1)
        eigenvalues, Q = torch.linalg.eigh(
            torch.where(is_finite[..., None, None], V, 0.0)
        )
        return cls(torch.where(is_finite.unsqueeze(-1), eigenvalues, torch.nan), Q)

    def inverses(self) -> Tensor:
        """1 / (|l_i| + |l_j|), [.., k, k]; 0 where both are zero."""
        sizes = self.eigenvalues.abs()
        sums = sizes.unsqueeze(-1) + sizes.unsqueeze(-2)
        finfo = torch.finfo(sizes.dtype)
        rounding = finfo.eps * sizes.amax(-1)[..., None, None] + 4 * finfo.tiny
        is_zero = sums <= rounding
        return torch.where(is_zero, 0.0, 1 / torch.where(is_zero, 1.0, sums))

    def shares(self) -> Tensor:
        """(l_i + l_j) / (|l_i| + |l_j|), [.., k, k]; 0 where both are zero."""
        sums = self.eigenvalues.unsqueeze(-1) + self.eigenvalues.unsqueeze(-2)
        return sums * self.inverses()


def _expansion(change: Tensor, at: _Spectrum) -> Tensor:
    """By how much the projection moves, to third order in `change`; in eigenvectors.

    The nearest semidefinite matrix of V is (V + X) / 2 with the absolute value
    X = (V^2)^(1/2). With X = |l| + X1 + X2 + X3, X_j of order j, the terms of each
    order in X^2 = V^2 give |l_i| + |l_j| times X_j on the left.
    """
    inverses = at.inverses()
    X1 = at.shares() * change
    X2 = inverses * (change @ change - X1 @ X1)
    X3 = -inverses * (X1 @ X2 + X2 @ X1)
    return (change + X1 + X2 + X3) / 2


class _Layout(NamedTuple):
    """How the rows of a cone and the entries of its matrix correspond.

    Attributes:
        rows: the row of the matrix each row of the cone holds, [size].
        cols: its column, [size].
        weights: 1 on the diagonal and sqrt 2 off it, [size].
        places: the row of the cone that holds each entry of the matrix, [k, k].
    """

    rows: Tensor
    cols: Tensor
    weights: Tensor
    places: Tensor


def _layout(v: Tensor) -> _Layout:
    # Where code is compiled for a second size, dynamo makes it a symbol, of which isqrt
    # knows nothing; the length of a list is a number again.
    size = len([0] * v.shape[-1])
    order = (math.isqrt(8 * size + 1) - 1) // 2
    # The lower triangle row by row is the upper one column by column.
    cols, rows = torch.tril_indices(order, order, device=v.device)
    weights = torch.where(rows == cols, 1.0, 2.0).to(v.dtype).sqrt()
    each = torch.arange(order, device=v.device)
    larger = torch.maximum(each, each.unsqueeze(1))
    places = larger * (larger + 1) // 2 + torch.minimum(each, each.unsqueeze(1))
    return _Layout(rows, cols, weights, places)


def _to_matrix(v: Tensor, layout: _Layout) -> Tensor:
    """The symmetric matrices of rows, [.., size] -> [.., k, k]."""
    return (v / layout.weights)[..., layout.places]


def _to_rows(V: Tensor, layout: _Layout) -> Tensor:
    """The rows of symmetric matrices, [.., k, k] -> [.., size]."""
    return V[..., layout.rows, layout.cols] * layout.weights
