"""What `optlayers demo` does: learn with a progress bar, tabulate, draw, and check."""

from pathlib import Path
from time import perf_counter

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from optlayers.demo.cartpole import LONGEST, Lesson, Settings, learn, mpc
from optlayers.demo.pictures import draw_all

FLOOR_BEFORE, GOAL_AFTER = 50, 475


def show(
    folder: Path,
    seed: int = 0,
    settings: Settings = Settings(),
    console: Console | None = None,
) -> Lesson:
    """Run the demonstration and write its pictures into `folder`.

    Args:
        folder: made if it does not exist.
        seed: of the training; the examination has seeds of its own.
        settings: how long to learn.
        console: where to print; the terminal by default.

    Raises:
        AssertionError: the controller did not learn what it should have.
    """
    console = console or Console()
    console.print("[bold]The plan that the controller solves at every step[/bold]")
    console.print(str(mpc), markup=False, highlight=False)
    began = perf_counter()
    lesson = _learn(settings, seed, console)
    console.print(_table(lesson))
    with console.status("drawing"):
        paths = draw_all(lesson, folder)
    for path in paths:
        console.print(f"  {path}", highlight=False)
    console.print(
        f"{perf_counter() - began:.0f} s on {torch.get_num_threads()} threads"
    )
    before, after = lesson.before.lengths.mean(), lesson.after.lengths.mean()
    assert before < FLOOR_BEFORE, f"the untrained controller lasted {before:.0f} steps"
    assert after >= GOAL_AFTER, f"the trained controller lasted only {after:.0f} steps"
    return lesson


def _learn(settings: Settings, seed: int, console: Console) -> Lesson:
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
    ) as progress:
        task = progress.add_task("", total=1.0)

        def report(stage: str, share: float) -> None:
            progress.update(task, description=f"{stage:<36}", completed=share)

        return learn(settings, seed, report)


def _table(lesson: Lesson) -> Table:
    trials = len(lesson.before.lengths)
    table = Table(title=f"CartPole-v1, {trials} fresh seeds")
    for column in ("", "before", "after"):
        table.add_column(column, justify="right" if column else "left")
    before, after = lesson.before.lengths, lesson.after.lengths
    learned = lesson.controller.plan.bound()
    table.add_row(
        f"mean steps of {LONGEST}", f"{before.mean():.1f}", f"{after.mean():.1f}"
    )
    table.add_row("shortest episode", str(before.min()), str(after.min()))
    for label, name, place in (
        ("B: force on spin", "B", (3, 0)),
        ("A: angle on spin", "A", (3, 2)),
        ("A: speed on position", "A", (0, 1)),
    ):
        pair = (lesson.beginning[name][place], learned[name][place])
        table.add_row(label, *(f"{value.item():+.3f}" for value in pair))
    return table
