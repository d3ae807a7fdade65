"""Statistics and learning: weights, temperatures and networks as parameters."""

import cvxpy as cp
import numpy as np
import torch

import optlayers as ol
from optlayers import Parameter, Variable, maximize, minimize
from tests.nondpp.entry import Entry

NET = torch.nn.Sequential(
    torch.nn.Linear(2, 5), torch.nn.ReLU(), torch.nn.Linear(5, 6)
).double()
with torch.no_grad():
    for number, weight in enumerate(NET.parameters()):
        generator = torch.Generator().manual_seed(number)
        weight.copy_(torch.randn(weight.shape, generator=generator) * 0.5)
NET.requires_grad_(False)


def net_by_hand(z):
    """The same network in cvxpy's atoms."""
    first, _, second = NET
    hidden = cp.pos(first.weight.numpy() @ z + first.bias.numpy())
    return second.weight.numpy() @ hidden + second.bias.numpy()


def regression(rng):
    return {"A": rng.standard_normal((6, 3)), "b": rng.standard_normal(6)}


def scalars(**ranges):
    """Draws of positive scalars between the given ends, beside the data."""

    def draw(rng):
        found = {k: np.asarray(rng.uniform(*ends)) for k, ends in ranges.items()}
        return regression(rng) | found

    return draw


@ol.problem
def ridge(
    x=Variable("n"),
    A=Parameter("k n"),
    b=Parameter("k"),
    lam=Parameter(nonneg=True),
    scale=Parameter(nonneg=True),
):
    """Ridge regression with a global and a local penalty."""
    return minimize(ol.sum_squares(A @ x - b) + lam * scale * ol.sum_squares(x))


def _ridge(p):
    x = cp.Variable(3)
    penalty = p["lam"] * p["scale"] * cp.sum_squares(x)
    return cp.Problem(cp.Minimize(cp.sum_squares(p["A"] @ x - p["b"]) + penalty)), {
        "x": x
    }


@ol.problem
def elastic_net(
    x=Variable("n"),
    A=Parameter("k n"),
    b=Parameter("k"),
    lam=Parameter(nonneg=True),
    mix=Parameter(lower=0, upper=1),
):
    """Elastic net by strength and mixture."""
    ridge_part = ol.nonneg(lam * (1 - mix)) * ol.sum_squares(x)
    lasso_part = ol.nonneg(lam * mix) * ol.norm(x, 1)
    return minimize(ol.sum_squares(A @ x - b) + ridge_part + lasso_part)


def _elastic_net(p):
    x = cp.Variable(3)
    penalty = p["lam"] * (1 - p["mix"]) * cp.sum_squares(x)
    penalty = penalty + p["lam"] * p["mix"] * cp.norm(x, 1)
    return cp.Problem(cp.Minimize(cp.sum_squares(p["A"] @ x - p["b"]) + penalty)), {
        "x": x
    }


@ol.problem
def log_penalty(
    x=Variable("n"), A=Parameter("k n"), b=Parameter("k"), theta=Parameter()
):
    """Lasso with its penalty on a logarithmic scale."""
    return minimize(ol.sum_squares(A @ x - b) + torch.exp(theta) * ol.norm(x, 1))


def _log_penalty(p):
    x = cp.Variable(3)
    cost = cp.sum_squares(p["A"] @ x - p["b"]) + cp.exp(p["theta"]) * cp.norm(x, 1)
    return cp.Problem(cp.Minimize(cost)), {"x": x}


@ol.problem
def group_lasso(
    x=Variable("n"), A=Parameter("k n"), b=Parameter("k"), w=Parameter("2", nonneg=True)
):
    """Group lasso with square roots of weights."""
    groups = ol.sqrt(w[0]) * ol.norm(x[:2]) + ol.sqrt(w[1]) * ol.norm(x[2:])
    return minimize(ol.sum_squares(A @ x - b) + groups)


def _group_lasso(p):
    x, w = cp.Variable(3), p["w"]
    groups = cp.sqrt(w[0]) * cp.norm(x[:2]) + cp.sqrt(w[1]) * cp.norm(x[2:])
    return cp.Problem(cp.Minimize(cp.sum_squares(p["A"] @ x - p["b"]) + groups)), {
        "x": x
    }


@ol.problem
def noise_level(
    x=Variable("n"),
    A=Parameter("k n"),
    b=Parameter("k"),
    sigma=Parameter(nonneg=True),
):
    """Maximum a posteriori estimate with a given noise."""
    return minimize(ol.sum_squares(A @ x - b) / sigma**2 + ol.sum_squares(x))


def _noise_level(p):
    x = cp.Variable(3)
    fit = cp.sum_squares(p["A"] @ x - p["b"]) / p["sigma"] ** 2
    return cp.Problem(cp.Minimize(fit + cp.sum_squares(x))), {"x": x}


@ol.problem
def scaled_huber(
    x=Variable("n"), A=Parameter("k n"), b=Parameter("k"), s=Parameter(nonneg=True)
):
    """Huber regression in units of a scale."""
    return minimize(ol.sum(ol.huber((A @ x - b) / s)) + ol.sum_squares(x))


def _scaled_huber(p):
    x = cp.Variable(3)
    cost = cp.sum(cp.huber((p["A"] @ x - p["b"]) / p["s"])) + cp.sum_squares(x)
    return cp.Problem(cp.Minimize(cost)), {"x": x}


@ol.problem
def quantile(
    x=Variable("n"),
    A=Parameter("k n"),
    b=Parameter("k"),
    tau=Parameter(nonneg=True),
):
    """Quantile regression at a given quantile."""
    error = b - A @ x
    pinball = ol.sum(ol.maximum(tau * error, (tau - 1) * error))
    return minimize(pinball + 0.1 * ol.sum_squares(x))


def _quantile(p):
    x = cp.Variable(3)
    error = p["b"] - p["A"] @ x
    pinball = cp.sum(cp.maximum(p["tau"] * error, (p["tau"] - 1) * error))
    return cp.Problem(cp.Minimize(pinball + 0.1 * cp.sum_squares(x))), {"x": x}


@ol.problem
def tempered(p=Variable("n"), z=Parameter("n"), T=Parameter(nonneg=True)):
    """Softmax with a temperature."""
    return maximize((z / T) @ p + ol.sum(ol.entr(p)), mass=ol.sum(p) == 1)


def _tempered(v):
    p = cp.Variable(3)
    gain = (v["z"] / v["T"]) @ p + cp.sum(cp.entr(p))
    return cp.Problem(cp.Maximize(gain), [cp.sum(p) == 1]), {"p": p}


@ol.problem
def network_weights(
    x=Variable("n"), A=Parameter("k n"), b=Parameter("k"), z=Parameter("2")
):
    """Least squares weighted by a network."""
    weights = ol.logistic(NET(z))
    return minimize(weights @ ol.square(A @ x - b) + 0.1 * ol.sum_squares(x))


def _network_weights(p):
    x = cp.Variable(3)
    # A network in cvxpy's atoms is neither convex nor concave; its value is a number.
    weights = cp.logistic(net_by_hand(p["z"]))
    cost = weights @ cp.square(p["A"] @ x - p["b"]) + 0.1 * cp.sum_squares(x)
    return cp.Problem(cp.Minimize(cost)), {"x": x}


@ol.problem
def network_limits(x=Variable("n"), y=Parameter("n"), z=Parameter("2")):
    """Projection within limits that a network gives."""
    return minimize(ol.sum_squares(x - y), limit=x <= torch.exp(NET(z)))


def _network_limits(p):
    x = cp.Variable(6)
    limit = x <= cp.exp(net_by_hand(p["z"]))
    return cp.Problem(cp.Minimize(cp.sum_squares(x - p["y"])), [limit]), {"x": x}


@ol.problem
def support_vectors(
    a=Variable("k", lower=0, upper=1), F=Parameter("k n"), y=Parameter("k")
):
    """Support vectors by their kernel's features."""
    return maximize(ol.sum(a) - ol.sum_squares(F.T @ (y * a)) - ol.sum_squares(a))


def _support_vectors(p):
    a = cp.Variable(6)
    image = p["F"].T @ cp.multiply(p["y"], a)
    gain = cp.sum(a) - cp.sum_squares(image) - cp.sum_squares(a)
    return cp.Problem(cp.Maximize(gain), [a >= 0, a <= 1]), {"a": a}


def _draw_vectors(rng):
    return {"F": rng.standard_normal((6, 3)), "y": np.sign(rng.standard_normal(6))}


STATISTICS = (
    Entry(ridge, "statistics", "lam * scale * cp.sum_squares(x)",
          "lam * scale * ol.sum_squares(x)", _ridge,
          scalars(lam=(0.5, 1), scale=(0.5, 1))),
    Entry(elastic_net, "statistics", "lam * (1 - mix) * cp.sum_squares(x)",
          "ol.nonneg(lam * (1 - mix)) * ol.sum_squares(x)", _elastic_net,
          scalars(lam=(0.3, 0.6), mix=(0.2, 0.8))),
    Entry(log_penalty, "statistics", "cp.exp(theta) * cp.norm(x, 1)",
          "torch.exp(theta) * ol.norm(x, 1)", _log_penalty,
          scalars(theta=(-2, -1))),
    Entry(group_lasso, "statistics", "cp.sqrt(w[0]) * cp.norm(x[:2])",
          "ol.sqrt(w[0]) * ol.norm(x[:2])", _group_lasso,
          lambda rng: regression(rng) | {"w": rng.uniform(0.1, 0.3, 2)}),
    Entry(noise_level, "statistics", "cp.sum_squares(A @ x - b) / sigma**2",
          "ol.sum_squares(A @ x - b) / sigma**2", _noise_level,
          scalars(sigma=(0.5, 1.5))),
    Entry(scaled_huber, "statistics", "cp.huber((A @ x - b) / s)",
          "ol.huber((A @ x - b) / s)", _scaled_huber, scalars(s=(0.5, 1))),
    Entry(quantile, "statistics", "cp.maximum(tau * error, (tau - 1) * error)",
          "ol.maximum(tau * error, (tau - 1) * error)", _quantile,
          scalars(tau=(0.3, 0.7))),
    Entry(tempered, "learning", "(z / T) @ p", "(z / T) @ p", _tempered,
          lambda rng: {"z": rng.standard_normal(3),
                       "T": np.asarray(rng.uniform(0.5, 2))}),
    Entry(network_weights, "learning", "cp.logistic(W @ cp.pos(V @ z)) @ cp.square(r)",
          "weights = ol.logistic(NET(z))", _network_weights,
          lambda rng: regression(rng) | {"z": rng.standard_normal(2)}),
    Entry(network_limits, "learning", "x <= cp.exp(W @ cp.pos(V @ z))",
          "x <= torch.exp(NET(z))", _network_limits,
          lambda rng: {"y": 3 * rng.standard_normal(6), "z": rng.standard_normal(2)}),
    Entry(support_vectors, "learning", "F.T @ cp.multiply(y, a)", "F.T @ (y * a)",
          _support_vectors, _draw_vectors),
)  # fmt: skip
