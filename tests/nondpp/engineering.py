"""Control, robotics and signals: products, inverses and roots of parameters."""

import cvxpy as cp
import numpy as np
import torch

import optlayers as ol
from optlayers import Control, Parameter, State, Variable, maximize, minimize
from tests.nondpp.entry import Entry

STEPS = 4


@ol.problem
def condensed(
    u=Variable("3 m"),
    x0=Parameter("n"),
    A=Parameter("n n"),
    B=Parameter("n m"),
):
    """Predictive control with the states written out."""
    x, cost = x0, ol.sum_squares(u)
    for k in range(3):
        x = A @ x + B @ u[k]
        cost = cost + ol.sum_squares(x)
    return minimize(cost, ol.between(-1, u, 1))


def _condensed(p):
    u = cp.Variable((3, 1))
    x, cost = p["x0"], cp.sum_squares(u)
    for k in range(3):
        x = p["A"] @ x + p["B"] @ u[k]
        cost = cost + cp.sum_squares(x)
    return cp.Problem(cp.Minimize(cost), [u >= -1, u <= 1]), {"u": u}


@ol.problem
def sampled(
    x=State("n"),
    u=Control("m"),
    x0=Parameter("n"),
    A=Parameter("n n"),
    B=Parameter("n m"),
    dt=Parameter(nonneg=True),
):
    """Control at a sampling time that is given."""
    cost = ol.total(ol.sum_squares(x) + ol.sum_squares(u)) + ol.sum_squares(x.last)
    step = x.next == x + dt * (A @ x + B @ u)
    return minimize(cost, start=x.first == x0, step=step)


def _sampled(p):
    x, u = cp.Variable((STEPS + 1, 2)), cp.Variable((STEPS, 1))
    held = [x[0] == p["x0"]]
    for k in range(STEPS):
        held.append(x[k + 1] == x[k] + p["dt"] * (p["A"] @ x[k] + p["B"] @ u[k]))
    cost = cp.sum_squares(x) + cp.sum_squares(u)
    return cp.Problem(cp.Minimize(cost), held), {"x": x, "u": u}


def _draw_control(rng):
    return {
        "x0": 2 * rng.standard_normal(2),
        "A": np.eye(2) + 0.3 * rng.standard_normal((2, 2)),
        "B": rng.standard_normal((2, 1)),
    }


@ol.problem
def terminal(
    x=State("n"),
    u=Control("m"),
    x0=Parameter("n"),
    A=Parameter("n n"),
    B=Parameter("n m"),
    L=Parameter("n n"),
):
    """Control with a learned factor of the final cost."""
    cost = ol.total(ol.sum_squares(x) + ol.sum_squares(u))
    final = ol.quad_form(A @ x.last, L @ L.T)
    return minimize(cost + final, start=x.first == x0, step=x.next == A @ x + B @ u)


def _terminal(p):
    x, u = cp.Variable((STEPS + 1, 2)), cp.Variable((STEPS, 1))
    held = [x[0] == p["x0"]]
    held += [x[k + 1] == p["A"] @ x[k] + p["B"] @ u[k] for k in range(STEPS)]
    cost = cp.sum_squares(x[:-1]) + cp.sum_squares(u)
    final = cp.sum_squares(p["L"].T @ (p["A"] @ x[STEPS]))
    return cp.Problem(cp.Minimize(cost + final), held), {"x": x, "u": u}


@ol.problem
def storage(
    e=State(),
    c=Control(nonneg=True),
    d=Control(nonneg=True),
    price=Parameter("4"),
    eta=Parameter(nonneg=True),
):
    """Battery with losses both ways."""
    traded = sum(price[k] * (c.at(k) - d.at(k)) for k in range(4))
    cost = traded + ol.total(ol.square(c) + ol.square(d))
    return minimize(cost, start=e.first == 1, step=e.next == e + eta * c - d / eta)


def _storage(p):
    e, c, d = cp.Variable(STEPS + 1), cp.Variable(STEPS), cp.Variable(STEPS)
    step = e[1:] == e[:-1] + p["eta"] * c - d / p["eta"]
    cost = p["price"] @ (c - d) + cp.sum_squares(c) + cp.sum_squares(d)
    return cp.Problem(cp.Minimize(cost), [e[0] == 1, step, c >= 0, d >= 0]), {
        "e": e,
        "c": c,
        "d": d,
    }


@ol.problem
def task_space(
    tau=Variable("n"), J=Parameter("k n"), L=Parameter("n n"), acc=Parameter("k")
):
    """Torques under a mass matrix given by its root."""
    M = L @ L.T
    miss = ol.sum_squares(J @ torch.linalg.inv(M) @ tau - acc)
    return minimize(miss + 0.1 * ol.sum_squares(tau), ol.between(-1, tau, 1))


def _task_space(p):
    # cvxpy has no inverse of a parameter: the accelerations are unknowns too.
    tau, q = cp.Variable(3), cp.Variable(3)
    cost = cp.sum_squares(p["J"] @ q - p["acc"]) + 0.1 * cp.sum_squares(tau)
    held = [p["L"] @ (p["L"].T @ q) == tau, tau >= -1, tau <= 1]
    return cp.Problem(cp.Minimize(cost), held), {"tau": tau}


@ol.problem
def grasp(
    f=Variable("3"),
    mu=Parameter(nonneg=True),
    normal=Parameter("3"),
    T=Parameter("2 3"),
    load=Parameter("3"),
):
    """Grasp in a friction cone of a given normal."""
    cone = ol.norm(T @ f) <= mu * (normal @ f)
    return minimize(ol.sum_squares(f - load), cone=cone)


def _grasp(p):
    f = cp.Variable(3)
    cone = cp.norm(p["T"] @ f) <= p["mu"] * (p["normal"] @ f)
    return cp.Problem(cp.Minimize(cp.sum_squares(f - p["load"])), [cone]), {"f": f}


@ol.problem
def mahalanobis(
    x=Variable("n"),
    mean=Parameter("n"),
    S=Parameter("n n", psd=True),
    scale=Parameter(nonneg=True),
    b=Parameter(),
):
    """Nearest point in the metric of a scaled covariance."""
    Q = ol.psd_matrix(torch.linalg.inv(scale * S))
    return minimize(ol.quad_form(x - mean, Q), half=ol.sum(x) <= b)


def _mahalanobis(p):
    x = cp.Variable(3)
    cost = cp.matrix_frac(x - p["mean"], p["scale"] * p["S"])
    return cp.Problem(cp.Minimize(cost), [cp.sum(x) <= p["b"]]), {"x": x}


@ol.problem
def gain_and_blur(
    x=Variable("n", nonneg=True),
    H=Parameter("k n"),
    gain=Parameter(),
    y=Parameter("k"),
):
    """Deblurring behind an amplifier."""
    return minimize(ol.sum_squares(gain * (H @ x) - y) + 0.1 * ol.sum_squares(x))


def _gain_and_blur(p):
    x = cp.Variable(3)
    cost = cp.sum_squares(p["gain"] * (p["H"] @ x) - p["y"])
    return cp.Problem(cp.Minimize(cost + 0.1 * cp.sum_squares(x)), [x >= 0]), {"x": x}


@ol.problem
def normalized(x=Variable("n"), H=Parameter("k n"), y=Parameter("k")):
    """Recovery with an operator of norm one."""
    miss = ol.sum_squares(H / torch.linalg.norm(H) @ x - y)
    return minimize(miss + 0.1 * ol.norm(x, 1))


def _normalized(p):
    x = cp.Variable(3)
    miss = cp.sum_squares((p["H"] / cp.norm(p["H"], "fro")) @ x - p["y"])
    return cp.Problem(cp.Minimize(miss + 0.1 * cp.norm(x, 1))), {"x": x}


@ol.problem
def water_filling(
    p=Variable("n", nonneg=True),
    noise=Parameter("n", nonneg=True),
    gain=Parameter("n", nonneg=True),
    power=Parameter(),
):
    """Power over channels of given noise and gain."""
    return maximize(ol.sum(ol.log(noise / gain + p)), budget=ol.sum(p) == power)


def _water_filling(v):
    p = cp.Variable(4)
    floor = cp.multiply(v["noise"], cp.inv_pos(v["gain"]))
    gain = cp.sum(cp.log(floor + p))
    return cp.Problem(cp.Maximize(gain), [cp.sum(p) == v["power"], p >= 0]), {"p": p}


@ol.problem
def two_radii(
    x=Variable("n"),
    c=Parameter("n"),
    r=Parameter(nonneg=True),
    s=Parameter(nonneg=True),
):
    """Reach within the larger of two ranges."""
    return maximize(c @ x, reach=ol.norm(x) <= ol.maximum(r, s))


def _two_radii(p):
    x = cp.Variable(3)
    reach = cp.norm(x) <= cp.maximum(p["r"], p["s"])
    return cp.Problem(cp.Maximize(p["c"] @ x), [reach]), {"x": x}


ENGINEERING = (
    Entry(condensed, "control", "A @ (A @ x0 + B @ u[0]) + B @ u[1]",
          "x = A @ x + B @ u[k]", _condensed, _draw_control),
    Entry(sampled, "control", "dt * (A @ x + B @ u)", "dt * (A @ x + B @ u)", _sampled,
          lambda rng: _draw_control(rng) | {"dt": np.asarray(rng.uniform(0.1, 0.3))},
          {"steps": STEPS}),
    Entry(terminal, "control", "cp.sum_squares(L.T @ (A @ x[T]))",
          "ol.quad_form(A @ x.last, L @ L.T)", _terminal,
          lambda rng: _draw_control(rng) | {"L": rng.standard_normal((2, 2))},
          {"steps": STEPS}),
    Entry(storage, "energy", "e + eta * c - d / eta", "e + eta * c - d / eta", _storage,
          lambda rng: {"price": rng.standard_normal(4),
                       "eta": np.asarray(rng.uniform(0.8, 0.95))}, {"steps": STEPS}),
    Entry(task_space, "robotics", "L @ (L.T @ q) == tau",
          "J @ torch.linalg.inv(M) @ tau",
          _task_space,
          lambda rng: {"J": rng.standard_normal((2, 3)),
                       "L": np.diag([1.0, 1.5, 2.0]) + 0.2 * rng.random((3, 3)),
                       "acc": rng.standard_normal(2)}),
    Entry(grasp, "robotics", "mu * (normal @ f)", "mu * (normal @ f)", _grasp,
          lambda rng: {"mu": np.asarray(rng.uniform(0.3, 0.5)),
                       "normal": np.array([0.0, 0.0, 1.0]), "T": np.eye(2, 3),
                       "load": np.array([1.0, 0.5, 1.0])}),
    Entry(mahalanobis, "statistics", "cp.matrix_frac(x - mean, scale * S)",
          "ol.psd_matrix(torch.linalg.inv(scale * S))", _mahalanobis,
          lambda rng: {"mean": 1 + rng.random(3),
                       "S": np.diag([1.0, 2.0, 3.0]) + 0.3 * np.ones((3, 3)),
                       "b": np.asarray(1.0), "scale": np.asarray(rng.uniform(1, 2))}),
    Entry(gain_and_blur, "signals", "gain * (H @ x)", "gain * (H @ x)", _gain_and_blur,
          lambda rng: {"H": rng.random((4, 3)), "gain": np.asarray(rng.uniform(1, 2)),
                       "y": 1 + rng.random(4)}),
    Entry(normalized, "signals", "H / cp.norm(H, 'fro') @ x",
          "H / torch.linalg.norm(H) @ x", _normalized,
          lambda rng: {"H": rng.standard_normal((5, 3)),
                       "y": 3 * rng.standard_normal(5)}),
    Entry(water_filling, "signals", "cp.log(noise / gain + p)",
          "ol.log(noise / gain + p)", _water_filling,
          lambda rng: {"noise": rng.uniform(0.5, 1, 4), "gain": rng.uniform(1, 2, 4),
                       "power": np.asarray(4.0)}),
    Entry(two_radii, "robotics", "cp.norm(x) <= cp.maximum(r, s)",
          "ol.norm(x) <= ol.maximum(r, s)", _two_radii,
          lambda rng: {"c": rng.standard_normal(3), "r": np.asarray(1.0),
                       "s": np.asarray(rng.uniform(1.5, 2))}),
)  # fmt: skip
