"""Where the time of one layer call goes, as a table: own time of each stage.

python benchmarks/profile_layer.py [--repeats 200]
"""

import argparse
import os
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from statistics import median
from typing import Any
from unittest import mock

import torch
from convex import CLOCKS, OURS, Clock, draw, entries
from rich.console import Console
from rich.table import Table

import optlayers.functional.differentiate as differentiate
import optlayers.layers.convex as route
from optlayers.compile.convex import ConvexTemplate
from optlayers.layers.layer import Layer
from optlayers.programs.cone_program import ConeProgram
from optlayers.solvers import certify, chain, set_num_threads
from optlayers.solvers.convex.daqp import Daqp

# What is timed, outermost first; time inside a later stage is not counted twice.
STAGES: tuple[tuple[str, Any, str], ...] = (
    ("call: collect, name, restore", Layer, "forward"),
    ("align", route, "align"),
    ("leaves", ConvexTemplate, "evaluate_leaves"),
    ("bind", ConvexTemplate, "bind"),
    ("checks", ConvexTemplate, "checked"),
    ("solve: operator, set aside, fall back", differentiate, "solve"),
    ("solve: checks", chain, "_faults"),
    ("solve: solver", Daqp, "solve"),
    ("solve: certify", certify, "measure"),
    ("solve: multipliers", chain, "shorten_multipliers"),
    ("attach", differentiate, "attach"),
    ("split", ConeProgram, "split"),
    ("objective", ConeProgram, "objective"),
    ("lagrangian", ConeProgram, "lagrangian"),
)


class Stopwatch:
    """Own time of nested stages, in seconds, and how often each was entered."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self._inner = [0.0]

    def watch(self, stage: str, function: Callable) -> Callable:
        """The same function, timed as `stage`."""

        @wraps(function)
        def timed(*arguments: Any, **options: Any) -> Any:
            self._inner.append(0.0)
            began = self.clock()
            try:
                return function(*arguments, **options)
            finally:
                whole = self.clock() - began
                self.seconds[stage] += whole - self._inner.pop()
                self._inner[-1] += whole
                self.calls[stage] += 1

        return timed


def profile(batch: int, repeats: int, clock: Clock) -> Table:
    """One table: milliseconds a call, by stage, with the backward as a whole."""
    tensors = draw(batch, 10, 5, 2)
    solve = entries(10, 5, 2)[OURS]
    watch = Stopwatch(clock)

    def backward(x: torch.Tensor) -> None:
        x.sum().backward()

    timed_backward = watch.watch("backward", backward)
    plain = [_once(solve, backward, tensors, clock) for _ in range(repeats)]
    with ExitStack() as stack:
        for stage, owner, name in STAGES:
            timed = watch.watch(stage, getattr(owner, name))
            stack.enter_context(mock.patch.object(owner, name, timed))
        _once(solve, timed_backward, tensors, clock)
        watch.seconds.clear()
        watch.calls.clear()
        for _ in range(repeats):
            _once(solve, timed_backward, tensors, clock)
    title = f"QP, n = 10, 5 inequalities, 2 equalities, batch {batch}"
    table = Table(title=title, title_justify="left")
    table.add_column("stage")
    for column in ("times a call", "own ms", "share"):
        table.add_column(column, justify="right")
    total = sum(watch.seconds.values())
    for stage in [*(stage for stage, _, _ in STAGES), "backward"]:
        spent = watch.seconds[stage]
        table.add_row(
            stage,
            f"{watch.calls[stage] / repeats:.0f}",
            f"{1e3 * spent / repeats:.3f}",
            f"{spent / total:.0%}",
        )
    table.add_section()
    table.add_row("all, as measured here", "", f"{1e3 * total / repeats:.3f}", "100%")
    table.add_row("all, unwatched, median", "", f"{1e3 * median(plain):.3f}", "")
    return table


def _once(solve: Callable, backward: Callable, tensors: dict, clock: Clock) -> float:
    given = {name: one.clone().requires_grad_() for name, one in tensors.items()}
    began = clock()
    backward(solve(given))
    return clock() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    options = parser.parse_args()
    torch.set_num_threads(1)
    set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for batch in (1, 64):
        Console(width=100).print(profile(batch, options.repeats, CLOCKS[options.clock]))


if __name__ == "__main__":
    main()
