"""The command line: `optlayers demo`, `optlayers solvers`, `optlayers explain`."""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from optlayers import registry
from optlayers.errors import OptlayersError
from optlayers.interfaces import Kind
from optlayers.layers.explanation import Explanation

app = typer.Typer(
    help="Declare the mathematics once, get a batched, differentiable PyTorch layer.",
    no_args_is_help=True,
    add_completion=False,
)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the pictures.")] = Path("out"),
    seed: Annotated[int, typer.Option(help="Seed of the training.")] = 0,
) -> None:
    """Watch a controller learn to balance a pole through a convex program."""
    console = Console()
    try:
        # Only this command needs gymnasium and matplotlib, which are an extra.
        demonstration = importlib.import_module("optlayers.demo.show")
    except ModuleNotFoundError as missing:
        console.print(
            f"the demo needs {missing.name}: pip install 'optlayers\\[demo]'",
            highlight=False,
        )
        raise typer.Exit(1) from missing
    demonstration.show(out, seed=seed, console=console)


@app.command()
def solvers() -> None:
    """List every solver by kind, and why one cannot be used."""
    table = Table()
    for column in ("kind", "solver", "state"):
        table.add_column(column)
    for kind in Kind:
        missing = registry.unavailable(kind.value)
        for name in registry.names(kind.value):
            table.add_row(kind.value, name, missing.get(name, "ready"))
    Console().print(table)


@app.command()
def explain(
    problem: Annotated[str, typer.Argument(help="Where it is, as in planner:mpc.")],
    sizes: Annotated[
        list[str] | None, typer.Argument(help="Its sizes, as in n=4 steps=20.")
    ] = None,
) -> None:
    """Show the tree of reasons of a declared problem."""
    try:
        explained = _explainer(problem)(**_sizes(sizes or []))
    except (typer.BadParameter, OptlayersError) as reason:
        typer.echo(f"{problem}: {reason}")
        raise typer.Exit(1) from reason
    Console().print(explained)


def _explainer(place: str) -> Callable[..., Explanation]:
    """The method `explain` of what is at a place such as planner:mpc."""
    module, _, name = place.partition(":")
    if not (module and name):
        raise typer.BadParameter("give a module and a name in it, as in planner:mpc")
    try:
        return getattr(importlib.import_module(module), name).explain
    except (ImportError, AttributeError) as reason:
        raise typer.BadParameter(str(reason)) from reason


def _sizes(given: Sequence[str]) -> dict[str, int]:
    sizes = {}
    for one in given:
        name, _, value = one.partition("=")
        try:
            sizes[name] = int(value)
        except ValueError as reason:
            raise typer.BadParameter(
                f"{one}: give an integer, as in {name or 'n'}=4"
            ) from reason
    return sizes
