"""Proofs that a quadratic program has no solution, found as small projections.

Infeasible: y in K* with A'y = 0 and b'y < 0. Unbounded: a ray x with P x = 0,
-A x in K and q'x < 0. Both for rows A x = b first (`zero` of them), then A x <= b.
"""

import daqp
import numpy as np

from optlayers.solvers.convex.arrays import Array

_SETTINGS = {"primal_tol": 1e-11, "eta_prox": 1e-13}


def least_violation(A: Array, b: Array, zero: int) -> tuple[Array, Array]:
    """The x [n] that breaks the constraints least, and by how much it does, [m].

    At the minimum of |t|^2 subject to A x - b = t in equalities and A x - b <= t in
    inequalities, A't = 0 and b't = -|t|^2: the violations t are the certificate.
    """
    m, n = A.shape
    weights = np.concatenate([np.zeros(n), np.ones(m)])
    rows = np.concatenate([A, -np.eye(m)], axis=1)
    sense = np.zeros(m, np.int32)
    sense[:zero] = 5
    point, _, flag, _ = daqp.solve(
        np.diag(weights), np.zeros(n + m), rows, b, np.full(m, -1e30), sense,
        **_SETTINGS,
    )  # fmt: skip
    if flag < 1 or not np.isfinite(point).all():
        return np.zeros(n), np.zeros(m)
    t = point[n:]
    t[zero:] = np.maximum(t[zero:], 0)
    return point[:n], t


def steepest_ray(P: Array, q: Array, A: Array, zero: int) -> Array:
    """The direction nearest to -q along which only the objective changes, [n]."""
    m, n = A.shape
    rows = np.concatenate([P, A])
    sense = np.zeros(n + m, np.int32)
    sense[: n + zero] = 5
    ray, _, flag, _ = daqp.solve(
        np.eye(n), q, rows, np.zeros(n + m), np.full(n + m, -1e30), sense, **_SETTINGS
    )
    return ray if flag >= 1 and np.isfinite(ray).all() else np.zeros(n)
