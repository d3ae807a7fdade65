"""A zoo of convex problems with independent references.

Each specimen is declared twice: in the language of optlayers, and by hand in cvxpy for
one sample. Data are drawn so that solutions are unique and strictly complementary, so
that gradients and multipliers are well defined.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import cvxpy as cp
import numpy as np
import torch
from torch import Tensor

import optlayers as ol
from optlayers import Control, Parameter, State, Variable, maximize, minimize

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Reference:
    """A cvxpy problem of one sample, with its variables and constraints by name."""

    problem: cp.Problem
    variables: Mapping[str, cp.Variable]
    constraints: Mapping[str, Any]


@dataclass(frozen=True)
class Specimen:
    """One problem of the zoo.

    Attributes:
        name: what it is called in test reports.
        problem: the declaration.
        sizes: dimensions and `steps` for `problem.layer(...)`.
        draw: random parameters of one sample, by name.
        reference: the same problem in cvxpy at the given parameter values.
    """

    name: str
    problem: Any
    draw: Callable[[np.random.Generator], dict[str, np.ndarray]]
    reference: Callable[[Arrays], Reference]
    sizes: Mapping[str, int] = field(default_factory=dict)

    def batch(self, size: int, seed: int = 0) -> dict[str, Tensor]:
        """Parameters of `size` samples, each [size, ...], float64."""
        generator = np.random.default_rng(seed)
        drawn = [self.draw(generator) for _ in range(size)]
        return {
            name: torch.as_tensor(np.stack([one[name] for one in drawn]))
            for name in drawn[0]
        }


def _problem(objective: Any, constraints: list[Any]) -> cp.Problem:
    # cvxpy's comparisons may be bool to a type checker.
    return cp.Problem(objective, constraints)


# ---- projection onto a polyhedron (QP) ----------------------------------------------


@ol.problem
def project(x=Variable("n"), y=Parameter("n"), A=Parameter("k n"), b=Parameter("k")):
    """Nearest point of a polyhedron."""
    return minimize(ol.sum_squares(x - y), inside=A @ x <= b)


def _draw_project(rng: np.random.Generator) -> dict[str, np.ndarray]:
    A = rng.standard_normal((3, 5))
    return {"y": 3 * rng.standard_normal(5), "A": A, "b": rng.random(3)}


def _cvxpy_project(p: Arrays) -> Reference:
    x = cp.Variable(5)
    inside = p["A"] @ x <= p["b"]
    problem = _problem(cp.Minimize(cp.sum_squares(x - p["y"])), [inside])
    return Reference(problem, {"x": x}, {"inside": inside})


# ---- portfolio with a risk cone (SOCP) ----------------------------------------------


@ol.problem
def portfolio(
    w=Variable("n", nonneg=True),
    mu=Parameter("n"),
    L=Parameter("n n"),
    risk=Parameter(nonneg=True),
):
    """Largest expected return within a budget and a risk limit."""
    return maximize(mu @ w, budget=ol.sum(w) == 1, cap=ol.norm(L @ w) <= risk)


def _draw_portfolio(rng: np.random.Generator) -> dict[str, np.ndarray]:
    n = 5
    L = np.eye(n) + 0.3 * rng.standard_normal((n, n))
    least = cp.Variable(n, nonneg=True)
    smallest = cp.Minimize(cp.norm(L @ least))
    _problem(smallest, [cp.sum(least) == 1]).solve(solver=cp.CLARABEL)
    risk = 1.25 * np.linalg.norm(L @ np.asarray(least.value))
    return {"mu": rng.random(n), "L": L, "risk": np.asarray(risk)}


def _cvxpy_portfolio(p: Arrays) -> Reference:
    w = cp.Variable(5)
    nonneg, budget = w >= 0, cp.sum(w) == 1
    cap = cp.norm(p["L"] @ w) <= p["risk"]
    problem = _problem(cp.Maximize(p["mu"] @ w), [budget, cap, nonneg])
    constraints = {"budget": budget, "cap": cap, "w.nonneg": nonneg}
    return Reference(problem, {"w": w}, constraints)


# ---- model predictive control, staged and as a plain loop ---------------------------


@ol.problem
def mpc(
    x=State("n"),
    u=Control("m", lower=-1, upper=1),
    x0=Parameter("n"),
    A=Parameter("n n"),
    B=Parameter("n m"),
    q=Parameter("n", nonneg=True),
    r=Parameter("m", nonneg=True),
):
    """Linear-quadratic control with bounded input."""
    return minimize(
        ol.total(q @ x**2 + r @ u**2) + 10 * ol.sum_squares(x.last),
        start=x.first == x0,
        dynamics=x.next == A @ x + B @ u,
    )


@ol.problem
def mpc_loop(
    x=Variable("7 n"),
    u=Variable("6 m", lower=-1, upper=1),
    x0=Parameter("n"),
    A=Parameter("n n"),
    B=Parameter("n m"),
    q=Parameter("n", nonneg=True),
    r=Parameter("m", nonneg=True),
):
    """The same, stage by stage."""
    cost = 10 * ol.sum_squares(x[6])
    dynamics = {}
    for k in range(6):
        cost = cost + q @ x[k] ** 2 + r @ u[k] ** 2
        dynamics[f"step_{k}"] = x[k + 1] == A @ x[k] + B @ u[k]
    return minimize(cost, start=x[0] == x0, **dynamics)


def _draw_mpc(rng: np.random.Generator) -> dict[str, np.ndarray]:
    A = np.eye(3) + 0.2 * rng.standard_normal((3, 3))
    return {
        "x0": 2 * rng.standard_normal(3),
        "A": A,
        "B": rng.standard_normal((3, 2)),
        "q": 0.5 + rng.random(3),
        "r": 0.1 + rng.random(2),
    }


def _cvxpy_mpc(p: Arrays) -> Reference:
    x, u = cp.Variable((7, 3)), cp.Variable((6, 2))
    start = x[0] == p["x0"]
    dynamics = x[1:] == x[:-1] @ p["A"].T + u @ p["B"].T
    lower, upper = -1 <= u, u <= 1
    cost = cp.sum(cp.square(x[:-1]) @ p["q"]) + cp.sum(cp.square(u) @ p["r"])
    cost = cost + 10 * cp.sum_squares(x[6])
    problem = _problem(cp.Minimize(cost), [start, dynamics, lower, upper])
    constraints = {
        "start": start,
        "dynamics": dynamics,
        "u.lower": lower,
        "u.upper": upper,
    }
    return Reference(problem, {"x": x, "u": u}, constraints)


# ---- classics ------------------------------------------------------------------------


@ol.problem
def bounded_least_squares(
    x=Variable("n", lower=-0.3, upper=0.4), F=Parameter("k n"), g=Parameter("k")
):
    """Least squares with bounds."""
    return minimize(ol.sum_squares(F @ x - g))


def _draw_least_squares(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {"F": rng.standard_normal((7, 4)), "g": rng.standard_normal(7)}


def _cvxpy_least_squares(p: Arrays) -> Reference:
    x = cp.Variable(4)
    lower, upper = -0.3 <= x, x <= 0.4
    cost = cp.sum_squares(p["F"] @ x - p["g"])
    problem = _problem(cp.Minimize(cost), [lower, upper])
    return Reference(problem, {"x": x}, {"x.lower": lower, "x.upper": upper})


@ol.problem
def relu(x=Variable("n", nonneg=True), y=Parameter("n")):
    """The rectifier as a projection onto the nonnegative orthant."""
    return minimize(ol.sum_squares(x - y) / 2)


def _cvxpy_relu(p: Arrays) -> Reference:
    x = cp.Variable(6)
    nonneg = x >= 0
    problem = _problem(cp.Minimize(cp.sum_squares(x - p["y"]) / 2), [nonneg])
    return Reference(problem, {"x": x}, {"x.nonneg": nonneg})


@ol.problem
def sparsemax(p=Variable("n", nonneg=True), z=Parameter("n")):
    """Projection onto the simplex."""
    return minimize(ol.sum_squares(p - z) / 2, mass=ol.sum(p) == 1)


def _cvxpy_sparsemax(values: Arrays) -> Reference:
    p = cp.Variable(6)
    nonneg, mass = p >= 0, cp.sum(p) == 1
    cost = cp.sum_squares(p - values["z"]) / 2
    problem = _problem(cp.Minimize(cost), [mass, nonneg])
    return Reference(problem, {"p": p}, {"mass": mass, "p.nonneg": nonneg})


@ol.problem
def vertex(x=Variable("n"), c=Parameter("n"), A=Parameter("k n"), b=Parameter("k")):
    """A linear program with a unique vertex."""
    return minimize(c @ x, polytope=A @ x <= b)


def _draw_vertex(rng: np.random.Generator) -> dict[str, np.ndarray]:
    n, k = 3, 7
    A = rng.standard_normal((k, n))
    active = np.zeros(k)
    active[:n] = 0.5 + rng.random(n)
    optimum = rng.standard_normal(n)
    slack = np.where(active > 0, 0.0, 0.5 + rng.random(k))
    return {"c": -A.T @ active, "A": A, "b": A @ optimum + slack}


def _cvxpy_vertex(p: Arrays) -> Reference:
    x = cp.Variable(3)
    polytope = p["A"] @ x <= p["b"]
    problem = _problem(cp.Minimize(p["c"] @ x), [polytope])
    return Reference(problem, {"x": x}, {"polytope": polytope})


@ol.problem
def robust_regression(
    x=Variable("n"), F=Parameter("k n"), g=Parameter("k"), rho=Parameter(nonneg=True)
):
    """Least squares against the worst perturbation of the data (El Ghaoui, Lebret)."""
    return minimize(ol.norm(F @ x - g) + rho * ol.norm(x))


def _draw_regression(rng: np.random.Generator) -> dict[str, np.ndarray]:
    rho = np.asarray(0.2 + 0.3 * rng.random())
    return _draw_least_squares(rng) | {"rho": rho}


def _cvxpy_regression(p: Arrays) -> Reference:
    x = cp.Variable(4)
    cost = cp.norm(p["F"] @ x - p["g"]) + float(p["rho"]) * cp.norm(x)
    return Reference(cp.Problem(cp.Minimize(cost)), {"x": x}, {})


@ol.problem
def markowitz(
    w=Variable("n"),
    mu=Parameter("n"),
    F=Parameter("k n"),
    d=Parameter("n", nonneg=True),
    gamma=Parameter(nonneg=True),
    limit=Parameter(nonneg=True),
):
    """Mean-variance trade-off with a factor-risk cone and a budget."""
    risk = ol.sum_squares(F @ w) + ol.sum_squares(ol.multiply(d, w))
    return maximize(
        mu @ w - gamma * risk, budget=ol.sum(w) == 1, cone=ol.norm(F @ w) <= limit
    )


def _draw_markowitz(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        "mu": rng.random(5),
        "F": rng.standard_normal((2, 5)),
        "d": 0.2 + rng.random(5),
        "gamma": np.asarray(0.5 + rng.random()),
        "limit": np.asarray(0.02 + 0.02 * rng.random()),
    }


def _cvxpy_markowitz(p: Arrays) -> Reference:
    w = cp.Variable(5)
    budget, cone = cp.sum(w) == 1, cp.norm(p["F"] @ w) <= p["limit"]
    risk = cp.sum_squares(p["F"] @ w) + cp.sum_squares(cp.multiply(p["d"], w))
    gain = p["mu"] @ w - float(p["gamma"]) * risk
    problem = _problem(cp.Maximize(gain), [budget, cone])
    return Reference(problem, {"w": w}, {"budget": budget, "cone": cone})


CONVEX = (
    Specimen("projection", project, _draw_project, _cvxpy_project),
    Specimen("portfolio", portfolio, _draw_portfolio, _cvxpy_portfolio),
    Specimen("mpc", mpc, _draw_mpc, _cvxpy_mpc, {"steps": 6}),
    Specimen(
        "least squares with bounds",
        bounded_least_squares,
        _draw_least_squares,
        _cvxpy_least_squares,
    ),
    Specimen("relu", relu, lambda rng: {"y": 2 * rng.standard_normal(6)}, _cvxpy_relu),
    Specimen(
        "sparsemax", sparsemax, lambda rng: {"z": rng.random(6)}, _cvxpy_sparsemax
    ),
    Specimen("vertex", vertex, _draw_vertex, _cvxpy_vertex),
    Specimen(
        "robust regression", robust_regression, _draw_regression, _cvxpy_regression
    ),
    Specimen("markowitz", markowitz, _draw_markowitz, _cvxpy_markowitz),
)
