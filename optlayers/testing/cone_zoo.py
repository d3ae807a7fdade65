"""Specimens of the zoo with semidefinite, exponential and power cones.

As in `zoo.py`: declared twice, with data whose solutions are strictly complementary.
"""

from typing import Any

import cvxpy as cp
import numpy as np

import optlayers as ol
from optlayers import Parameter, Variable, maximize, minimize
from optlayers.testing.zoo import Arrays, Reference, Specimen

# ---- nearest correlation matrix (semidefinite) ---------------------------------------


@ol.problem
def nearest_correlation(X=Variable("n n", symmetric=True), C=Parameter("n n")):
    """The correlation matrix nearest to one that is not semidefinite (Higham)."""
    return minimize(ol.sum_squares(X - C), unit=ol.diag(X) == 1, psd=X >> 0)


def _draw_correlation(rng: np.random.Generator) -> dict[str, np.ndarray]:
    while True:
        upper = np.triu(rng.uniform(-1.2, 1.2, (3, 3)), 1)
        C = np.eye(3) + upper + upper.T
        if np.linalg.eigvalsh(C)[0] < -0.3:
            return {"C": C}


def _cvxpy_correlation(p: Arrays) -> Reference:
    X = cp.Variable((3, 3), symmetric=True)
    unit, psd = cp.diag(X) == 1, X >> 0
    problem = cp.Problem(cp.Minimize(cp.sum_squares(X - p["C"])), [unit, psd])
    return Reference(problem, {"X": X}, {"unit": unit, "psd": psd})


# ---- largest entropy under a mean (exponential) --------------------------------------


@ol.problem
def largest_entropy(
    p=Variable("n"), c=Parameter("n"), a=Parameter("n"), level=Parameter()
):
    """The distribution of largest entropy and gain whose mean is limited."""
    return maximize(
        c @ p + ol.sum(ol.entr(p)), mass=ol.sum(p) == 1, mean=a @ p <= level
    )


def _draw_entropy(rng: np.random.Generator) -> dict[str, np.ndarray]:
    c, a = rng.standard_normal(4), rng.standard_normal(4)
    free = np.exp(c) / np.exp(c).sum()
    # Below the mean of the free distribution, so that the limit is active.
    level = 0.7 * (a @ free) + 0.3 * a.min()
    return {"c": c, "a": a, "level": np.asarray(level)}


def _cvxpy_entropy(values: Arrays) -> Reference:
    p = cp.Variable(4)
    mass, mean = cp.sum(p) == 1, values["a"] @ p <= values["level"]
    gain = values["c"] @ p + cp.sum(cp.entr(p))
    constraints: list[Any] = [mass, mean]  # may be bool to a type checker
    problem = cp.Problem(cp.Maximize(gain), constraints)
    return Reference(problem, {"p": p}, {"mass": mass, "mean": mean})


# ---- logistic regression (exponential) -----------------------------------------------


@ol.problem
def logistic_regression(
    x=Variable("n"), F=Parameter("k n"), rho=Parameter(nonneg=True)
):
    """Logistic loss with a ridge; the rows of F carry their labels."""
    return minimize(ol.sum(ol.logistic(F @ x)) + rho * ol.sum_squares(x))


def _draw_logistic(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {"F": rng.standard_normal((5, 2)), "rho": np.asarray(0.2 + rng.random())}


def _cvxpy_logistic(p: Arrays) -> Reference:
    x = cp.Variable(2)
    cost = cp.sum(cp.logistic(p["F"] @ x)) + float(p["rho"]) * cp.sum_squares(x)
    return Reference(cp.Problem(cp.Minimize(cost)), {"x": x}, {})


# ---- projection on a power cone ------------------------------------------------------


@ol.problem
def in_power_cone(x=Variable("3"), y=Parameter("3")):
    """The nearest point of {x0^0.3 x1^0.7 >= |x2|}."""
    cone = ol.in_cone(x, "power", exponent=0.3)
    return minimize(ol.sum_squares(x - y), inside=cone)


def _draw_power(rng: np.random.Generator) -> dict[str, np.ndarray]:
    y = rng.standard_normal(3)
    y[2] += 3 * np.sign(y[2])
    return {"y": y}


def _cvxpy_power(p: Arrays) -> Reference:
    x = cp.Variable(3)
    inside = cp.PowCone3D(x[0], x[1], x[2], 0.3)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - p["y"])), [inside])
    return Reference(problem, {"x": x}, {"inside": inside})


CONIC = (
    Specimen(
        "nearest correlation matrix",
        nearest_correlation,
        _draw_correlation,
        _cvxpy_correlation,
    ),
    Specimen("largest entropy", largest_entropy, _draw_entropy, _cvxpy_entropy),
    Specimen(
        "logistic regression", logistic_regression, _draw_logistic, _cvxpy_logistic
    ),
    Specimen("power cone", in_power_cone, _draw_power, _cvxpy_power),
)
