"""What every face of root finding decides alike: tolerance, solver, gradient."""

from typing import Any

import torch
from torch import Tensor

from optlayers import registry
from optlayers.errors import ParameterError, SingularError, SolverRefused
from optlayers.implicit.linearizations import APPROXIMATE, LINEARIZATIONS
from optlayers.interfaces import Solver
from optlayers.programs.root import RootProgram

# Residuals that count as zero, an absolute size: about 1e6 roundings of numbers near 1
# in float64, 100 in float32.
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5}
LISTED_SAMPLES = 5


def solver_of(program: RootProgram, wanted: Any, tolerance: float) -> Solver:
    """The solver that was asked for.

    Args:
        program: of the structure in question.
        wanted: the option `solver`: "auto", a name or an instance.
        tolerance: of a solver that is made by its name.

    Raises:
        ParameterError: neither a name nor a solver.
        SolverRefused: of another kind, or it does not take the program.
        UnknownName: no solver has that name.
    """
    kind = program.kind.value
    solver = wanted
    if isinstance(wanted, str):
        solver = registry.create(kind, wanted, tolerance=tolerance)
    if not isinstance(solver, Solver):
        raise ParameterError(
            f"solver={wanted!r}: give a name ({', '.join(registry.names(kind))}) or a "
            "solver instance."
        )
    if solver.kind != program.kind:
        raise SolverRefused(
            f"solver={wanted!r} solves {solver.kind.value} programs, this one is "
            f"{kind}; choose among {', '.join(registry.names(kind))}."
        )
    reason = solver.refuses(program)
    if reason is not None:
        shown = wanted if isinstance(wanted, str) else type(solver).__name__
        raise SolverRefused(f"{shown} does not take this program: it {reason}")
    return solver


def check_gradient(gradient: str, order: int) -> None:
    """Refuse a linearization that does not exist, or has no derivative of that order.

    Raises:
        ParameterError: names those that exist.
    """
    if gradient not in LINEARIZATIONS:
        raise ParameterError(
            f"gradient={gradient!r}: one of {', '.join(LINEARIZATIONS)}."
        )
    if gradient in APPROXIMATE and order > 1:
        raise ParameterError(
            f'gradient="{gradient}" is approximate and has no derivative of order '
            f'{order}; use gradient="exact".'
        )


def refuse_singular(
    name: str, condition: Tensor, gradient: str, on_failure: str
) -> None:
    """Refuse a derivative that does not exist, where failures raise.

    Args:
        name: what the problem is called.
        condition: of the Jacobian at each solution, [B]; inf where singular.
        gradient: "least_squares" takes the derivative of minimum norm there.
        on_failure: only "raise" raises.

    Raises:
        SingularError: names the samples.
    """
    if gradient == "least_squares" or on_failure != "raise":
        return
    singular = condition.isinf().nonzero()[:, 0].tolist()
    if singular:
        shown = ", ".join(map(str, singular[:LISTED_SAMPLES]))
        raise SingularError(
            f"{name}: the Jacobian is singular at the solution of sample {shown}, "
            "which therefore has no derivative in the parameters.\n"
            '  gradient="least_squares" takes the derivative of minimum norm; where '
            "none is needed, call it under torch.no_grad()."
        )
