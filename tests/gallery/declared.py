"""The gallery of the cvxpylayers paper and repository, declared here at small size.

Source: Agrawal, Amos, Barratt, Boyd, Diamond, Kolter, Differentiable Convex
Optimization Layers (2019), sections 6 and 7 and the examples of its repository.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import cvxpy as cp
import numpy as np
import torch
from torch import Tensor

import optlayers as ol
from optlayers import Parameter, Variable, maximize, minimize

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Piece:
    """One piece of the gallery.

    Attributes:
        name: what it is called in reports.
        problem: the declaration.
        draw: parameters of one sample, by name.
        reference: the same by hand in cvxpy, and its first variable.
        output: the variable that is compared and learned from.
        learned: the parameter that a loss is lowered with.
        positive: parameters that a perturbation keeps positive.
        gp: whether cvxpy solves it as a geometric program.
    """

    name: str
    problem: Any
    draw: Callable[[np.random.Generator], dict[str, np.ndarray]]
    reference: Callable[[Arrays], tuple[cp.Problem, cp.Variable]]
    output: str
    learned: str
    gp: bool = False
    sizes: Mapping[str, int] = field(default_factory=dict)

    def sample(self, seed: int = 0) -> dict[str, Tensor]:
        """Parameters of one sample, float64."""
        drawn = self.draw(np.random.default_rng(seed))
        return {name: torch.as_tensor(value) for name, value in drawn.items()}


def posed(objective: Any, *constraints: Any) -> cp.Problem:
    return cp.Problem(objective, list(constraints))


# ---- rectifier and simplex -----------------------------------------------------------


@ol.problem
def relu(z=Variable("n", nonneg=True), y=Parameter("n")):
    """The rectifier as a projection."""
    return minimize(ol.sum_squares(z - y))


def _relu(p: Arrays):
    z = cp.Variable(5)
    return posed(cp.Minimize(cp.sum_squares(z - p["y"])), z >= 0), z


@ol.problem
def sparsemax(p=Variable("n", nonneg=True), y=Parameter("n")):
    """The softmax with zeros: nearest point of the simplex."""
    return minimize(ol.sum_squares(p - y), mass=ol.sum(p) == 1)


def _sparsemax(values: Arrays):
    p = cp.Variable(5)
    cost = cp.Minimize(cp.sum_squares(p - values["y"]))
    return posed(cost, p >= 0, cp.sum(p) == 1), p


# ---- logistic regression that an attacker poisons ------------------------------------


@ol.problem
def logistic(
    theta=Variable("n"),
    intercept=Variable(),
    X=Parameter("m n"),
    labels=Parameter("m"),
    ridge=Parameter(nonneg=True),
):
    """Logistic regression; labels are -1 and 1."""
    margins = labels * (X @ theta + intercept)
    return minimize(ol.mean(ol.logistic(-margins)) + ridge * ol.sum_squares(theta))


def _draw_logistic(rng: np.random.Generator) -> dict[str, np.ndarray]:
    X = rng.standard_normal((12, 2))
    labels = np.sign(X @ np.array([1.0, -0.5]) + 0.7 * rng.standard_normal(12))
    return {"X": X, "labels": labels, "ridge": np.asarray(0.1)}


def _logistic(p: Arrays):
    theta, intercept = cp.Variable(2), cp.Variable()
    margins = cp.multiply(p["labels"], p["X"] @ theta + intercept)
    loss = cp.sum(cp.logistic(-margins)) / 12
    return posed(cp.Minimize(loss + p["ridge"] * cp.sum_squares(theta))), theta


# ---- a controller by an approximate value function -----------------------------------


@ol.problem
def policy(
    u=Variable("m"),
    x=Parameter("n"),
    root=Parameter("n n"),
    q=Parameter("n"),
    A=Parameter("n n"),
    B=Parameter("n m"),
):
    """The input that is best for a quadratic guess of the cost to go."""
    following = A @ x + B @ u
    cost = ol.sum_squares(u) + ol.sum_squares(root @ following) + q @ following
    return minimize(cost, bound=ol.norm_inf(u) <= 0.5)


def _draw_policy(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        "x": rng.standard_normal(3),
        "root": np.eye(3) + 0.1 * rng.standard_normal((3, 3)),
        "q": 0.1 * rng.standard_normal(3),
        "A": np.eye(3) + 0.1 * rng.standard_normal((3, 3)),
        "B": rng.standard_normal((3, 2)),
    }


def _policy(p: Arrays):
    u = cp.Variable(2)
    y = p["A"] @ p["x"] + p["B"] @ u
    cost = cp.sum_squares(u) + cp.sum_squares(p["root"] @ y) + p["q"] @ y
    return posed(cp.Minimize(cost), cp.norm_inf(u) <= 0.5), u


# ---- optimal transport ---------------------------------------------------------------


@ol.problem
def transport(
    P=Variable("m n"),
    C=Parameter("m n"),
    source=Parameter("m"),
    target=Parameter("n"),
    blur=Parameter(nonneg=True),
):
    """The cheapest plan, blurred by entropy; the last target is implied."""
    cost = ol.sum(C * P) - blur * ol.sum(ol.entr(P))
    rows, columns = ol.sum(P, axis=1), ol.sum(P, axis=0)
    return minimize(cost, rows=rows == source, columns=columns[:-1] == target[:-1])


def _draw_transport(rng: np.random.Generator) -> dict[str, np.ndarray]:
    source, target = rng.random(3) + 0.5, rng.random(4) + 0.5
    return {
        "C": rng.random((3, 4)),
        "source": source / source.sum(),
        "target": target / target.sum(),
        "blur": np.asarray(0.2),
    }


def _transport(p: Arrays):
    P = cp.Variable((3, 4))
    cost = cp.sum(cp.multiply(p["C"], P)) - p["blur"] * cp.sum(cp.entr(P))
    rows = cp.sum(P, axis=1) == p["source"]
    columns = cp.sum(P, axis=0)[:-1] == p["target"][:-1]
    return posed(cp.Minimize(cost), rows, columns), P


# ---- signals -------------------------------------------------------------------------


@ol.problem
def monotonic(y=Variable("n"), raw=Parameter("n")):
    """Monotonic regression: the nearest sequence that never falls."""
    return minimize(ol.sum_squares(y - raw), rising=ol.diff(y) >= 0)


def _draw_monotonic(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {"raw": np.linspace(0, 2, 8) + 0.6 * rng.standard_normal(8)}


def _monotonic(p: Arrays):
    y = cp.Variable(8)
    cost = cp.Minimize(cp.sum_squares(y - p["raw"]))
    return posed(cost, cp.diff(y) >= 0), y


@ol.problem
def denoise(x=Variable("n"), y=Parameter("n"), weights=Parameter("n-1", nonneg=True)):
    """A smooth signal near a noisy one; each step is weighed by itself."""
    return minimize(ol.sum_squares(x - y) + ol.sum_squares(weights * ol.diff(x)))


def _draw_denoise(rng: np.random.Generator) -> dict[str, np.ndarray]:
    signal = np.sin(np.linspace(0, 3, 9)) + 0.3 * rng.standard_normal(9)
    return {"y": signal, "weights": 0.5 + rng.random(8)}


def _denoise(p: Arrays):
    x = cp.Variable(9)
    roughness = cp.sum_squares(cp.multiply(p["weights"], cp.diff(x)))
    return posed(cp.Minimize(cp.sum_squares(x - p["y"]) + roughness)), x


# ---- stiffness -----------------------------------------------------------------------


@ol.problem
def blocks(x=Variable("n+1"), k=Parameter("n", nonneg=True)):
    """Blocks between walls at 0 and 1, on springs of stiffness k."""
    gaps = ol.diff(x)
    return minimize(
        k @ gaps**2 / 2, left=x[0] == 0, right=x[-1] == 1, apart=gaps >= 0.1
    )


def _blocks(p: Arrays):
    x = cp.Variable(6)
    gaps = cp.diff(x)
    cost = cp.Minimize(p["k"] @ cp.square(gaps) / 2)
    return posed(cost, x[0] == 0, x[5] == 1, gaps >= 0.1), x


@ol.problem
def stiffest(
    k=Variable("m", nonneg=True),
    least=Variable(),
    rods=Parameter("m n"),
    weight=Parameter("m", nonneg=True),
):
    """Rods of stiffness k, as stiff as a budget allows in their weakest direction."""
    count, n = rods.shape
    K = sum(k[i] * ol.outer(rods[i], rods[i]) for i in range(count))
    gain = least - 0.05 * ol.sum_squares(k)
    return maximize(gain, weakest=K >> least * torch.eye(n), budget=weight @ k <= 3)


def _draw_stiffest(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {"rods": rng.standard_normal((4, 2)), "weight": 0.5 + rng.random(4)}


def _stiffest(p: Arrays):
    k, least = cp.Variable(4, nonneg=True), cp.Variable()
    K = sum(k[i] * np.outer(one, one) for i, one in enumerate(p["rods"]))
    gain = cp.Maximize(least - 0.05 * cp.sum_squares(k))
    return posed(gain, K - least * np.eye(2) >> 0, p["weight"] @ k <= 3), k


# ---- resources, boxes ----------------------------------------------------------------


@ol.problem
def allocate(
    spent=Variable("m", nonneg=True),
    price=Parameter("m", nonneg=True),
    alpha=Parameter("m", nonneg=True),
    money=Parameter(nonneg=True),
):
    """Spend a budget where utility, which saturates, is largest."""
    utility = ol.sum((1 - ol.exp(-alpha * spent / price)) / alpha)
    return maximize(utility, budget=ol.sum(spent) == money)


def _draw_allocate(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        "price": 0.4 + rng.random(4),
        "alpha": 0.3 + rng.random(4),
        "money": np.asarray(4.0),
    }


def _allocate(p: Arrays):
    spent = cp.Variable(4)
    decay = cp.exp(-cp.multiply(p["alpha"] / p["price"], spent))
    gain = cp.Maximize(cp.sum(cp.multiply(1 / p["alpha"], 1 - decay)))
    return posed(gain, spent >= 0, cp.sum(spent) == p["money"]), spent


@ol.problem(geometric=True)
def box(size=Variable("3"), wall=Parameter(), floor=Parameter(), ratio=Parameter("2")):
    """The largest box of bounded walls, floor and proportions."""
    h, w, d = size[0], size[1], size[2]
    return minimize(
        1 / (h * w * d),
        walls=2 * h * w + 2 * h * d <= wall,
        ground=w * d <= floor,
        tall=h <= ratio[0] * w,
        deep=d <= ratio[1] * w,
    )


def _draw_box(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        "wall": np.asarray(20.0),
        "floor": np.asarray(3.0),
        "ratio": 0.6 + 0.3 * rng.random(2),
    }


def _box(p: Arrays):
    size = cp.Variable(3, pos=True)
    h, w, d = size[0], size[1], size[2]
    problem = posed(
        cp.Minimize(1 / (h * w * d)),
        2 * h * w + 2 * h * d <= float(p["wall"]),
        w * d <= float(p["floor"]),
        h <= float(p["ratio"][0]) * w,
        d <= float(p["ratio"][1]) * w,
    )
    return problem, size


def _vector(scale: float, size: int) -> Callable[..., dict[str, np.ndarray]]:
    return lambda rng: {"y": scale * rng.standard_normal(size)}


GALLERY = (
    Piece("ReLU", relu, _vector(2, 5), _relu, "z", "y"),
    Piece("sparsemax", sparsemax, _vector(0.5, 5), _sparsemax, "p", "y"),
    Piece("data poisoning", logistic, _draw_logistic, _logistic, "theta", "X"),
    Piece("dynamic programming", policy, _draw_policy, _policy, "u", "root"),
    Piece("optimal transport", transport, _draw_transport, _transport, "P", "C"),
    Piece("monotonic", monotonic, _draw_monotonic, _monotonic, "y", "raw"),
    Piece("denoising", denoise, _draw_denoise, _denoise, "x", "weights"),
    Piece(
        "springs",
        blocks,
        lambda rng: {"k": np.array([1.0, 0.6, 1.5, 9.0, 0.8])},
        _blocks,
        "x",
        "k",
    ),
    Piece("stiffness", stiffest, _draw_stiffest, _stiffest, "k", "rods"),
    Piece("allocation", allocate, _draw_allocate, _allocate, "spent", "alpha"),
    Piece("box", box, _draw_box, _box, "size", "ratio", gp=True),
)
