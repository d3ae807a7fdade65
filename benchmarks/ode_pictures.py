"""Work-precision diagrams: the time that an error costs, by solver.

Left undrawn: what did not reach the end, and what takes longer than `PATIENCE`.
"""

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from math import isfinite
from pathlib import Path

import ode_contestants as who
import ode_problems as problems
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ode_contestants import OURS, Contestant, Named
from ode_problems import Problem

from optlayers.errors import OptlayersError

Clock = Callable[[], float]
TOLERANCES = tuple(10.0**-k for k in (3, 5, 7, 9))
REPEATS = 2
PATIENCE = 0.4  # seconds of one run after which no tighter tolerance is tried


def explicit(problem: Problem, missing: set[str]) -> Named:
    """Solvers of the upper row."""
    yield from who.our_solvers(problem, "dopri5", "tsit5", "dopri8")
    yield from who.torchdiffeq(problem, missing, "dopri5")
    yield from who.scipy(problem, "DOP853")


def implicit(problem: Problem, missing: set[str]) -> Named:
    """Solvers of the lower row."""
    yield from who.our_solvers(problem, "kvaerno5", "rodas5p")
    yield from who.diffrax(problem, missing, "Kvaerno5")
    yield from who.scipy(problem, "Radau")


PANELS = (
    (partial(problems.oscillators, 1, 5, 10, 20), explicit),
    (problems.orbit, explicit),
    (partial(problems.predators, 1), explicit),
    (partial(problems.kinetics, 1), implicit),
    (problems.stiff_oscillator, implicit),
    (problems.reaction, implicit),
)


def draw(folder: Path, clock: Clock, missing: set[str]) -> None:
    """Save `ode_work_precision.png` in the folder."""
    figure = Figure(figsize=(13, 8), layout="constrained")
    axes = figure.subplots(2, 3).ravel()
    for panel, (build, enter) in zip(axes, PANELS, strict=True):
        problem = build()
        contestants = dict(enter(problem, missing))
        for place, (name, contestant) in enumerate(contestants.items()):
            _line(panel, name, place, list(work(contestant, clock)))
        panel.set(
            title=problem.title.split(", batch")[0], xlabel="relative error",
            ylabel="ms", xscale="log", yscale="log",
        )  # fmt: skip
        panel.grid(alpha=0.3, which="major")
    for panel in (axes[0], axes[3]):
        panel.legend(fontsize="x-small")
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "ode_work_precision.png", dpi=110)


def work(contestant: Contestant, clock: Clock) -> Iterator[tuple[float, float]]:
    """Error and milliseconds at each tolerance, as far as patience goes."""
    for tolerance in TOLERANCES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a solver that does not reach the end
            try:
                value, _ = contestant.forward(tolerance)  # jax compiles here
                error = contestant.problem.error(value)
            except (ArithmeticError, AssertionError, OptlayersError, RuntimeError):
                continue
            times = []
            for _ in range(REPEATS):
                began = clock()
                contestant.forward(tolerance)
                times.append(clock() - began)
                if times[-1] > PATIENCE:
                    break
        if isfinite(error) and error < 1:
            yield max(error, torch.finfo(torch.float64).eps), 1e3 * min(times)
        if min(times) > PATIENCE:
            return


def _line(
    panel: Axes, name: str, place: int, points: list[tuple[float, float]]
) -> None:
    """Ours drawn through, the peers dashed."""
    panel.plot(
        *([one[k] for one in points] for k in (0, 1)), label=name,
        color=colormaps["tab10" if OURS in name else "Dark2"](place % 8),
        marker="o" if OURS in name else "x", markersize=4,
        linestyle="-" if OURS in name else "--", linewidth=1.2,
    )  # fmt: skip
