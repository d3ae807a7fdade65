"""Torch functions of atoms on whole vectors and matrices: products and spectra.

Symmetric arguments are symmetrized first, so that the gradient is symmetric too.
"""

from typing import Any

import torch
from torch import Tensor

from optlayers.modeling.atoms.reductions import largest, smallest, total
from optlayers.modeling.atoms.shapes import Axis


def quad_over_lin(
    x: Tensor, y: Tensor, axis: Axis = None, keepdims: bool = False
) -> Tensor:
    """Sum of squares of x, over y; +inf where y <= 0."""
    y = y.reshape(())
    squares = total(x * x, axis, keepdims)
    return torch.where(y > 0, squares / torch.where(y > 0, y, 1.0), torch.inf)


def quad_form(x: Tensor, P: Tensor, **_: Any) -> Tensor:
    """The quadratic form x' P x."""
    return x @ P @ x


def matrix_frac(X: Tensor, P: Tensor) -> Tensor:
    """Trace of X' P^-1 X; +inf where P is not positive definite."""
    factor, failed = torch.linalg.cholesky_ex(_symmetric(P))
    columns = X if X.ndim == 2 else X[:, None]
    half = torch.linalg.solve_triangular(factor, columns, upper=False)
    return torch.where(failed == 0, (half * half).sum(), torch.inf)


def vdot(x: Tensor, y: Tensor) -> Tensor:
    """Sum of products of entries, both taken row by row."""
    return (x.reshape(-1) * y.reshape(-1)).sum()


def dotsort(X: Tensor, W: Tensor) -> Tensor:
    """Largest entry times largest weight, and so on; missing weights are zero."""
    entries, weights = X.reshape(-1), W.reshape(-1)
    missing = entries.shape[0] - weights.shape[0]
    weights = torch.cat([weights, weights.new_zeros(missing)])
    return (entries.sort().values * weights.sort().values).sum()


def outer(x: Tensor, y: Tensor) -> Tensor:
    """All products of an entry of x and an entry of y."""
    return x.reshape(-1, 1) * y.reshape(1, -1)


def trace(X: Tensor) -> Tensor:
    """Sum of the diagonal."""
    return torch.diagonal(X).sum()


def lambda_max(A: Tensor) -> Tensor:
    """Largest eigenvalue of the symmetric part."""
    return largest(torch.linalg.eigvalsh(_symmetric(A)))


def lambda_min(X: Tensor) -> Tensor:
    """Smallest eigenvalue of the symmetric part."""
    return smallest(torch.linalg.eigvalsh(_symmetric(X)))


def lambda_sum_largest(X: Tensor, k: int) -> Tensor:
    """Sum of the k largest eigenvalues."""
    return torch.linalg.eigvalsh(_symmetric(X))[-k:].sum()


def lambda_sum_smallest(X: Tensor, k: int) -> Tensor:
    """Sum of the k smallest eigenvalues."""
    return torch.linalg.eigvalsh(_symmetric(X))[:k].sum()


def log_det(A: Tensor) -> Tensor:
    """Logarithm of det A; -inf where A is not positive definite."""
    factor, failed = torch.linalg.cholesky_ex(_symmetric(A))
    return torch.where(failed == 0, 2 * _safe_log_diagonal(factor, failed), -torch.inf)


def tr_inv(X: Tensor) -> Tensor:
    """Trace of the inverse; +inf where X is not positive definite."""
    return matrix_frac(torch.eye(X.shape[0], dtype=X.dtype, device=X.device), X)


def von_neumann_entr(X: Tensor, **_: Any) -> Tensor:
    """-trace(X log X); -inf where X is not positive semidefinite."""
    values = torch.linalg.eigvalsh(_symmetric(X))
    rounding = 8 * torch.finfo(X.dtype).eps * values.detach().abs().amax()
    return torch.special.entr(torch.where(values.abs() <= rounding, 0.0, values)).sum()


def convolve(left: Tensor, right: Tensor) -> Tensor:
    """Discrete convolution: entry k is the sum of left_i right_j over i + j = k."""
    left, right = left.reshape(-1), right.reshape(-1)
    products = left[:, None] * right[None, :]
    # Each row one place further right: a row longer by one, cut off at the end.
    padded = torch.nn.functional.pad(products, (0, left.shape[0]))
    length = left.shape[0] + right.shape[0] - 1
    shifted = padded.reshape(-1)[: left.shape[0] * length]
    return shifted.reshape(left.shape[0], length).sum(dim=0)


def einsum(*tensors: Tensor, subscripts: str, **_: Any) -> Tensor:
    """Sums of products over repeated subscripts."""
    return torch.einsum(subscripts, *tensors)


def tv(value: Tensor, *others: Tensor) -> Tensor:
    """Total variation: of a vector sum |differences|, of matrices sum of 2-norms."""
    if value.ndim == 1:
        return torch.diff(value).abs().sum()
    steps = []
    for image in (value, *others):
        corner = image[:-1, :-1]
        steps += [image[:-1, 1:] - corner, image[1:, :-1] - corner]
    return torch.linalg.vector_norm(torch.stack(steps), dim=0).sum()


def _symmetric(matrix: Tensor) -> Tensor:
    return (matrix + matrix.mT) / 2


def _safe_log_diagonal(factor: Tensor, failed: Tensor) -> Tensor:
    diagonal = torch.where(failed == 0, torch.diagonal(factor), 1.0)
    return diagonal.log().sum()
