"""Sparse quadratic programs beside cvxpylayers: n = p = k = 1024, density 0.01 plus I.

minimize |x|^2/2 + q'x subject to A x = b, G x <= h, the generator of cvxpylayers'
profile. Residuals are checked before times are printed.
"""

import argparse
import statistics
import time

import cvxpy as cp
import numpy as np
import scipy.sparse as sp
import torch
from cvxpylayers.torch import CvxpyLayer

import optlayers as ol


def instance(n, batch):
    """Patterns of A and G, and the entries and vectors of a batch."""
    rng = np.random.default_rng(0)
    A, G = (
        sp.csr_array(sp.random_array((n, n), density=0.01, rng=rng) + sp.eye_array(n))
        for _ in range(2)
    )
    x = rng.standard_normal((batch, n))
    q = rng.standard_normal((batch, n))
    b, h = x @ A.T, x @ G.T + rng.random((batch, n))
    return A, G, *(torch.from_numpy(one) for one in (q, b, h))


def timed(call, repeats):
    """Minimum, median and maximum seconds."""
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return min(found), statistics.median(found), max(found)


def main():
    """Print construction, forward and backward times and their ratios."""
    read = argparse.ArgumentParser(description=__doc__)
    read.add_argument("--size", type=int, default=1024)
    read.add_argument("--batch", type=int, default=2)
    read.add_argument("--repeats", type=int, default=3)
    given = read.parse_args()
    n = given.size
    A, G, q, b, h = instance(n, given.batch)

    @ol.problem
    def program(
        x=ol.Variable("n"),
        q=ol.Parameter("n"),
        A=ol.Parameter("n n", pattern=A),
        b=ol.Parameter("n"),
        G=ol.Parameter("n n", pattern=G),
        h=ol.Parameter("n"),
    ):
        cost = ol.sum_squares(x) / 2 + q @ x
        return ol.minimize(cost, equal=A @ x == b, inside=G @ x <= h)

    start = time.perf_counter()
    layer = program.layer()
    print(f"ours: construction {time.perf_counter() - start:.3f} s")
    leaves = [torch.from_numpy(one.data).requires_grad_() for one in (A, G)]

    def ours():
        return layer(q=q, A=leaves[0], b=b, G=leaves[1], h=h).x

    def ours_still():
        with torch.no_grad():
            return ours()

    x, P = cp.Variable(n), [cp.Parameter(n) for _ in range(3)]
    print("peer: A and G are constants there; ours differentiates their entries")
    constant = cp.Problem(
        cp.Minimize(cp.sum_squares(x) / 2 + P[0] @ x), [A @ x == P[1], G @ x <= P[2]]
    )
    start = time.perf_counter()
    peer = CvxpyLayer(constant, parameters=P, variables=[x])
    print(f"peer: construction {time.perf_counter() - start:.3f} s")
    learned = q.clone().requires_grad_()

    def theirs():
        return peer(learned, b, h, solver_args={"solve_method": "Clarabel"})[0]

    for name, solution in (("ours", ours_still()), ("peer", theirs().detach())):
        point = solution.double().numpy()
        gap = np.abs(point @ A.T - b.numpy()).max()
        excess = np.maximum(point @ G.T - h.numpy(), 0).max()
        print(f"{name}: |A x - b| {gap:.1e}, (G x - h)+ {excess:.1e}")
    rows = [
        ("forward", ours_still, theirs),
        ("both", lambda: ours().sum().backward(), lambda: theirs().sum().backward()),
    ]
    for name, first, second in rows:
        mine, other = (timed(one, given.repeats) for one in (first, second))
        print(
            f"{name}: ours {mine[0]:.3f} {mine[1]:.3f} {mine[2]:.3f} s, peer "
            f"{other[0]:.3f} {other[1]:.3f} {other[2]:.3f} s, ratio "
            f"{other[1] / mine[1]:.2f}"
        )


if __name__ == "__main__":
    main()
