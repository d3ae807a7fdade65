"""Finance and economics: covariances, quantiles and discounts as parameters."""

import cvxpy as cp
import numpy as np
import torch

import optlayers as ol
from optlayers import Parameter, Variable, maximize, minimize
from tests.nondpp.entry import Entry


def covariance(rng, n=4):
    S = rng.standard_normal((n, n))
    return S @ S.T / n + 0.3 * np.eye(n)


@ol.problem
def variance_limit(
    w=Variable("n"), mu=Parameter("n"), S=Parameter("n n", psd=True), limit=Parameter()
):
    """Portfolio under a limit on variance."""
    return maximize(mu @ w, budget=ol.sum(w) == 1, risk=ol.quad_form(w, S) <= limit)


def _variance_limit(p):
    w = cp.Variable(4)
    risk = cp.quad_form(w, p["S"]) <= p["limit"]
    return cp.Problem(cp.Maximize(p["mu"] @ w), [cp.sum(w) == 1, risk]), {"w": w}


@ol.problem
def risk_aversion(
    w=Variable("n"),
    mu=Parameter("n"),
    S=Parameter("n n", psd=True),
    gamma=Parameter(nonneg=True),
):
    """Mean and variance traded by a risk aversion."""
    return maximize(mu @ w - gamma * ol.quad_form(w, S), budget=ol.sum(w) == 1)


def _risk_aversion(p):
    w = cp.Variable(4)
    gain = p["mu"] @ w - p["gamma"] * cp.quad_form(w, p["S"])
    return cp.Problem(cp.Maximize(gain), [cp.sum(w) == 1]), {"w": w}


@ol.problem
def factor_risk(
    w=Variable("n", nonneg=True),
    F=Parameter("n k"),
    v=Parameter("k", nonneg=True),
    d=Parameter("n", nonneg=True),
):
    """Least variance in a factor model."""
    S = F @ ol.diag(v) @ F.T + ol.diag(d)
    return minimize(ol.quad_form(w, ol.psd_matrix(S)), budget=ol.sum(w) == 1)


def _factor_risk(p):
    w = cp.Variable(4)
    factors = cp.multiply(cp.sqrt(p["v"]), p["F"].T @ w)
    own = cp.multiply(cp.sqrt(p["d"]), w)
    cost = cp.sum_squares(factors) + cp.sum_squares(own)
    return cp.Problem(cp.Minimize(cost), [cp.sum(w) == 1, w >= 0]), {"w": w}


@ol.problem
def chance_limit(
    w=Variable("n"), mu=Parameter("n"), L=Parameter("n n"), eps=Parameter(nonneg=True)
):
    """Robust chance constraint at a given probability."""
    kappa = ol.nonneg(torch.sqrt((1 - eps) / eps))
    safe = kappa * ol.norm(L @ w) <= 1 + mu @ w
    return maximize(mu @ w - ol.sum_squares(w), safe=safe)


def _chance_limit(p):
    w = cp.Variable(4)
    kappa = cp.sqrt((1 - p["eps"]) / p["eps"])
    safe = kappa * cp.norm(p["L"] @ w) <= 1 + p["mu"] @ w
    return cp.Problem(cp.Maximize(p["mu"] @ w - cp.sum_squares(w)), [safe]), {"w": w}


@ol.problem
def discounted(
    c=Variable("4", nonneg=True), gamma=Parameter(nonneg=True), W=Parameter()
):
    """Consumption under a discount to a power."""
    utility = sum(gamma**k * ol.log(1 + c[k]) for k in range(4))
    return maximize(utility, wealth=ol.sum(c) == W)


def _discounted(p):
    c = cp.Variable(4)
    utility = sum(p["gamma"] ** k * cp.log(1 + c[k]) for k in range(4))
    return cp.Problem(cp.Maximize(utility), [cp.sum(c) == p["W"], c >= 0]), {"c": c}


@ol.problem
def demand(
    x=Variable("n"), a=Parameter("n"), price=Parameter("n", nonneg=True), m=Parameter()
):
    """Cobb-Douglas demand with logits of shares."""
    shares = torch.softmax(a, -1)
    return maximize(ol.nonneg(shares) @ ol.log(x), income=price @ x <= m)


def _demand(p):
    x = cp.Variable(3)
    shares = cp.exp(p["a"]) / cp.sum(cp.exp(p["a"]))
    return cp.Problem(cp.Maximize(shares @ cp.log(x)), [p["price"] @ x <= p["m"]]), {
        "x": x
    }


@ol.problem
def impact(
    u=Variable("n"),
    target=Parameter(),
    volatility=Parameter("n", nonneg=True),
    volume=Parameter("n", nonneg=True),
):
    """Trading with impact of volatility over volume."""
    cost = ol.sum(volatility / volume * ol.square(u))
    return minimize(cost, filled=ol.sum(u) == target)


def _impact(p):
    u = cp.Variable(4)
    weights = cp.multiply(p["volatility"], cp.inv_pos(p["volume"]))
    cost = cp.sum(cp.multiply(weights, cp.square(u)))
    return cp.Problem(cp.Minimize(cost), [cp.sum(u) == p["target"]]), {"u": u}


@ol.problem
def transport(
    P=Variable("3 3"),
    D=Parameter("3 3", nonneg=True),
    a=Parameter("3", nonneg=True),
    eps=Parameter(nonneg=True),
):
    """Transport at squared distances, regularized."""
    cost = ol.sum(D**2 * P) + eps * ol.sum_squares(P)
    return minimize(cost, out=ol.sum(P, axis=1) == a, into=ol.sum(P, axis=0) <= 1.05)


def _transport(p):
    P = cp.Variable((3, 3))
    cost = cp.sum(cp.multiply(p["D"] ** 2, P)) + p["eps"] * cp.sum_squares(P)
    held = [cp.sum(P, axis=1) == p["a"], cp.sum(P, axis=0) <= 1.05]
    return cp.Problem(cp.Minimize(cost), held), {"P": P}


FINANCE = (
    Entry(variance_limit, "finance", "cp.quad_form(w, S) <= limit",
          "ol.quad_form(w, S) <= limit", _variance_limit,
          lambda rng: {"mu": rng.random(4), "S": covariance(rng),
                       "limit": np.asarray(2.0)}),
    Entry(risk_aversion, "finance", "gamma * cp.quad_form(w, S)",
          "gamma * ol.quad_form(w, S)", _risk_aversion,
          lambda rng: {"mu": rng.random(4), "S": covariance(rng),
                       "gamma": np.asarray(rng.uniform(0.5, 1))}),
    Entry(factor_risk, "finance", "cp.multiply(cp.sqrt(v), F.T @ w)",
          "S = F @ ol.diag(v) @ F.T + ol.diag(d)", _factor_risk,
          lambda rng: {"F": rng.standard_normal((4, 2)), "v": rng.uniform(0.1, 1, 2),
                       "d": rng.uniform(0.5, 1, 4)}),
    Entry(chance_limit, "finance", "cp.sqrt((1 - eps) / eps) * cp.norm(L @ w)",
          "kappa * ol.norm(L @ w) <= 1 + mu @ w", _chance_limit,
          lambda rng: {"mu": rng.uniform(0.5, 1, 4), "L": rng.standard_normal((4, 4)),
                       "eps": np.asarray(rng.uniform(0.05, 0.1))}),
    Entry(discounted, "economics", "gamma**k * cp.log(1 + c[k])",
          "gamma**k * ol.log(1 + c[k])", _discounted,
          lambda rng: {"gamma": np.asarray(rng.uniform(0.8, 0.9)),
                       "W": np.asarray(6.0)}),
    Entry(demand, "economics", "(cp.exp(a) / cp.sum(cp.exp(a))) @ cp.log(x)",
          "shares = torch.softmax(a, -1)", _demand,
          lambda rng: {"a": rng.standard_normal(3), "price": rng.uniform(1, 2, 3),
                       "m": np.asarray(5.0)}),
    Entry(impact, "finance", "volatility / volume * cp.square(u)",
          "volatility / volume * ol.square(u)", _impact,
          lambda rng: {"target": np.asarray(2.0), "volatility": rng.uniform(1, 2, 4),
                       "volume": rng.uniform(1, 2, 4)}),
    Entry(transport, "economics", "cp.multiply(D**2, P)", "ol.sum(D**2 * P)",
          _transport,
          lambda rng: {"D": rng.uniform(0.2, 1, (3, 3)),
                       "a": np.array([0.8, 1.0, 1.2]), "eps": np.asarray(2.0)}),
)  # fmt: skip
