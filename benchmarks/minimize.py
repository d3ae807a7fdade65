"""Time batches of minimizations against their peers.

One process pinned to one core, peers and us in turn on the same tensors; that every
answer is a KKT point is checked before anything is timed. Peers that are not installed
are named and left out:

    pip install --target DIR jaxopt optimistix casadi
    PYTHONPATH=DIR python benchmarks/minimize.py [--clock cpu] [--only nlp]

On a machine that others share, `--clock cpu` counts the time of this process alone.
"""

import argparse
import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import perf_counter, process_time
from types import ModuleType
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.optimize import minimize as scipy_minimize
from scipy.optimize import nnls
from torch import Tensor

import optlayers as ol
from optlayers import Parameter, Variable, functional

# Solves the batch and returns the minima, [B, n].
Contestant = Callable[[], Any]
Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": perf_counter, "cpu": process_time}
OURS = "optlayers"
# The largest entry of the KKT residual that every answer is held to.
TOLERANCE = 1e-6
MOST_STEPS = 2000


# ---- the problems -------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """B minimizations, written once for torch and for jax.

    Attributes:
        title: what the table is called.
        objective: f(x, parameters, xp), [..., n] -> [...]; xp is torch or jax.numpy.
        parameters: [B, ...] each.
        start: [B, n].
        inequalities: g(x, parameters) <= 0, [..., n] -> [..., m], or None.
        solvers: the names of ours that are timed on plain functions.
        layers: layers that solve the same, called with the parameters, by name.
    """

    title: str
    objective: Callable[..., Any]
    parameters: Mapping[str, Tensor]
    start: Tensor
    solvers: tuple[str, ...]
    inequalities: Callable[..., Any] | None = None
    layers: Mapping[str, Callable[..., Any]] | None = None


def rosenbrock(x: Any, given: Mapping[str, Any], xp: Any) -> Any:
    """Chained, its valley as steep as each sample says."""
    bend = x[..., 1:] - x[..., :-1] ** 2
    return (given["a"] * bend**2 + (1 - x[..., :-1]) ** 2).sum(-1)


def logistic(x: Any, given: Mapping[str, Any], xp: Any) -> Any:
    """Ridge logistic regression, the signs of the labels within A."""
    margin = (given["A"] @ x[..., None])[..., 0]
    return xp.logaddexp(xp.zeros_like(margin), -margin).sum(-1) + 0.5 * (x**2).sum(-1)


@ol.problem
def ridge(x=Variable("n"), A=Parameter("m n")):
    fit = ol.sum(ol.logistic(-(A @ x)))
    return ol.minimize(fit + 0.5 * ol.sum_squares(x))


def bent(x: Any, given: Mapping[str, Any], xp: Any) -> Any:
    """A shallow valley, pulled to c."""
    bend = x[..., 1:] - x[..., :-1] ** 2
    return (bend**2).sum(-1) + ((x - given["c"]) ** 2).sum(-1)


def curved(x: Any, given: Mapping[str, Any]) -> Any:
    """Rows A x + x^2 / 2 <= b."""
    return (given["A"] @ x[..., None])[..., 0] + 0.5 * x**2 - given["b"]


def valleys(n: int = 10, batch: int = 256) -> Problem:
    """Rosenbrock's function from starts around the usual one."""
    wide = {"dtype": torch.float64, "generator": torch.Generator().manual_seed(0)}
    usual = torch.tensor([-1.2, 1.0], dtype=torch.float64).repeat(n // 2)
    start = usual + 0.1 * torch.randn(batch, n, **wide)
    a = 50 + 100 * torch.rand(batch, 1, **wide)
    return Problem(
        f"Rosenbrock, n = {n}, batch {batch}", rosenbrock, {"a": a}, start,
        ("auto", "newton", "bfgs", "lbfgs"),
    )  # fmt: skip


def fits(n: int = 50, batch: int = 64, count: int = 200) -> Problem:
    """Logistic regressions of `count` points each."""
    wide = {"dtype": torch.float64, "generator": torch.Generator().manual_seed(0)}
    points = torch.randn(batch, count, n, **wide)
    truth = torch.randn(batch, n, 1, **wide)
    noise = torch.randn(batch, count, 1, **wide)
    A = (points @ truth + noise).sign() * points
    return Problem(
        f"Ridge logistic regression, n = {n}, {count} points, batch {batch}", logistic,
        {"A": A}, torch.zeros(batch, n, dtype=torch.float64),
        ("auto", "newton", "lbfgs"),
        layers={
            f"layer {name}": ridge.layer(solver=f"minimize.{name}", tolerance=1e-8)
            for name in ("auto", "newton", "lbfgs")
        },
    )  # fmt: skip


def programs(n: int = 10, batch: int = 256) -> Problem:
    """Small nonlinear programs with as many inequalities as unknowns."""
    wide = {"dtype": torch.float64, "generator": torch.Generator().manual_seed(0)}
    given = {
        "c": torch.randn(batch, n, **wide),
        "A": torch.randn(batch, n, n, **wide) / n**0.5,
        "b": 0.2 + 0.5 * torch.rand(batch, n, **wide),
    }
    return Problem(
        f"Nonlinear programs, n = m = {n}, batch {batch}", bent, given,
        torch.zeros(batch, n, dtype=torch.float64), ("auto", "sqp"), curved,
    )  # fmt: skip


# ---- the contestants ----------------------------------------------------------------


def ours(problem: Problem, solver: str) -> Contestant:
    """`functional.minimize`."""
    given, g = problem.parameters, problem.inequalities

    def solve() -> Tensor:
        return functional.minimize(
            lambda x: problem.objective(x, given, torch), problem.start,
            inequalities=None if g is None else lambda x: g(x, given),
            solver=solver, tolerance=TOLERANCE,
        ).value  # fmt: skip

    return solve


def torch_lbfgs(problem: Problem) -> Contestant:
    """`torch.optim.LBFGS`, to which the whole batch is one problem."""

    def solve() -> Tensor:
        x = problem.start.clone().requires_grad_()
        optimizer = torch.optim.LBFGS(
            [x], max_iter=10 * MOST_STEPS, max_eval=20 * MOST_STEPS,
            tolerance_grad=TOLERANCE, tolerance_change=0, history_size=10,
            line_search_fn="strong_wolfe",
        )  # fmt: skip

        def closure() -> Tensor:
            optimizer.zero_grad()
            total = problem.objective(x, problem.parameters, torch).sum()
            total.backward()
            return total

        optimizer.step(closure)
        return x.detach()

    return solve


def of_jax(problem: Problem, solve: Callable[..., Any]) -> Contestant:
    """A jax function of one sample's start and parameters, mapped and jitted."""
    jax = importlib.import_module("jax")
    jnp = importlib.import_module("jax.numpy")
    start = jnp.asarray(problem.start.numpy())
    given = {k: jnp.asarray(v.numpy()) for k, v in problem.parameters.items()}
    mapped = jax.jit(jax.vmap(solve))
    return lambda: jax.block_until_ready(mapped(start, given))


def of_optimistix(problem: Problem) -> Contestant:
    """BFGS; its tolerances are of steps in x and in the objective."""
    optimistix = importlib.import_module("optimistix")
    jnp = importlib.import_module("jax.numpy")

    def solve(start: Any, given: Any) -> Any:
        return optimistix.minimise(
            lambda x, own: problem.objective(x, own, jnp),
            optimistix.BFGS(rtol=1e-8, atol=1e-8), start, args=given,
            throw=False, max_steps=MOST_STEPS,
        ).value  # fmt: skip

    return of_jax(problem, solve)


def of_jaxopt(problem: Problem) -> Contestant:
    """L-BFGS; its tolerance is of the length of the gradient."""
    jaxopt = importlib.import_module("jaxopt")
    jnp = importlib.import_module("jax.numpy")

    def solve(start: Any, given: Any) -> Any:
        return jaxopt.LBFGS(
            lambda x, own: problem.objective(x, own, jnp), tol=TOLERANCE,
            maxiter=MOST_STEPS, history_size=10,
        ).run(start, given).params  # fmt: skip

    return of_jax(problem, solve)


def of_casadi(problem: Problem) -> Contestant:
    """A loop over IPOPT, which evaluates casadi's own symbols; made only once.

    At a tolerance of 1e-6 some of its points are 1e-4 away from the minima.
    """
    ca = importlib.import_module("casadi")
    n = problem.start.shape[1]
    x, c, b = ca.SX.sym("x", n), ca.SX.sym("c", n), ca.SX.sym("b", n)
    A = ca.SX.sym("A", n, n)
    f = ca.sumsqr(x[1:] - x[:-1] ** 2) + ca.sumsqr(x - c)
    g = A @ x + 0.5 * x**2 - b
    p = ca.vertcat(c, ca.vec(A), b)
    quiet = {"print_level": 0, "sb": "yes"}
    # Rows are not to be relaxed first, as ours are not.
    exact = {"tol": 1e-2 * TOLERANCE, "bound_relax_factor": 0.0}
    solver = ca.nlpsol(
        "nlp", "ipopt", {"x": x, "f": f, "g": g, "p": p},
        {"ipopt": {**quiet, **exact}, "print_time": False},
    )  # fmt: skip
    start = problem.start.numpy()
    rows = np.concatenate(
        [
            problem.parameters["c"].numpy(),
            problem.parameters["A"].mT.flatten(1).numpy(),
            problem.parameters["b"].numpy(),
        ],
        1,
    )

    def solve() -> np.ndarray:
        found = [
            solver(x0=one, p=own, lbg=-np.inf, ubg=0)["x"]
            for one, own in zip(start, rows, strict=True)
        ]
        return np.stack([np.array(one).ravel() for one in found])

    return solve


def of_scipy(problem: Problem) -> Contestant:
    """A loop over SLSQP with hand-written derivatives."""
    start = problem.start.numpy()
    given = {k: v.numpy() for k, v in problem.parameters.items()}

    def one(i: int) -> np.ndarray:
        A, b, c = given["A"][i], given["b"][i], given["c"][i]

        def slope(x: np.ndarray) -> np.ndarray:
            bend = x[1:] - x[:-1] ** 2
            found = 2 * (x - c)
            found[1:] += 2 * bend
            found[:-1] -= 4 * bend * x[:-1]
            return found

        rows = {
            "type": "ineq",
            "fun": lambda x: b - A @ x - 0.5 * x**2,
            "jac": lambda x: -A - np.diag(x),
        }
        return scipy_minimize(
            lambda x: ((x[1:] - x[:-1] ** 2) ** 2).sum() + ((x - c) ** 2).sum(),
            start[i], jac=slope, method="SLSQP", constraints=[rows],
            options={"ftol": 1e-13, "maxiter": 500},
        ).x  # fmt: skip

    return lambda: np.stack([one(i) for i in range(len(start))])


def contestants(
    problem: Problem, missing: set[str]
) -> Iterator[tuple[str, Contestant]]:
    """Us and the peers that are installed; the others are added to `missing`."""
    for solver in problem.solvers:
        yield f"{OURS} {solver}", ours(problem, solver)
    for name, layer in (problem.layers or {}).items():
        yield f"{OURS} {name}", partial(_called, layer, problem.parameters)
    if problem.inequalities is not None:
        if installed("casadi", missing) is not None:
            yield "casadi IPOPT, a loop", of_casadi(problem)
        yield "SciPy SLSQP, a loop", of_scipy(problem)
        return
    yield "torch.optim.LBFGS, jointly", torch_lbfgs(problem)
    if installed("jax", missing) is not None:
        importlib.import_module("jax").config.update("jax_enable_x64", True)
        if installed("optimistix", missing) is not None:
            yield "optimistix BFGS, jitted", of_optimistix(problem)
        if installed("jaxopt", missing) is not None:
            yield "jaxopt L-BFGS, jitted", of_jaxopt(problem)


def _called(layer: Callable[..., Any], parameters: Mapping[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return layer(**parameters).x


def installed(name: str, missing: set[str]) -> ModuleType | None:
    """A module, or None, and its name among the missing."""
    try:
        return importlib.import_module(name)
    except ImportError:
        missing.add(name)
        return None


# ---- right first, then fast ---------------------------------------------------------


def violation(problem: Problem, x: Tensor) -> float:
    """The largest entry of the KKT residual, with the multipliers that fit best."""
    given, g = problem.parameters, problem.inequalities
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(problem.objective(x, given, torch).sum(), x)
    if g is None:
        return slope.abs().max().item()
    rows = g(x, given)
    eye = torch.eye(rows.shape[1], dtype=x.dtype)
    J = torch.stack(
        [torch.autograd.grad(rows, x, one.expand_as(rows), retain_graph=True)[0]
         for one in eye], 1,
    )  # fmt: skip
    worst = rows.max().clamp_min(0).item()
    for own, jacobian, row in zip(slope, J, rows.detach(), strict=True):
        active = row > -1e-3
        if not active.any():  # SciPy 1.17 crashes without a column
            worst = max(worst, float(own.abs().max()))
            continue
        found = nnls(jacobian[active].mT.numpy(), -own.numpy())[0]
        rest = own.numpy() + jacobian[active].mT.numpy() @ found
        worst = max(
            worst, np.abs(rest).max(), np.abs(found * row[active].numpy()).max()
        )
    return float(worst)


def compare(problem: Problem, repeats: int, clock: Clock, missing: set[str]) -> Table:
    """One table: how right and how fast each contestant is."""
    table = Table(title=problem.title, title_justify="left")
    columns = (
        "", "KKT residual", "mean f", "ms (min, median, max)", "over our best (median)",
    )  # fmt: skip
    for column in columns:
        table.add_column(column, justify="right" if column else "left")
    valid: dict[str, tuple[Contestant, str, str]] = {}
    for name, contestant in contestants(problem, missing):
        x = contestant()
        x = x if isinstance(x, Tensor) else torch.from_numpy(np.array(x))
        residual = violation(problem, x)
        mean = f"{problem.objective(x, problem.parameters, torch).mean():.4f}"
        # Peers judge by steps and other norms: ten times as much is let pass.
        if residual <= 10 * TOLERANCE:
            valid[name] = (contestant, f"{residual:.0e}", mean)
            continue
        assert not name.startswith(OURS), f"{name}: residual {residual:.1e}"
        table.add_row(name, f"{residual:.0e}", mean, "not solved")
    times = _timed({name: one for name, (one, *_) in valid.items()}, repeats, clock)
    best = min(median(spent) for name, spent in times.items() if name.startswith(OURS))
    for name, (_, residual, mean) in valid.items():
        spent = times[name]
        spread = [1e3 * one for one in (min(spent), median(spent), max(spent))]
        table.add_row(
            name, residual, mean, ", ".join(f"{one:.1f}" for one in spread),
            f"{median(spent) / best:.2f}",
        )  # fmt: skip
    return table


def _timed(
    valid: Mapping[str, Contestant], repeats: int, clock: Clock
) -> dict[str, list[float]]:
    """Seconds of every contestant in turn."""
    times: dict[str, list[float]] = {name: [] for name in valid}
    for _ in range(repeats):
        for name, contestant in valid.items():
            # Three runs of what takes a second say enough.
            if len(times[name]) >= 3 and times[name][-1] > 1:
                continue
            began = clock()
            contestant()
            times[name].append(clock() - began)
    return times


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "rosenbrock": valleys,
    "logistic": fits,
    "nlp": programs,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--only", choices=PROBLEMS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    console, missing = Console(width=120), set()
    for name, build in PROBLEMS.items():
        if options.only in (None, name):
            table = compare(build(), options.repeats, CLOCKS[options.clock], missing)
            console.print(table)
    for name in sorted(missing):
        console.print(f"left out, not installed: {name}")


if __name__ == "__main__":
    main()
