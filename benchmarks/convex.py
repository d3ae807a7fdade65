"""Time a convex layer against cvxpylayers, and its construction against cvxpy.

One process pinned to one core, peers and us in turn on the same tensors; every answer's
optimality and gradient are checked before anything is timed.

    python benchmarks/convex.py [--repeats 30] [--clock cpu]

On a machine that others share, `--clock cpu` counts the time of this process alone.
"""

import argparse
import os
from collections.abc import Callable, Mapping
from functools import partial
from statistics import median
from time import perf_counter, process_time

import cvxpy as cp
import numpy as np
import torch
from cvxpylayers.torch import CvxpyLayer
from rich.console import Console
from rich.table import Table
from scipy.optimize import nnls
from torch import Tensor

import optlayers as ol
from optlayers import Control, Parameter, State, Variable, minimize
from optlayers.solvers import set_num_threads

Tensors = dict[str, Tensor]
Entry = Callable[[Mapping[str, Tensor]], Tensor]
Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": perf_counter, "cpu": process_time}

OURS = "optlayers"
PEER = "cvxpylayers"
OPTIMAL = 1e-6  # ours: distance of the optimality conditions from zero
ACCEPTED = 1e-2  # peers, whose default stops earlier; the table shows what they reach


# ---- the problem: (n, inequalities, equalities) of Alt-Diff and BPQP ----------------


@ol.problem
def inequalities(
    x=Variable("n"),
    L=Parameter("n n"),
    q=Parameter("n"),
    G=Parameter("k n"),
    h=Parameter("k"),
):
    """A QP with inequalities only."""
    return minimize(0.5 * ol.sum_squares(L @ x) + q @ x, inside=G @ x <= h)


@ol.problem
def both(
    x=Variable("n"),
    L=Parameter("n n"),
    q=Parameter("n"),
    G=Parameter("k n"),
    h=Parameter("k"),
    A=Parameter("p n"),
    b=Parameter("p"),
):
    """A QP with inequalities and equalities."""
    return minimize(
        0.5 * ol.sum_squares(L @ x) + q @ x, inside=G @ x <= h, on=A @ x == b
    )


def draw(batch: int, n: int, k: int, p: int) -> Tensors:
    """Parameters of `batch` feasible programs, float64."""
    torch.manual_seed(0)
    wide = {"dtype": torch.float64}
    point = torch.randn(batch, n, 1, **wide)
    tensors = {
        "L": torch.eye(n, **wide) + 0.3 * torch.randn(batch, n, n, **wide),
        "q": torch.randn(batch, n, **wide),
        "G": torch.randn(batch, k, n, **wide),
    }
    tensors["h"] = (tensors["G"] @ point)[..., 0] + torch.rand(batch, k, **wide)
    if p:
        tensors["A"] = torch.randn(batch, p, n, **wide)
        tensors["b"] = (tensors["A"] @ point)[..., 0]
    return tensors


def peer(n: int, k: int, p: int) -> Entry:
    """The same declaration as a CvxpyLayer with its default solver."""
    x, L, q = cp.Variable(n), cp.Parameter((n, n)), cp.Parameter(n)
    parameters = [L, q, cp.Parameter((k, n)), cp.Parameter(k)]
    constraints = [parameters[2] @ x <= parameters[3]]
    if p:
        parameters += [cp.Parameter((p, n)), cp.Parameter(p)]
        constraints.append(parameters[4] @ x == parameters[5])
    objective = cp.Minimize(0.5 * cp.sum_squares(L @ x) + q @ x)
    layer = CvxpyLayer(cp.Problem(objective, constraints), parameters, [x])

    def solve(tensors: Mapping[str, Tensor]) -> Tensor:
        # Its default is a pool of as many threads as there are cores; without a
        # gradient to take it knows only the first of these options.
        alone = {"n_jobs_forward": 1}
        if any(tensor.requires_grad for tensor in tensors.values()):
            alone["n_jobs_backward"] = 1
        return layer(*tensors.values(), solver_args=alone)[0]

    return solve


def entries(n: int, k: int, p: int) -> dict[str, Entry]:
    """Us, our solution differentiated by diffcp, and the peer."""
    problem = both if p else inequalities
    layer = problem.layer(n=n)
    return {
        OURS: lambda tensors: layer(**tensors).x,
        f"{OURS} + diffcp": lambda tensors: layer(**tensors, gradient="diffcp").x,
        PEER: peer(n, k, p),
    }


# ---- right first --------------------------------------------------------------------


def distance_from_optimal(x: Tensor, tensors: Mapping[str, Tensor]) -> float:
    """Largest violation of a constraint or of stationarity over the batch.

    The multipliers are those that fit best, nonnegative on the active inequalities, so
    nothing is taken from any solver but x.
    """
    worst = 0.0
    values = {name: tensor.detach().numpy() for name, tensor in tensors.items()}
    for row, point in enumerate(x.detach().numpy()):
        own = {name: value[row] for name, value in values.items()}
        slack = own["h"] - own["G"] @ point
        gradient = own["L"].T @ (own["L"] @ point) + own["q"]
        columns = [own["G"][slack < 1e-3].T]
        worst = max(worst, -slack.min())
        if "A" in own:
            columns += [own["A"].T, -own["A"].T]
            worst = max(worst, np.abs(own["A"] @ point - own["b"]).max())
        columns = np.concatenate(columns, axis=1)
        missed = nnls(columns, -gradient)[1] if columns.size else None
        worst = max(worst, np.linalg.norm(gradient) if missed is None else missed)
    return worst


def gradients(entry: Entry, tensors: Tensors) -> list[Tensor]:
    """Of a weighted sum of the solution, with respect to every parameter."""
    given = {name: one.clone().requires_grad_() for name, one in tensors.items()}
    x = entry(given)
    weights = torch.linspace(-1, 1, x.shape[-1], dtype=x.dtype)
    return list(torch.autograd.grad((x * weights).sum(), list(given.values())))


def disagreement(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """Largest relative difference over the parameters."""
    return max(
        ((one - other).norm() / one.norm()).item()
        for one, other in zip(ours, theirs, strict=True)
    )


# ---- then fast ----------------------------------------------------------------------


def time_once(entry: Entry, tensors: Tensors, clock: Clock) -> tuple[float, float]:
    """Seconds of one forward and of its backward."""
    given = {name: one.clone().requires_grad_() for name, one in tensors.items()}
    began = clock()
    x = entry(given)
    solved = clock()
    x.sum().backward()
    return solved - began, clock() - solved


def compare(
    batch: int, sizes: tuple[int, int, int], repeats: int, clock: Clock
) -> Table:
    """One table: how right and how fast each entry is."""
    tensors, table = draw(batch, *sizes), _table(batch, sizes)
    contestants = entries(*sizes)
    reference = gradients(contestants[OURS], tensors)
    rightness = {}
    for name, entry in contestants.items():
        distance = distance_from_optimal(entry(tensors), tensors)
        limit = OPTIMAL if name.startswith(OURS) else ACCEPTED
        assert distance < limit, f"{name} is {distance:.1e} from optimal"
        apart = disagreement(reference, gradients(entry, tensors))
        assert apart < ACCEPTED, f"gradients of {name} are {apart:.1e} apart"
        rightness[name] = (distance, apart)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, entry in contestants.items():
            times[name].append(time_once(entry, tensors, clock))
    for name, pairs in times.items():
        totals = [sum(pair) for pair in pairs]
        ratios = [
            total / sum(own) for total, own in zip(totals, times[OURS], strict=True)
        ]
        distance, apart = rightness[name]
        table.add_row(
            name,
            f"{distance:.0e}",
            "" if name == OURS else f"{apart:.0e}",
            f"{1e3 * median(forward for forward, _ in pairs):.2f}",
            f"{1e3 * median(backward for _, backward in pairs):.2f}",
            _spread([1e3 * total for total in totals], ".2f"),
            "" if name == OURS else _spread(ratios, ".1f"),
        )
    return table


def _table(batch: int, sizes: tuple[int, int, int]) -> Table:
    n, k, p = sizes
    title = f"QP, n = {n}, {k} inequalities, {p} equalities, batch {batch}"
    table = Table(title=title, title_justify="left")
    columns = (
        "", "from optimal", "gradient apart", "forward ms", "backward ms",
        "both ms (min, median, max)", "times ours (min, median, max)",
    )  # fmt: skip
    for column in columns:
        table.add_column(column, justify="right" if column else "left")
    return table


def _spread(values: list[float], form: str) -> str:
    return ", ".join(
        format(value, form) for value in (min(values), median(values), max(values))
    )


# ---- construction -------------------------------------------------------------------


def declare_mpc() -> None:
    """Declare, trace and compile the MPC layer, nothing kept from before."""

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
        return minimize(
            ol.total(q @ x**2 + r @ u**2) + 10 * ol.sum_squares(x.last),
            start=x.first == x0,
            dynamics=x.next == A @ x + B @ u,
        )

    mpc.layer(steps=20, n=4, m=1)


def vectorized_stages(
    x: cp.Variable, u: cp.Variable, given: Mapping[str, cp.Parameter]
) -> tuple[cp.Expression, list[cp.Constraint]]:
    """Cost and dynamics of all stages at once."""
    cost = cp.sum(cp.square(x[:-1]) @ given["q"]) + cp.sum(cp.square(u) @ given["r"])
    return cost, [x[1:] == x[:-1] @ given["A"].T + u @ given["B"].T]


def looped_stages(
    x: cp.Variable, u: cp.Variable, given: Mapping[str, cp.Parameter]
) -> tuple[cp.Expression, list[cp.Constraint]]:
    """The same, stage by stage."""
    A, B, q, r = (given[name] for name in "ABqr")
    stages = range(u.shape[0])
    cost = sum(q @ cp.square(x[k]) + r @ cp.square(u[k]) for k in stages)
    return cost, [x[k + 1] == A @ x[k] + B @ u[k] for k in stages]


def build_mpc(write_stages: Callable[..., tuple], n: int = 4, m: int = 1) -> None:
    """The same problem in cvxpy, and the data it would hand to a solver."""
    steps = 20
    x, u, x0 = cp.Variable((steps + 1, n)), cp.Variable((steps, m)), cp.Parameter(n)
    given = {
        "A": cp.Parameter((n, n)),
        "B": cp.Parameter((n, m)),
        "q": cp.Parameter(n, nonneg=True),
        "r": cp.Parameter(m, nonneg=True),
    }
    cost, dynamics = write_stages(x, u, given)
    cost += 10 * cp.sum_squares(x[-1])
    constraints = [x[0] == x0, *dynamics, u >= -1, u <= 1]
    problem = cp.Problem(cp.Minimize(cost), constraints)
    problem.get_problem_data(cp.CLARABEL)


def compare_construction(repeats: int, clock: Clock) -> Table:
    """Warm construction of the MPC layer against cvxpy's own work."""
    work = "build, get_problem_data"
    builders = {
        f"{OURS}: declare, trace, compile": declare_mpc,
        f"cvxpy, vectorized: {work}": partial(build_mpc, vectorized_stages),
        f"cvxpy, a loop: {work}": partial(build_mpc, looped_stages),
    }
    times: dict[str, list[float]] = {name: [] for name in builders}
    for repeat in range(repeats + 1):
        for name, build in builders.items():
            began = clock()
            build()
            if repeat:  # the first construction of a process loads and warms
                times[name].append(1e3 * (clock() - began))
    table = Table(title="MPC, 20 steps, 4 states, 1 force", title_justify="left")
    for column in ("", "ms (min, median, max)", "ours over it, medians"):
        table.add_column(column, justify="right" if column else "left")
    own = median(next(iter(times.values())))
    for name, values in times.items():
        ratio = "" if name.startswith(OURS) else f"{own / median(values):.2f}"
        table.add_row(name, _spread(values, ".1f"), ratio)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    options = parser.parse_args()
    repeats, clock = options.repeats, CLOCKS[options.clock]
    torch.set_num_threads(1)
    set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    console = Console(width=150)
    for sizes in ((10, 5, 0), (10, 5, 2)):
        for batch in (1, 64):
            console.print(compare(batch, sizes, repeats, clock))
    console.print(compare_construction(max(5, repeats // 3), clock))


if __name__ == "__main__":
    main()
