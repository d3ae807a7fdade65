"""Declarations that cvxpy's rules on parameters refuse or that stress the rewriting.

Each case: a declaration, its sizes, and the same problem in cvxpy with numbers in the
place of parameters, built by hand. Solutions and multipliers are unique.
"""

from dataclasses import dataclass, field
from typing import Any

import cvxpy as cp
import numpy as np

from tests.compile.words import (
    Control,
    Parameter,
    State,
    Variable,
    maximize,
    minimize,
    ol,
)

CASES: dict[str, "Case"] = {}


@dataclass(frozen=True, eq=False)
class Case:
    """A declaration and its twin.

    Attributes:
        declaration: the function.
        twin: from numbers by name to objective, variables and constraints by name.
        sizes: of the dimensions.
        steps: of the stages.
        positive: parameters that are drawn nonnegative.
        psd: parameters that are drawn positive semidefinite.
    """

    declaration: Any
    twin: Any
    sizes: dict
    steps: int | None = None
    positive: tuple = ()
    psd: tuple = ()
    unique: tuple = field(default=None)


def case(declaration, sizes, steps=None, positive=(), psd=(), unique=None):
    """Register the decorated twin of a declaration."""

    def register(twin):
        CASES[declaration.__name__] = Case(
            declaration, twin, sizes, steps, positive, psd, unique
        )
        return twin

    return register


# ---- products of parameters ----------------------------------------------------------


def product_of_parameters(
    x=Variable("n"),
    a=Parameter(),
    A=Parameter("k n"),
    b=Parameter("k"),
    y=Parameter("n"),
):
    return minimize(ol.sum_squares(x - y), inside=a * (A @ x) <= a * b + 1)


@case(product_of_parameters, {"n": 3, "k": 2})
def _(a, A, b, y):
    x = cp.Variable(3)
    return cp.sum_squares(x - y), {"x": x}, {"inside": (a * A) @ x <= a * b + 1}


def nested_matrices(
    x=Variable("n"), A=Parameter("k m"), B=Parameter("m n"), y=Parameter("n")
):
    return minimize(ol.sum_squares(x - y), reach=A @ (B @ x - B @ y) == 1)


@case(nested_matrices, {"n": 4, "m": 3, "k": 2})
def _(A, B, y):
    x = cp.Variable(4)
    return cp.sum_squares(x - y), {"x": x}, {"reach": A @ (B @ (x - y)) == 1}


def function_of_parameter(x=Variable("n"), w=Parameter("n"), c=Parameter("n")):
    return minimize(
        ol.exp(w) @ x**2 + c @ x, cap=ol.sum(x) * ol.exp(ol.sum(w)) <= ol.sum(w * c)
    )


@case(function_of_parameter, {"n": 3})
def _(w, c):
    x = cp.Variable(3)
    cap = cp.sum(x) * np.exp(w.sum()) <= (w * c).sum()
    return cp.sum(cp.multiply(np.exp(w), x**2)) + c @ x, {"x": x}, {"cap": cap}


def divided_by_parameter(x=Variable("n"), p=Parameter(nonneg=True), y=Parameter("n")):
    return minimize(ol.sum_squares(x / p - y) + ol.norm1(x / p) / p)


@case(divided_by_parameter, {"n": 3}, positive=("p",))
def _(p, y):
    x = cp.Variable(3)
    return cp.sum_squares(x / p - y) + cp.norm1(x / p) / p, {"x": x}, {}


def elementwise_weights(
    x=Variable("n"), d=Parameter("n"), w=Parameter("n", nonneg=True), y=Parameter("n")
):
    return minimize(w @ (d * x - y) ** 2 + ol.sum(x), pos=d * (w * x) <= 2)


@case(elementwise_weights, {"n": 3}, positive=("w",))
def _(d, w, y):
    x = cp.Variable(3)
    objective = w @ cp.square(cp.multiply(d, x) - y) + cp.sum(x)
    return objective, {"x": x}, {"pos": cp.multiply(d * w, x) <= 2}


# ---- scaled squares ------------------------------------------------------------------


def scaled_squares(x=Variable("n"), w=Parameter(nonneg=True), y=Parameter("n")):
    return minimize(w * ol.sum_squares(x - y) + ol.norm(x, p=1))


@case(scaled_squares, {"n": 4}, positive=("w",))
def _(w, y):
    x = cp.Variable(4)
    return w * cp.sum_squares(x - y) + cp.norm1(x), {"x": x}, {}


def scaled_least_squares(
    x=Variable("n"), w=Parameter(nonneg=True), A=Parameter("k n"), b=Parameter("k")
):
    return minimize(w * ol.sum_squares(A @ x - b) + ol.sum_squares(x), box=x <= 0.1)


@case(scaled_least_squares, {"n": 3, "k": 5}, positive=("w",))
def _(w, A, b):
    x = cp.Variable(3)
    objective = w * cp.sum_squares(A @ x - b) + cp.sum_squares(x)
    return objective, {"x": x}, {"box": x <= 0.1}


def wide_least_squares(x=Variable("n"), A=Parameter("k n"), b=Parameter("k")):
    return minimize(ol.sum_squares(A @ x - b) + 0.1 * ol.sum_squares(x))


@case(wide_least_squares, {"n": 150, "k": 3})
def _(A, b):
    x = cp.Variable(150)
    return cp.sum_squares(A @ x - b) + 0.1 * cp.sum_squares(x), {"x": x}, {}


def squares_in_constraint(
    x=Variable("n"), w=Parameter(nonneg=True), y=Parameter("n"), c=Parameter("n")
):
    return minimize(c @ x, ball=w * ol.sum_squares(x - y) <= 1)


@case(squares_in_constraint, {"n": 3}, positive=("w",))
def _(w, y, c):
    x = cp.Variable(3)
    return c @ x, {"x": x}, {"ball": w * cp.sum_squares(x - y) <= 1}


def scaled_norm(
    x=Variable("n"), w=Parameter(nonneg=True), A=Parameter("k n"), b=Parameter("k")
):
    return minimize(
        w * ol.norm(A @ x - b) + ol.sum_squares(x), cap=w * ol.norm1(A @ x - b) <= 3
    )


@case(scaled_norm, {"n": 3, "k": 4}, positive=("w",))
def _(w, A, b):
    x = cp.Variable(3)
    objective = w * cp.norm(A @ x - b) + cp.sum_squares(x)
    return objective, {"x": x}, {"cap": w * cp.norm1(A @ x - b) <= 3}


def over_parameter(x=Variable("n"), p=Parameter(nonneg=True), y=Parameter("n")):
    return minimize(
        ol.quad_over_lin(x - y, p), cap=ol.quad_over_lin(x, p) * p <= 0.5 * p + 0.2
    )


@case(over_parameter, {"n": 3}, positive=("p",))
def _(p, y):
    x = cp.Variable(3)
    cap = cp.sum_squares(x) <= 0.5 * p + 0.2
    return cp.sum_squares(x - y) / p, {"x": x}, {"cap": cap}


def two_variables(
    x=Variable("n"),
    z=Variable("m"),
    A=Parameter("k n"),
    B=Parameter("k m"),
    c=Parameter("k"),
    w=Parameter("k", nonneg=True),
):
    return minimize(
        w @ (A @ x + B @ z - c) ** 2 + ol.sum_squares(x) + ol.sum_squares(z - 1)
    )


@case(two_variables, {"n": 3, "m": 2, "k": 4}, positive=("w",))
def _(A, B, c, w):
    x, z = cp.Variable(3), cp.Variable(2)
    objective = w @ cp.square(A @ x + B @ z - c) + cp.sum_squares(x)
    return objective + cp.sum_squares(z - 1), {"x": x, "z": z}, {}


def difference_of_slices(x=Variable("n"), w=Parameter(nonneg=True), y=Parameter("n")):
    return minimize(
        w * ol.sum_squares(x[1:] - x[:-1])
        + ol.sum_squares(x - y)
        + (x[0] - 2 * x[-1]) ** 2
    )


@case(difference_of_slices, {"n": 5}, positive=("w",))
def _(w, y):
    x = cp.Variable(5)
    objective = w * cp.sum_squares(x[1:] - x[:-1]) + cp.sum_squares(x - y)
    return objective + cp.square(x[0] - 2 * x[-1]), {"x": x}, {}


def self_difference(x=Variable("n"), A=Parameter("n n"), y=Parameter("n")):
    return minimize(ol.sum_squares(A @ x - x - y) + ol.norm(x - y) ** 2)


@case(self_difference, {"n": 3})
def _(A, y):
    x = cp.Variable(3)
    return cp.sum_squares((A - np.eye(3)) @ x - y) + cp.sum_squares(x - y), {"x": x}, {}


def dot_with_itself(x=Variable("n"), y=Parameter("n"), c=Parameter("n")):
    return minimize((x - y) @ (x - y) + (c @ x - 1) * (c @ x - 1), cap=x @ x <= 1)


@case(dot_with_itself, {"n": 3})
def _(y, c):
    x = cp.Variable(3)
    objective = cp.sum_squares(x - y) + cp.square(c @ x - 1)
    return objective, {"x": x}, {"cap": cp.sum_squares(x) <= 1}


def scaled_composition(
    x=Variable("n"),
    s=Parameter(nonneg=True),
    w=Parameter(nonneg=True),
    y=Parameter("n"),
):
    inner = w * ol.norm(x - y) + w
    return minimize(s * ol.square(inner) + ol.sum(x), far=s * ol.max(w * x - y) <= 4)


@case(scaled_composition, {"n": 3}, positive=("s", "w"))
def _(s, w, y):
    x = cp.Variable(3)
    objective = s * cp.square(w * cp.norm(x - y) + w) + cp.sum(x)
    return objective, {"x": x}, {"far": s * cp.max(w * x - y) <= 4}


def sorted_weights(
    x=Variable("n"),
    A=Parameter("n n"),
    w=Parameter("n", nonneg=True),
    s=Parameter(nonneg=True),
    y=Parameter("n"),
):
    cap = s * ol.dotsort(A @ x, w) <= 2
    return minimize(ol.sum_squares(x - y) + ol.dotsort(A @ x, w), cap=cap)


@case(sorted_weights, {"n": 3}, positive=("w", "s"))
def _(A, w, s, y):
    x = cp.Variable(3)
    objective = cp.sum_squares(x - y) + cp.dotsort(A @ x, w)
    return objective, {"x": x}, {"cap": s * cp.dotsort(A @ x, w) <= 2}


def kronecker(
    X=Variable("2 2"), P=Parameter("2 2"), s=Parameter(nonneg=True), C=Parameter("2 2")
):
    return minimize(
        ol.sum_squares(X - C) + s * ol.norm(P @ X - 1, p="fro"),
        left=ol.kron(P, X) <= 0.5,
        right=s * ol.kron(P @ X, P) <= 3,
    )


@case(kronecker, {}, positive=("s",))
def _(P, s, C):
    X = cp.Variable((2, 2))
    constraints = {
        "left": cp.kron(P, X) <= 0.5,
        "right": s * cp.kron(P @ X, P) <= 3,
    }
    objective = cp.sum_squares(X - C) + s * cp.norm(P @ X - 1, "fro")
    return objective, {"X": X}, constraints


def products_on_both_sides(
    X=Variable("n n"), P=Parameter("n n"), s=Parameter("n", nonneg=True)
):
    return minimize(
        ol.sum_squares(P @ X @ P - 1) + ol.sum_squares(X - P),
        left=s @ (X @ P) <= 0.5,
        right=s * (P @ X @ s) <= s,
    )


@case(products_on_both_sides, {"n": 2}, positive=("s",))
def _(P, s):
    X = cp.Variable((2, 2))
    constraints = {
        "left": s @ (X @ P) <= 0.5,
        "right": cp.multiply(s, P @ X @ s) <= s,
    }
    return cp.sum_squares(P @ X @ P - 1) + cp.sum_squares(X - P), {"X": X}, constraints


def arranged(x=Variable("n"), p=Parameter("n"), w=Parameter(nonneg=True)):
    joined = ol.hstack(p[0] * x[:1], p[1:] * x[1:])
    return minimize(
        ol.sum_squares(x - p) + w * ol.sum(ol.huber(p * ol.cumsum(x) - 1)),
        steps=p[0] * ol.diff(p * x) <= 1,
        joined=w * joined[::2] <= w * 0.2,
    )


@case(arranged, {"n": 3}, positive=("w",))
def _(p, w):
    x = cp.Variable(3)
    objective = cp.sum_squares(x - p)
    objective += w * cp.sum(cp.huber(cp.multiply(p, cp.cumsum(x)) - 1))
    constraints = {
        "steps": p[0] * cp.diff(cp.multiply(p, x)) <= 1,
        "joined": w * cp.multiply(p, x)[::2] <= w * 0.2,
    }
    return objective, {"x": x}, constraints


# ---- quadratic forms -----------------------------------------------------------------


def quadratic_objective(
    x=Variable("n"), Q=Parameter("n n", psd=True), y=Parameter("n")
):
    return minimize(ol.quad_form(x - y, Q) + ol.sum(x), cap=x <= 0.3)


@case(quadratic_objective, {"n": 3}, psd=("Q",))
def _(Q, y):
    x = cp.Variable(3)
    objective = cp.quad_form(x - y, cp.psd_wrap(Q)) + cp.sum(x)
    return objective, {"x": x}, {"cap": x <= 0.3}


def quadratic_constraint(
    x=Variable("n"), Q=Parameter("n n", psd=True), c=Parameter("n"), y=Parameter("n")
):
    return minimize(c @ x, ball=ol.quad_form(x - y, Q) <= 1)


@case(quadratic_constraint, {"n": 3}, psd=("Q",))
def _(Q, c, y):
    x = cp.Variable(3)
    return c @ x, {"x": x}, {"ball": cp.quad_form(x - y, cp.psd_wrap(Q)) <= 1}


def markowitz(
    w=Variable("n", nonneg=True),
    mu=Parameter("n"),
    F=Parameter("n k"),
    d=Parameter("n", nonneg=True),
    gamma=Parameter(nonneg=True),
):
    risk = ol.quad_form(w, F @ F.T + ol.diag(d))
    return maximize(mu @ w - gamma * risk, budget=ol.sum(w) == 1)


@case(markowitz, {"n": 4, "k": 2}, positive=("d", "gamma"))
def _(mu, F, d, gamma):
    w = cp.Variable(4)
    risk = cp.quad_form(w, cp.psd_wrap(F @ F.T + np.diag(d)))
    constraints = {"budget": cp.sum(w) == 1, "w.nonneg": 0 <= w}
    return gamma * risk - mu @ w, {"w": w}, constraints


def asserted_weight(
    x=Variable("n"), a=Parameter(), G=Parameter("n n"), y=Parameter("n")
):
    Q = ol.psd_matrix(G.T @ G + ol.exp(a) * G.T @ G)
    return minimize(ol.nonneg(a * a) * ol.norm(x - y) + ol.quad_form(x, Q))


@case(asserted_weight, {"n": 3})
def _(a, G, y):
    x = cp.Variable(3)
    Q = cp.psd_wrap((1 + np.exp(a)) * G.T @ G)
    return a**2 * cp.norm(x - y) + cp.quad_form(x, Q), {"x": x}, {}


# ---- cones, matrices, broadcasting ---------------------------------------------------


def robust_regression(
    x=Variable("n"), A=Parameter("k n"), b=Parameter("k"), rho=Parameter(nonneg=True)
):
    return minimize(ol.norm(A @ x - b) + rho * ol.norm(x), box=ol.between(-0.2, x, 0.2))


@case(robust_regression, {"n": 3, "k": 6}, positive=("rho",))
def _(A, b, rho):
    x = cp.Variable(3)
    objective = cp.norm(A @ x - b) + rho * cp.norm(x)
    return objective, {"x": x}, {"box.lower": -0.2 <= x, "box.upper": x <= 0.2}


def matrix_variable(
    X=Variable("n m"), C=Parameter("n m"), r=Parameter("n"), A=Parameter("n n")
):
    return minimize(
        ol.sum_squares(X - C), rows=ol.sum(A @ X, axis=1) <= r + 5, cap=X <= 0.5
    )


@case(matrix_variable, {"n": 3, "m": 2})
def _(C, r, A):
    X = cp.Variable((3, 2))
    constraints = {"rows": cp.sum(A @ X, axis=1) <= r + 5, "cap": X <= 0.5}
    return cp.sum_squares(X - C), {"X": X}, constraints


def symmetric_variable(X=Variable("n n", symmetric=True), C=Parameter("n n")):
    return minimize(ol.sum_squares(X - C), trace=ol.trace(X) == 1, low=0 <= X[0])


@case(symmetric_variable, {"n": 3})
def _(C):
    X = cp.Variable((3, 3), symmetric=True)
    return (
        cp.sum_squares(X - C),
        {"X": X},
        {"trace": cp.trace(X) == 1, "low": X[0] >= 0},
    )


def broadcast_bound(x=Variable(), z=Variable("n"), y=Parameter("n"), u=Parameter()):
    return minimize(
        ol.sum_squares(z - y) + (x - u) ** 2, above=z <= x, tie=x + z[0] == u
    )


@case(broadcast_bound, {"n": 3})
def _(y, u):
    x, z = cp.Variable(), cp.Variable(3)
    objective = cp.sum_squares(z - y) + cp.square(x - u)
    return objective, {"x": x, "z": z}, {"above": z <= x, "tie": x + z[0] == u}


def maximized_concave(x=Variable("n"), a=Parameter("n"), B=Parameter("n n")):
    return maximize(a @ x - ol.sum_squares(B @ x) - x @ x, half=ol.sum(x) <= 0.1)


@case(maximized_concave, {"n": 3})
def _(a, B):
    x = cp.Variable(3)
    objective = cp.sum_squares(B @ x) + cp.sum_squares(x) - a @ x
    return objective, {"x": x}, {"half": cp.sum(x) <= 0.1}


# ---- stages --------------------------------------------------------------------------


def mpc(
    x=State("n"),
    u=Control("m", lower=-1, upper=1),
    x0=Parameter("n"),
    A=Parameter("n n"),
    B=Parameter("n m"),
    q=Parameter("n", nonneg=True),
    r=Parameter("m", nonneg=True),
):
    return minimize(
        ol.total(q @ x**2 + r @ u**2) + 10 * ol.sum_squares(x.last),
        start=x.first == x0,
        dynamics=x.next == A @ x + B @ u,
    )


@case(mpc, {"n": 2, "m": 1}, steps=5, positive=("q", "r"))
def _(x0, A, B, q, r):
    X, U = cp.Variable((6, 2)), cp.Variable((5, 1))
    objective = 10 * cp.sum_squares(X[5])
    rows = [X[0] == x0]
    steps = []
    for t in range(5):
        objective += q @ cp.square(X[t]) + r @ cp.square(U[t])
        steps.append(X[t + 1] == A @ X[t] + B @ U[t])
    constraints = {"start": rows[0], "dynamics": steps}
    constraints |= {"u.lower": -1 <= U, "u.upper": U <= 1}
    return objective, {"x": X, "u": U}, constraints


def tracking(
    x=State("n"),
    u=Control(),
    x0=Parameter("n"),
    A=Parameter("n n"),
    b=Parameter("n"),
    C=Parameter("k n"),
    ref=Parameter("k"),
    Q=Parameter("k k", psd=True),
    w=Parameter(nonneg=True),
):
    return minimize(
        ol.total(ol.quad_form(C @ x - ref, Q) + ol.abs(u))
        + w * ol.total((u.next - u) ** 2)
        + ol.norm(x.at(2) - x0)
        + ol.sum_squares(x[1:]),
        start=x.first == x0,
        dynamics=x.next == A @ x + b * u,
        safe=ol.norm(x) <= 40,
    )


@case(tracking, {"n": 2, "k": 2}, steps=4, positive=("w",), psd=("Q",))
def _(x0, A, b, C, ref, Q, w):
    X, U = cp.Variable((5, 2)), cp.Variable(4)
    objective = w * cp.sum_squares(U[1:] - U[:-1]) + cp.norm(X[2] - x0)
    objective += cp.sum_squares(X[1:])
    steps, safe = [], [cp.norm(X[t]) <= 40 for t in range(5)]
    for t in range(4):
        objective += cp.quad_form(C @ X[t] - ref, cp.psd_wrap(Q)) + cp.abs(U[t])
        steps.append(X[t + 1] == A @ X[t] + b * U[t])
    constraints = {"start": X[0] == x0, "dynamics": steps, "safe": safe}
    return objective, {"x": X, "u": U}, constraints


def scaled_stages(
    x=State(), u=Control(), a=Parameter(), w=Parameter(nonneg=True), x0=Parameter()
):
    return minimize(
        ol.total(w * ol.huber(x - a) + u**2) + w * ol.total(ol.abs(a * x - 1)),
        start=x.first == x0,
        dynamics=x.next == a * (a * x + u),
    )


@case(scaled_stages, {}, steps=4, positive=("w",))
def _(a, w, x0):
    X, U = cp.Variable(5), cp.Variable(4)
    objective = w * cp.sum(cp.huber(X[:4] - a)) + cp.sum_squares(U)
    objective += w * cp.sum(cp.abs(a * X - 1))
    steps = X[1:] == a * (a * X[:-1] + U)
    return objective, {"x": X, "u": U}, {"start": X[0] == x0, "dynamics": steps}


def staged_ratio(x=State("n"), p=Parameter(nonneg=True), ref=Parameter("n")):
    """Lowered a second time: stage by stage, an auxiliary variable equal to p."""
    cost = ol.total(ol.sum_squares(x - 3 * ref))
    return minimize(cost, tube=ol.quad_over_lin(x - ref, p) <= 1)


@case(staged_ratio, {"n": 2}, steps=2, positive=("p",))
def _(p, ref):
    X = cp.Variable((3, 2))
    objective = sum(cp.sum_squares(X[t] - 3 * ref) for t in range(3))
    tube = [cp.sum_squares(X[t] - ref) / p <= 1 for t in range(3)]
    return objective, {"x": X}, {"tube": tube}
