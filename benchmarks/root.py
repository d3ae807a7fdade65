"""Time root-finding and fixed-point layers against their peers.

One process pinned to one core, peers and us in turn on the same tensors; every answer's
residual and gradient are checked before anything is timed. Peers that are not installed
are named and left out:

    pip install --target DIR torchdeq xitorch jaxopt optimistix
    PYTHONPATH=DIR python benchmarks/root.py [--repeats 20] [--clock cpu] [--only tanh]

On a machine that others share, `--clock cpu` counts the time of this process alone.
"""

import argparse
import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from time import perf_counter, process_time
from types import ModuleType
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.optimize import root as scipy_root
from torch import Tensor

from optlayers import functional

Tensors = dict[str, Tensor]
# Of the parameters: the solution, differentiable in them.
Entry = Callable[[Mapping[str, Tensor]], Tensor]
# Seconds of one forward, and of a forward with its backward.
Timer = Callable[[], float]
Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": perf_counter, "cpu": process_time}
OURS = "optlayers"
CLOSE = 1e-2  # relative difference of gradients, whose accuracy each peer sets itself
MOST_STEPS = 300


# ---- the problems -------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """B systems, written once for torch and for jax.

    Attributes:
        title: what the table is called.
        equations: F(x, parameters, xp), or the map G(x, parameters, xp) of a fixed
            point, for a batch; xp is torch or jax.numpy.
        parameters: [B, ...] each; those named in `shared` have no batch axis.
        start: [B, n].
        tolerance: largest entry of the residual that every answer is held to.
        is_map: whether `equations` is a map.
        solvers: the names of ours that are timed.
        shared: the parameters that all samples have in common.
    """

    title: str
    equations: Callable[..., Any]
    parameters: Tensors
    start: Tensor
    tolerance: float
    is_map: bool = False
    solvers: tuple[str, ...] = ("auto",)
    shared: frozenset[str] = field(default_factory=frozenset)

    def residual(self, x: Any, given: Mapping[str, Any], xp: Any = torch) -> Any:
        """F(x), which is x - G(x) of a map."""
        value = self.equations(x, given, xp)
        return x - value if self.is_map else value

    def map(self, x: Any, given: Mapping[str, Any], xp: Any = torch) -> Any:
        """G(x), which is x - F(x) of a system."""
        value = self.equations(x, given, xp)
        return value if self.is_map else x - value


def tridiagonal(x: Any, given: Mapping[str, Any], xp: Any) -> Any:
    """Broyden's tridiagonal function (MINPACK 10) with a curvature of each sample.

    Divided by 5, its diagonal: quasi-Newton methods begin at the identity.
    """
    zero = xp.zeros_like(x[..., :1])
    before = xp.concatenate([zero, x[..., :-1]], -1)
    after = xp.concatenate([x[..., 1:], zero], -1)
    return ((3 - given["a"] * x) * x - before - 2 * after + given["b"]) / 5


def chandrasekhar(x: Any, given: Mapping[str, Any], xp: Any) -> Any:
    """The H-equation of radiative transfer by the midpoint rule, a map.

    Source: C. T. Kelley, Iterative Methods for Linear and Nonlinear Equations (1995),
    equation (5.20); c is the albedo of each sample.
    """
    return 1 / (1 - given["c"] * (x @ given["kernel"]))


def tanh_layer(x: Any, given: Mapping[str, Any], xp: Any) -> Any:
    """z = tanh(W z + v), the deep equilibrium model."""
    return xp.tanh(x @ given["W"] + given["v"])


def small(n: int, batch: int = 1024) -> Problem:
    """Broyden's tridiagonal systems, float64."""
    wide = {"dtype": torch.float64, "generator": torch.Generator().manual_seed(0)}
    parameters = {
        "a": 1 + torch.rand(batch, 1, **wide),
        "b": 1 + 0.2 * torch.rand(batch, n, **wide),
    }
    start = -torch.ones(batch, n, dtype=torch.float64)
    return Problem(
        f"Broyden tridiagonal, n = {n}, batch {batch}, float64", tridiagonal,
        parameters, start, 1e-8,
    )  # fmt: skip


def radiative(n: int = 100, batch: int = 64) -> Problem:
    """Chandrasekhar's H-equation, float64."""
    mu = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    generator = torch.Generator().manual_seed(0)
    c = 0.5 + 0.4 * torch.rand(batch, 1, dtype=torch.float64, generator=generator)
    kernel = (mu / (mu.unsqueeze(1) + mu) / (2 * n)).mT.contiguous()
    return Problem(
        f"Chandrasekhar H, n = {n}, batch {batch}, float64", chandrasekhar,
        {"c": c, "kernel": kernel}, torch.ones(batch, n, dtype=torch.float64), 1e-8,
        is_map=True, solvers=("auto", "broyden", "newton"),
        shared=frozenset(["kernel"]),
    )  # fmt: skip


def equilibrium(dtype: torch.dtype, n: int = 256, batch: int = 64) -> Problem:
    """z = tanh(W z + v) with W 0.9 times a rotation."""
    generator = torch.Generator().manual_seed(0)
    W = torch.randn(n, n, generator=generator, dtype=torch.float64)
    W = 0.9 * torch.linalg.qr(W).Q
    v = 0.5 * torch.randn(batch, n, generator=generator, dtype=torch.float64)
    single = dtype == torch.float32
    return Problem(
        f"z = tanh(W z + v), n = {n}, batch {batch}, {str(dtype)[6:]}",
        tanh_layer,
        {"W": W.to(dtype), "v": v.to(dtype)},
        torch.zeros(batch, n, dtype=dtype),
        1e-5 if single else 1e-8,
        is_map=True, solvers=("auto", "fixed_point", "anderson"),
        shared=frozenset(["W"]),
    )  # fmt: skip


# ---- the contestants ----------------------------------------------------------------


def ours(problem: Problem, solver: str) -> Entry:
    """`functional.root` or `functional.fixed_point`."""
    options: dict[str, Any] = {"solver": solver, "tolerance": problem.tolerance}

    def solve(given: Mapping[str, Tensor]) -> Tensor:
        if problem.is_map:
            return functional.fixed_point(
                lambda x: problem.equations(x, given, torch), problem.start, **options
            ).value
        return functional.root(
            lambda x: problem.equations(x, given, torch), problem.start, **options
        ).value

    return solve


def torchdeq_entry(torchdeq: ModuleType, problem: Problem, solver: str) -> Entry:
    """A `torchdeq.DEQ` with the implicit function theorem behind it."""
    # Its tolerance is of a row's length, ours of its largest entry.
    tolerance = problem.tolerance * max(1.0, problem.start.shape[1] ** 0.5 / 3)
    deq = torchdeq.get_deq(
        f_solver=solver, b_solver=solver,
        f_max_iter=MOST_STEPS, b_max_iter=MOST_STEPS, f_tol=tolerance,
        b_tol=tolerance, ift=True,
    )  # fmt: skip

    def solve(given: Mapping[str, Tensor]) -> Tensor:
        return deq(lambda x: problem.map(x, given), problem.start)[0][-1]

    return solve


def xitorch_entry(optimize: ModuleType, problem: Problem) -> Entry:
    """`xitorch.optimize.rootfinder`, to which the whole batch is one system."""
    names = list(problem.parameters)

    def residual(x: Tensor, *values: Tensor) -> Tensor:
        return problem.residual(x, dict(zip(names, values, strict=True)))

    def solve(given: Mapping[str, Tensor]) -> Tensor:
        return optimize.rootfinder(
            residual, problem.start, params=tuple(given[name] for name in names),
            method="broyden1", f_tol=problem.tolerance, maxiter=2 * MOST_STEPS,
            bck_options={"method": "bicgstab"},
        )  # fmt: skip

    return solve


def scipy_entry(problem: Problem) -> Entry:
    """`scipy.optimize.root`, sample by sample; it has no gradient."""

    def solve(given: Mapping[str, Tensor]) -> Tensor:
        rows = []
        for i, start in enumerate(problem.start.numpy()):
            own = {
                name: value.detach() if name in problem.shared else value[i].detach()
                for name, value in given.items()
            }

            def equations(x: np.ndarray, own: Tensors = own) -> np.ndarray:
                return problem.residual(torch.from_numpy(x), own).numpy()

            rows.append(scipy_root(equations, start, tol=problem.tolerance).x)
        return torch.from_numpy(np.stack(rows))

    return solve


@dataclass(frozen=True)
class Contestant:
    """A way to solve one problem.

    Attributes:
        forward: seconds are taken of this; returns the solution as a tensor.
        both: the gradients of a weighted sum of it; None where there are none.
    """

    forward: Callable[[], Any]
    both: Callable[[], Any] | None


def of_torch(problem: Problem, entry: Entry) -> Contestant:
    """A torch function of the parameters."""

    def forward() -> Tensor:
        with torch.no_grad():
            return entry(problem.parameters)

    def both() -> list[Tensor]:
        given = {k: v.clone().requires_grad_() for k, v in problem.parameters.items()}
        value = entry(given)
        total = (value * weights(problem)).sum()
        return list(torch.autograd.grad(total, list(given.values())))

    return Contestant(forward, both)


def of_jax(problem: Problem, solve: Callable[..., Any]) -> Contestant:
    """A jitted jax function of one sample's start and parameters, mapped."""
    jax = importlib.import_module("jax")
    jnp = importlib.import_module("jax.numpy")
    axes = {name: None if name in problem.shared else 0 for name in problem.parameters}
    mapped = jax.vmap(solve, in_axes=(0, axes))
    start = jnp.asarray(problem.start.numpy())
    weight = jnp.asarray(weights(problem).numpy())
    given = {k: jnp.asarray(v.numpy()) for k, v in problem.parameters.items()}
    forward = jax.jit(mapped)
    gradient = jax.jit(jax.grad(lambda given: (mapped(start, given) * weight).sum()))
    return Contestant(
        lambda: jax.block_until_ready(forward(start, given)),
        lambda: list(jax.block_until_ready(gradient(given)).values()),
    )


def of_optimistix(problem: Problem) -> Iterator[tuple[str, Contestant]]:
    """Newton for systems, Picard for maps."""
    optimistix = importlib.import_module("optimistix")
    jnp = importlib.import_module("jax.numpy")

    # Its tolerances are of steps, and of the root mean square.
    limits = {"rtol": problem.tolerance, "atol": problem.tolerance}

    def newton(start: Any, given: Mapping[str, Any]) -> Any:
        return optimistix.root_find(
            lambda x, own: problem.residual(x, own, jnp), optimistix.Newton(**limits),
            start, args=given, throw=False, max_steps=MOST_STEPS,
        ).value  # fmt: skip

    def picard(start: Any, given: Mapping[str, Any]) -> Any:
        return optimistix.fixed_point(
            lambda x, own: problem.map(x, own, jnp),
            optimistix.FixedPointIteration(**limits),
            start, args=given, throw=False, max_steps=MOST_STEPS,
        ).value  # fmt: skip

    if problem.start.shape[1] < 200:
        yield "optimistix Newton, jitted", of_jax(problem, newton)
    if problem.is_map:
        yield "optimistix fixed point, jitted", of_jax(problem, picard)


def of_jaxopt(problem: Problem) -> Iterator[tuple[str, Contestant]]:
    """Broyden for systems, Anderson for maps."""
    jaxopt = importlib.import_module("jaxopt")
    jnp = importlib.import_module("jax.numpy")
    limits = {"tol": problem.tolerance, "maxiter": MOST_STEPS}

    def broyden(start: Any, given: Mapping[str, Any]) -> Any:
        return jaxopt.Broyden(
            lambda x, own: problem.residual(x, own, jnp), **limits
        ).run(start, given).params  # fmt: skip

    def anderson(start: Any, given: Mapping[str, Any]) -> Any:
        return jaxopt.AndersonAcceleration(
            lambda x, own: problem.map(x, own, jnp), **limits
        ).run(start, given).params  # fmt: skip

    if problem.is_map:
        yield "jaxopt Anderson, jitted", of_jax(problem, anderson)
    else:
        yield "jaxopt Broyden, jitted", of_jax(problem, broyden)


def contestants(
    problem: Problem, missing: set[str]
) -> Iterator[tuple[str, Contestant]]:
    """Us and the peers that are installed; the others are added to `missing`."""
    for solver in problem.solvers:
        yield f"{OURS} {solver}", of_torch(problem, ours(problem, solver))
    torchdeq = installed("torchdeq", missing)
    if torchdeq is not None:
        names = ["broyden"]
        if problem.is_map:
            names = ["fixed_point_iter", "anderson", "broyden"]
        for name in names:
            entry = torchdeq_entry(torchdeq, problem, name)
            yield f"torchdeq {name}", of_torch(problem, entry)
    xitorch = installed("xitorch.optimize", missing)
    if xitorch is not None:
        yield "xitorch broyden1", of_torch(problem, xitorch_entry(xitorch, problem))
    if installed("jax", missing) is not None:
        is_wide = problem.start.dtype == torch.float64
        importlib.import_module("jax").config.update("jax_enable_x64", is_wide)
        if installed("optimistix", missing) is not None:
            yield from of_optimistix(problem)
        if installed("jaxopt", missing) is not None:
            yield from of_jaxopt(problem)
    if problem.start.shape[1] < 200:
        yield (
            "SciPy hybr, a loop",
            Contestant(partial(scipy_entry(problem), problem.parameters), None),
        )


def installed(name: str, missing: set[str]) -> ModuleType | None:
    """A module, or None, and its name among the missing."""
    try:
        return importlib.import_module(name)
    except ImportError:
        missing.add(name.split(".")[0])
        return None


def weights(problem: Problem) -> Tensor:
    """Of the sum whose gradient is taken, [n]."""
    return torch.linspace(-1, 1, problem.start.shape[1], dtype=problem.start.dtype)


# ---- right first, then fast ---------------------------------------------------------


def distance(problem: Problem, contestant: Contestant) -> float:
    """The largest entry of the residual over the batch."""
    value = torch.from_numpy(np.array(contestant.forward()))
    return problem.residual(value, problem.parameters).abs().max().item()


def disagreement(reference: list[Tensor], contestant: Contestant) -> float:
    """Largest relative difference of a gradient; NaN where there is none."""
    if contestant.both is None:
        return float("nan")
    theirs = [torch.from_numpy(np.array(one)) for one in contestant.both()]
    return max(
        ((one - other).norm() / one.norm()).item()
        for one, other in zip(reference, theirs, strict=True)
    )


def compare(problem: Problem, repeats: int, clock: Clock, missing: set[str]) -> Table:
    """One table: how right and how fast each contestant is."""
    table = _table(problem.title)
    first: list[Tensor] | None = None
    valid: dict[str, tuple[Contestant, float, float]] = {}
    for name, contestant in contestants(problem, missing):
        residual = distance(problem, contestant)
        if first is None:
            assert contestant.both is not None
            first = contestant.both()
        # A hair, as peers judge by another norm or by the last step.
        if not residual <= 1.5 * problem.tolerance:
            assert not name.startswith(OURS), f"{name}: residual {residual:.1e}"
            table.add_row(name, f"{residual:.0e}", "not solved")
            continue
        apart = disagreement(first, contestant)
        if apart > CLOSE:
            assert not name.startswith(OURS), f"{name}: gradients {apart:.1e} apart"
            contestant = Contestant(contestant.forward, None)
        valid[name] = (contestant, residual, apart)
    times = _timed(valid, repeats, clock)
    own = {part: min(median(times[name][part]) for name in times if OURS in name)
           for part in (0, 1)}  # fmt: skip
    for name, (_, residual, apart) in valid.items():
        table.add_row(
            name, f"{residual:.0e}", "" if apart == 0 else f"{apart:.0e}",
            *(_spread([1e3 * one for one in times[name][part]]) for part in (0, 1)),
            *(_ratio(times[name][part], own[part]) for part in (0, 1)),
        )  # fmt: skip
    return table


def _timed(
    valid: Mapping[str, tuple[Contestant, float, float]], repeats: int, clock: Clock
) -> dict[str, tuple[list[float], list[float]]]:
    """Seconds of forward, and of both, of every contestant in turn."""
    times: dict[str, tuple[list[float], list[float]]] = {n: ([], []) for n in valid}
    slow: set[str] = set()
    for _ in range(repeats):
        for name, (contestant, *_) in valid.items():
            if name in slow:
                continue
            for part, action in enumerate((contestant.forward, contestant.both)):
                if action is not None:
                    began = clock()
                    action()
                    times[name][part].append(clock() - began)
            # Three runs of what takes a second say enough.
            if times[name][0][-1] > 1 and len(times[name][0]) >= 3:
                slow.add(name)
    return times


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left")
    columns = (
        "", "residual", "gradient apart", "forward ms (min, median, max)",
        "both ms (min, median, max)", "forward over our best", "both over our best",
    )  # fmt: skip
    for column in columns:
        table.add_column(column, justify="right" if column else "left")
    return table


def _spread(values: list[float]) -> str:
    if not values:
        return ""
    return ", ".join(f"{one:.2f}" for one in (min(values), median(values), max(values)))


def _ratio(values: list[float], own: float) -> str:
    return f"{median(values) / own:.2f}" if values else ""


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "n2": partial(small, 2),
    "n10": partial(small, 10),
    "chandrasekhar": radiative,
    "tanh32": partial(equilibrium, torch.float32),
    "tanh64": partial(equilibrium, torch.float64),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--only", choices=PROBLEMS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    console, missing = Console(width=170), set()
    for name, build in PROBLEMS.items():
        if options.only in (None, name):
            table = compare(build(), options.repeats, CLOCKS[options.clock], missing)
            console.print(table)
    for name in sorted(missing):
        console.print(f"left out, not installed: {name}")


if __name__ == "__main__":
    main()
