"""Time integration of initial value problems against our peers, at equal error.

One process pinned to one core, peers and us in turn on the same tensors. Each finds the
tolerance at which its error against SciPy's DOP853 is that of the others, and its
gradient is checked, before anything is timed. Peers that are missing are left out:

    pip install --target DIR torchdiffeq torchode diffrax
    PYTHONPATH=DIR python benchmarks/ode.py [--repeats 20] [--clock cpu] [--only loop]
    PYTHONPATH=DIR python benchmarks/ode.py --pictures docs/assets

On a machine that others share, `--clock cpu` counts the time of this process alone.
"""

import argparse
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import exp, isfinite, log
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import numpy as np
import ode_contestants as who
import ode_problems as problems
import torch
from ode_contestants import OURS, Contestant, Named
from ode_problems import Problem
from rich.console import Console
from rich.table import Table

from optlayers.errors import ParameterError, SolverRefused, UnknownName, UnknownOption

Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": perf_counter, "cpu": process_time}
CLOSE = 1e-2  # relative difference of gradients, whose accuracy each peer sets itself
EQUAL = 1.1  # errors that are called equal lie within this factor of the target
# What a solver, an option or a gradient that we do not have is answered with.
NOT_OFFERED = (UnknownName, UnknownOption, ParameterError, SolverRefused, TypeError)
TRIES = 14  # tolerances to find it
ALL_GRADIENTS = ("exact", "direct", "checkpoint", "sweep", "backsolve")


# ---- who enters where ---------------------------------------------------------------


def forward_only(problem: Problem, missing: set[str]) -> Named:
    """Non-stiff problems in large batches."""
    yield from who.our_solvers(problem, "dopri5", "tsit5", "dopri8", "auto")
    yield from who.compiled(problem, "dopri5", "tsit5")
    yield from who.torchdiffeq(problem, missing, "dopri5")
    yield from who.torchode(problem, missing, "dopri5", "tsit5")
    yield from who.diffrax(problem, missing, "Dopri5", "Tsit5")
    yield from who.scipy(problem, "RK45")


def with_gradients(problem: Problem, missing: set[str]) -> Named:
    """Each way to a gradient."""
    yield from who.our_gradients(problem, "dopri5", *ALL_GRADIENTS)
    yield from who.torchdiffeq(problem, missing, "dopri5", adjoint=True)
    yield from who.torchode(problem, missing, "dopri5")
    yield from who.diffrax(problem, missing, "Dopri5")


def stiff(problem: Problem, missing: set[str]) -> Named:
    """What an explicit method cannot do in time."""
    yield from who.our_solvers(problem, "kvaerno5", "rodas5p", "auto")
    yield from who.compiled(problem, "rodas5p")
    yield from who.diffrax(problem, missing, "Kvaerno5")
    yield from who.scipy(problem, "Radau", "LSODA")


def cheap(problem: Problem, missing: set[str]) -> Named:
    """The loop alone, forward and backward."""
    yield from who.our_gradients(problem, "dopri5", "exact", "direct", "sweep")
    yield from who.compiled(problem, "dopri5")
    yield from who.torchdiffeq(problem, missing, "dopri5", adjoint=True)
    yield from who.torchode(problem, missing, "dopri5")
    yield from who.diffrax(problem, missing, "Dopri5")
    yield from who.scipy(problem, "RK45")


@dataclass(frozen=True)
class Case:
    """A problem, who solves it, and whether gradients are taken."""

    build: Callable[[], Problem]
    enter: Callable[[Problem, set[str]], Named]
    has_gradients: bool = True


CASES = {
    "van_der_pol": Case(problems.oscillators, forward_only, has_gradients=False),
    "neural": Case(problems.neural, with_gradients),
    "robertson": Case(problems.kinetics, stiff, has_gradients=False),
    "loop": Case(problems.loop, cheap),
    "predators1": Case(partial(problems.predators, 1), with_gradients),
    "predators32": Case(partial(problems.predators, 32), with_gradients),
    "oscillator1": Case(partial(problems.oscillators, 1, 5, 10, 20), with_gradients),
    "oscillator32": Case(partial(problems.oscillators, 32, 5, 10, 20), with_gradients),
}


# ---- right first, then fast ---------------------------------------------------------


@dataclass
class Result:
    """What one contestant showed.

    Attributes:
        tolerance: at which its error is `error`.
        error: root mean square, relative.
        steps: turns of its loop.
        apart: largest relative difference of a gradient; NaN where there is none.
        forward: seconds of each run.
        both: seconds of each forward with its backward.
    """

    tolerance: float
    error: float
    steps: int
    apart: float = float("nan")
    forward: list[float] = field(default_factory=list)
    both: list[float] = field(default_factory=list)


def calibrate(contestant: Contestant, target: float) -> Result:
    """The tolerance at which the error is `target`, or the nearest that was tried.

    A secant on logarithms between the nearest errors on either side.
    """
    tried: list[Result] = []
    tolerance = target
    for _ in range(TRIES):
        value, steps = contestant.forward(tolerance)
        tried.append(Result(tolerance, contestant.problem.error(value), steps))
        if target / EQUAL <= tried[-1].error <= target * EQUAL:
            return tried[-1]
        tolerance = _next_tolerance(tried, target)
    return min(tried, key=lambda one: _off(one, target))


def _off(result: Result, target: float) -> float:
    """How far an error is from the target, as the logarithm of a factor."""
    error = result.error
    return abs(log(error / target)) if isfinite(error) and error > 0 else float("inf")


def _next_tolerance(tried: list[Result], target: float) -> float:
    finite = [one for one in tried if isfinite(one.error) and one.error > 0]
    above = [one for one in finite if one.error > target]
    below = [one for one in finite if one.error <= target]
    if not finite:
        return tried[-1].tolerance / 10
    if not above or not below:
        nearest = min(finite, key=lambda one: _off(one, target))
        # Half as far again, so that the next lies on the other side.
        return nearest.tolerance * min(100, max(1e-2, (target / nearest.error) ** 1.5))
    high = min(above, key=lambda one: one.tolerance)
    low = max(below, key=lambda one: one.tolerance)
    along = log(target / low.error) / log(high.error / low.error)
    # Kept from the ends, where a secant would crawl.
    along = min(0.85, max(0.15, along))
    return exp(
        log(low.tolerance) + along * (log(high.tolerance) - log(low.tolerance))
    )  # fmt: skip


def disagreement(contestant: Contestant, tolerance: float) -> float:
    """Largest relative difference of a gradient from the Runge-Kutta reference."""
    assert contestant.both is not None
    found = [torch.from_numpy(np.array(one)) for one in contestant.both(tolerance)]
    return max(
        ((one - other).norm() / other.norm()).item()
        for one, other in zip(found, contestant.problem.gradients, strict=True)
    )


def compare(
    case: Case, repeats: int, clock: Clock, missing: set[str], chosen: str
) -> Table:
    """Check every contestant, then time them in turn."""
    problem = case.build()
    table = _table(f"{problem.title}, error {problem.target:.0e}", case.has_gradients)
    valid: dict[str, tuple[Contestant, Result]] = {}
    for name, contestant in case.enter(problem, missing):
        if chosen not in name:
            continue
        try:
            result = calibrate(contestant, problem.target)
            if case.has_gradients and contestant.both is not None:
                result.apart = disagreement(contestant, result.tolerance)
        except NOT_OFFERED as refusal:
            missing.add(f"{name}: {str(refusal).splitlines()[0]}")
            continue
        assert OURS not in name or not result.apart > CLOSE, f"{name}: {result}"
        valid[name] = (contestant, result)
    _time(valid, repeats, clock, case.has_gradients)
    _fill(table, valid, case.has_gradients)
    return table


def _time(
    valid: Mapping[str, tuple[Contestant, Result]],
    repeats: int,
    clock: Clock,
    has_gradients: bool,
) -> None:
    """Seconds of forward, and of both, of every contestant in turn."""
    for _ in range(repeats):
        for contestant, result in valid.values():
            # Three runs of what takes a second say enough.
            if len(result.forward) >= 3 and result.forward[-1] > 1:
                continue
            began = clock()
            contestant.forward(result.tolerance)
            result.forward.append((clock() - began) * contestant.share)
            if has_gradients and result.apart <= CLOSE:
                assert contestant.both is not None
                began = clock()
                contestant.both(result.tolerance)
                result.both.append(clock() - began)


# ---- what is printed ----------------------------------------------------------------


def _table(title: str, has_gradients: bool) -> Table:
    table = Table(title=title, title_justify="left")
    columns = [
        "", "tolerance", "error", "steps", "forward ms (min, median, max)",
        "µs a step", "over our best",
    ]  # fmt: skip
    if has_gradients:
        columns += ["both ms (min, median, max)", "over our best", "gradient apart"]
    for column in columns:
        table.add_column(column, justify="right" if column else "left")
    return table


def _fill(
    table: Table, valid: Mapping[str, tuple[Contestant, Result]], has_gradients: bool
) -> None:
    own = [result for name, (_, result) in valid.items() if OURS in name]
    for name, (contestant, result) in valid.items():
        loops = (
            result.steps if contestant.share == 1 else result.steps * contestant.share
        )
        off = "" if _off(result, contestant.problem.target) <= log(EQUAL) else " !"
        row = [
            name, f"{result.tolerance:.1e}", f"{result.error:.1e}{off}",
            f"{result.steps}", _spread(result.forward),
            f"{1e6 * median(result.forward) / max(1, loops):.0f}",
            _ratio(result.forward, [one.forward for one in own]),
        ]  # fmt: skip
        if has_gradients:
            apart = f"{result.apart:.0e}" if isfinite(result.apart) else ""
            row += [
                _spread(result.both), _ratio(result.both, [o.both for o in own]), apart
            ]  # fmt: skip
        table.add_row(*row)


def _spread(seconds: list[float]) -> str:
    if not seconds:
        return ""
    ends = (min(seconds), median(seconds), max(seconds))
    return ", ".join(f"{1e3 * one:.4g}" for one in ends)


def _ratio(seconds: list[float], own: list[list[float]]) -> str:
    best = min((median(one) for one in own if one), default=None)
    return f"{median(seconds) / best:.2f}" if seconds and best else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--only", choices=CASES, action="append")
    parser.add_argument(
        "--who", default="", help="part of the names of those who enter"
    )
    parser.add_argument("--pictures", type=Path, help="folder for the diagrams instead")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    console, missing = Console(width=170), set[str]()
    if options.pictures is not None:
        from ode_pictures import draw  # needs matplotlib, which tables do not

        draw(options.pictures, CLOCKS[options.clock], missing)
    else:
        for name in options.only or CASES:
            clock = CLOCKS[options.clock]
            table = compare(CASES[name], options.repeats, clock, missing, options.who)
            console.print(table)
    for name in sorted(missing):
        console.print(f"left out: {name}")


if __name__ == "__main__":
    main()
