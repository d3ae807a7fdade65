"""Random cone programs whose derivative is known without any projection."""

import numpy as np
import torch

from optlayers.functional import Cones


def rows_of(V):
    """Upper triangles column by column, off-diagonals times sqrt 2, [*, k, k]."""
    order = V.shape[-1]
    cols, rows = torch.tril_indices(order, order)
    weights = torch.where(rows == cols, 1.0, 2.0).double().sqrt()
    return V[..., rows, cols] * weights


def matrix_of(v):
    """The symmetric matrices of rows, [*, k (k + 1) / 2] -> [*, k, k]."""
    order = int((8 * v.shape[-1] + 1) ** 0.5) // 2
    cols, rows = torch.tril_indices(order, order)
    V = v.new_zeros(*v.shape[:-1], order, order)
    V[..., rows, cols] = v / torch.where(rows == cols, 1.0, 2.0).double().sqrt()
    return V + V.mT - torch.diag_embed(V.diagonal(dim1=-2, dim2=-1))


def random_semidefinite(batch, order, equalities, seed):
    """minimize <C, X> subject to <A_i, X> = b_i, X semidefinite: q, A, b and cones.

    Both sides have interior points, so that solutions exist.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(batch, *shape, generator=generator, dtype=torch.float64)

    def definite():
        L = draw(order, order)
        return rows_of(L @ L.mT / order + 0.1 * torch.eye(order, dtype=torch.float64))

    A = rows_of((lambda M: (M + M.mT) / 2)(draw(equalities, order, order)))
    X, y = definite(), draw(equalities)
    q = torch.einsum("bpn,bp->bn", A, y) + definite()
    size = A.shape[-1]
    identity = torch.eye(size, dtype=torch.float64).expand(batch, -1, -1)
    b = torch.cat([torch.einsum("bpn,bn->bp", A, X), torch.zeros(batch, size)], 1)
    cones = Cones(zero=equalities, psd=(order,))
    return q, torch.cat([A, -identity], 1), b.double(), cones


def gradient_by_complementarity(q, A, b, x, y, weights):
    """Of weights'x in q, A, b, from the linear system of the optimality conditions.

    q + A'y - z = 0, A x = b and (X Z + Z X) / 2 = 0 with X and Z the matrices of x and
    z, one sample in numpy. Source: Alizadeh, Haeberly, Overton, "Primal-dual
    interior-point methods for semidefinite programming" (1998), section 2.
    """
    n, p = len(q), len(b)
    X, Z = matrix_of(x), matrix_of(q + A.mT @ y)
    basis = matrix_of(torch.eye(n, dtype=torch.float64))

    def halves(M):
        return rows_of((M @ basis + basis @ M) / 2).mT.numpy()

    K = np.zeros((2 * n + p, 2 * n + p))
    K[:n, n : n + p], K[:n, n + p :] = A.mT.numpy(), -np.eye(n)
    K[n : n + p, :n] = A.numpy()
    K[n + p :, :n], K[n + p :, n + p :] = halves(Z), halves(X)
    right = np.concatenate([weights.numpy(), np.zeros(p + n)])
    adjoint = torch.from_numpy(np.linalg.solve(K.T, right))
    on_q, on_b = adjoint[:n], adjoint[n : n + p]
    return -on_q, -(torch.outer(y, on_q) + torch.outer(on_b, x)), on_b
