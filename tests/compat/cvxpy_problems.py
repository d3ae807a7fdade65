"""cvxpy problems as people write them, with values at which gradients exist."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np


@dataclass(frozen=True)
class Case:
    """A cvxpy problem; its parameters hold values.

    Attributes:
        name: what it is called in reports.
        problem: the problem.
        has_unique_multipliers: whether those of its constraints can be compared.
        is_dpp: whether CvxpyLayer takes it.
    """

    name: str
    problem: cp.Problem
    has_unique_multipliers: bool = True
    is_dpp: bool = True

    @property
    def variables(self) -> Mapping[str, cp.Variable]:
        return {one.name(): one for one in self.problem.variables()}

    @property
    def parameters(self) -> Mapping[str, cp.Parameter]:
        return {one.name(): one for one in self.problem.parameters()}

    def direction(self, name: str, rng: np.random.Generator) -> np.ndarray:
        """A direction that keeps the attributes of a parameter."""
        one = self.parameters[name]
        found = rng.standard_normal(one.shape)
        if one.attributes["PSD"] or one.attributes["symmetric"]:
            found = found + found.T
        if one.attributes["NSD"]:
            found = found + found.T
        return found


def all_cases() -> Iterator[Case]:
    yield from _plain()
    yield from _conic()
    yield from _without_dpp()


def parameter(name: str, value: Any, **attributes: bool) -> cp.Parameter:
    value = np.asarray(value, dtype=float)
    return cp.Parameter(value.shape, name=name, value=value, **attributes)


def _plain() -> Iterator[Case]:
    rng = np.random.default_rng(0)
    x = cp.Variable(3, name="x")
    A, b = parameter("A", rng.standard_normal((5, 3))), parameter("b", rng.random(5))
    yield Case("least squares", cp.Problem(cp.Minimize(cp.sum_squares(A @ x - b))))
    yield Case(
        "lasso in a box",
        cp.Problem(
            cp.Minimize(cp.sum_squares(A @ x - b) + 0.3 * cp.norm1(x)),
            [x <= 0.4, -0.6 <= x],
        ),
    )
    w = cp.Variable(4, name="w", nonneg=True)
    mu = parameter("mu", rng.random(4))
    yield Case(
        "mean and variance",
        cp.Problem(cp.Maximize(mu @ w - cp.sum_squares(w)), [cp.sum(w) == 1]),
    )
    X, Y = cp.Variable((2, 3), name="X"), parameter("Y", rng.standard_normal((2, 3)))
    column, row = parameter("column", rng.random(2)), parameter("row", rng.random(3))
    yield Case(
        "matrix in columns",
        cp.Problem(
            cp.Minimize(cp.sum_squares(cp.vec(X, order="F") - cp.vec(Y, order="F"))),
            [X @ row == column, cp.reshape(X, (3, 2), order="F")[:, 0] <= 0.1],
        ),
    )
    shared = cp.norm(x - b[:3])
    yield Case(
        "shared subexpression",
        cp.Problem(cp.Minimize(cp.square(shared) + shared), [cp.sum(x) == b[0]]),
    )
    slope = parameter("slope", 0.7, nonneg=True)
    yield Case(
        "piecewise and huber",
        cp.Problem(
            cp.Minimize(
                cp.sum(cp.huber(A @ x - b, 0.3)) + slope * cp.max(x) + cp.sum_squares(x)
            )
        ),
    )


def _conic() -> Iterator[Case]:
    rng = np.random.default_rng(1)
    x, t = cp.Variable(3, name="x"), cp.Variable(name="t")
    c = parameter("c", rng.standard_normal(3))
    yield Case(
        "second-order cone",
        cp.Problem(cp.Minimize(c @ x + t), [cp.SOC(t, x), cp.sum(x) == 1, t <= 3]),
    )
    Z, s = cp.Variable((2, 2), name="Z"), cp.Variable(2, name="s")
    C = parameter("C", rng.standard_normal((2, 2)))
    yield Case(
        "cones by columns",
        cp.Problem(
            cp.Minimize(cp.sum(s) + cp.sum(cp.multiply(C, Z)) + cp.sum_squares(Z)),
            [cp.SOC(s, Z)],
        ),
    )
    S = cp.Variable((3, 3), name="S", symmetric=True)
    root = rng.standard_normal((3, 3))
    M = parameter("M", root + root.T, symmetric=True)
    yield Case(
        "nearest semidefinite matrix",
        cp.Problem(cp.Minimize(cp.sum_squares(S - M)), [S >> 0]),
    )
    yield Case(
        "largest eigenvalue",
        cp.Problem(cp.Minimize(cp.sum_squares(S - M)), [cp.lambda_max(S) <= 1, S << 5]),
        has_unique_multipliers=False,
    )
    u = cp.Variable(3, name="u")
    yield Case(
        "entropy",
        cp.Problem(cp.Maximize(cp.sum(cp.entr(u)) + c @ u), [cp.sum(u) == 1]),
    )
    y, z = cp.Variable(2, name="y"), cp.Variable(2, name="z")
    p = parameter("p", [0.3, -0.2])
    yield Case(
        "exponential cones",
        cp.Problem(
            cp.Minimize(cp.sum(z) + cp.sum_squares(y - 1)),
            [cp.ExpCone(p, y, z)],
        ),
    )
    yield Case(
        "power cones",
        cp.Problem(
            cp.Minimize(cp.sum_squares(y - 1) + cp.sum_squares(z - 1)),
            [cp.PowCone3D(y, z, p + 1.5, [0.4, 0.7])],
        ),
    )
    yield Case(
        "log determinant",
        cp.Problem(cp.Minimize(cp.trace(S @ (M @ M + np.eye(3))) - cp.log_det(S))),
        is_dpp=False,
    )


def _without_dpp() -> Iterator[Case]:
    rng = np.random.default_rng(2)
    x = cp.Variable(3, name="x")
    p, q = parameter("p", rng.random(3)), parameter("q", rng.random(3), nonneg=True)
    r = parameter("r", 0.8, nonneg=True)
    A = parameter("A", rng.standard_normal((3, 3)))
    yield Case(
        "products of parameters",
        cp.Problem(
            cp.Minimize(cp.sum_squares(x - cp.multiply(p, q))), [(r * p) @ x <= r * r]
        ),
        is_dpp=False,
    )
    yield Case(
        "quotient of parameters",
        cp.Problem(cp.Minimize(cp.sum_squares(x - p / r)), [cp.sum(x) == r**2]),
        is_dpp=False,
    )
    yield Case(
        "functions of parameters",
        cp.Problem(
            cp.Minimize(cp.sum_squares(x - cp.exp(p)) + cp.log(1 + r) * cp.sum(x))
        ),
        is_dpp=False,
    )
    yield Case(
        "scaled sum of squares",
        cp.Problem(cp.Minimize(r * cp.sum_squares(A @ x - p) + cp.sum_squares(x))),
        is_dpp=False,
    )
    yield Case(
        "product of matrices",
        cp.Problem(cp.Minimize(cp.sum_squares(A @ A @ x - p) + cp.norm1(x))),
        is_dpp=False,
    )
    root = rng.standard_normal((3, 3))
    P = parameter("P", root @ root.T + np.eye(3), PSD=True)
    yield Case(
        "quadratic form in a constraint",
        cp.Problem(cp.Minimize(p @ x), [cp.quad_form(x, P) <= r]),
        is_dpp=False,
    )
    N = parameter("N", -(root @ root.T + np.eye(3)), NSD=True)
    yield Case(
        "concave quadratic form",
        cp.Problem(cp.Maximize(cp.quad_form(x, N) + p @ x), [x <= 0.05]),
    )
    yield Case(
        "huber with a parameter",
        cp.Problem(
            cp.Minimize(cp.sum(cp.huber(x - 3 * p, r)) + 0.3 * cp.sum_squares(x))
        ),
    )
    yield Case(
        "quadratic over a parameter",
        cp.Problem(cp.Minimize(cp.quad_over_lin(x - p, r) + q @ x)),
        is_dpp=False,
    )
