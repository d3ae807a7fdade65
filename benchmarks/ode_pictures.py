"""Work-precision diagrams: the time that an error costs, by solver.

Above batches, below single samples. Left undrawn: what did not reach the end, and what
is tighter than a run that took longer than `PATIENCE`.
"""

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from math import isfinite
from pathlib import Path

import ode_contestants as who
import ode_problems as problems
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ode_contestants import OURS, Contestant, Named
from ode_problems import Problem

from optlayers.errors import OptlayersError

Clock = Callable[[], float]
Points = list[tuple[float, float]]  # error, milliseconds
TOLERANCES = tuple(10.0**-k for k in (3, 5, 7, 9))
REPEATS = 2
PATIENCE = 1.0  # seconds of one run after which no tighter tolerance is tried
SHADES = ("#0b3d91", "#2f7de1", "#12b5cb")  # ours, in the order of entry
COLORS = {
    "torchdiffeq": "tab:orange", "torchode": "tab:green", "diffrax": "tab:red",
    "SciPy": "dimgray",
}  # fmt: skip


def explicit(problem: Problem, missing: set[str]) -> Named:
    """Methods of order five, and SciPy's loop where it is short."""
    yield from who.our_solvers(problem, "dopri5")
    yield from who.compiled(problem, "dopri5")
    yield from who.torchdiffeq(problem, missing, "dopri5")
    yield from who.torchode(problem, missing, "dopri5")
    yield from who.diffrax(problem, missing, "Dopri5")
    if len(problem.start) == 1:
        yield from who.scipy(problem, "RK45")


def implicit(problem: Problem, missing: set[str]) -> Named:
    """Methods of order five; torchdiffeq and torchode have none."""
    yield from who.our_solvers(problem, "rodas5p")
    yield from who.compiled(problem, "rodas5p")
    yield from who.our_solvers(problem, "kvaerno5")
    yield from who.diffrax(problem, missing, "Kvaerno5")
    if len(problem.start) == 1:
        yield from who.scipy(problem, "Radau")


PANELS = (
    ("Van der Pol, 64 samples", partial(problems.oscillators, 64), explicit),
    ("Robertson (stiff), 64 samples", partial(problems.kinetics, 64), implicit),
    ("Van der Pol, one sample", partial(problems.oscillators, 1), explicit),
    ("Robertson (stiff), one sample", partial(problems.kinetics, 1), implicit),
)


def draw(folder: Path, clock: Clock, missing: set[str]) -> None:
    """Save `ode_work_precision.png` in the folder."""
    figure = Figure(figsize=(10, 9.6), layout="constrained")
    axes = figure.subplots(2, 2).ravel()
    for panel, (title, build, enter) in zip(axes, PANELS, strict=True):
        lines = {
            name: list(work(contestant, clock))
            for name, contestant in enter(build(), missing)
        }
        _draw_lines(panel, lines)
        panel.set(
            title=title, xlabel="relative error", ylabel="ms", xscale="log",
            yscale="log",
        )  # fmt: skip
        panel.grid(alpha=0.3, which="major")
        # Below, as lines cross the whole panel.
        panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "ode_work_precision.png", dpi=90)


def work(contestant: Contestant, clock: Clock) -> Iterator[tuple[float, float]]:
    """Error and milliseconds at each tolerance, as far as patience goes."""
    for tolerance in TOLERANCES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a solver that does not reach the end
            try:
                value, _ = contestant.forward(tolerance)  # here peers and us compile
                error = contestant.problem.error(value)
            except (ArithmeticError, AssertionError, OptlayersError, RuntimeError):
                continue
            times = []
            while len(times) < REPEATS and not any(one > PATIENCE for one in times):
                began = clock()
                contestant.forward(tolerance)
                times.append(clock() - began)
        if isfinite(error) and 0 < error < 1:
            yield error, 1e3 * min(times)
        if min(times) > PATIENCE:
            return


def _draw_lines(panel: Axes, lines: dict[str, Points]) -> None:
    """Ours drawn through, the peers dashed."""
    shades = iter(SHADES)
    for name, points in lines.items():
        is_ours = name.startswith(OURS)
        panel.plot(
            *([one[k] for one in points] for k in (0, 1)), label=name,
            color=next(shades) if is_ours else COLORS[name.split()[0]],
            marker="o" if is_ours else "x", markersize=4.5,
            linestyle="-" if is_ours else "--", linewidth=1.4,
        )  # fmt: skip
