"""What all root solvers have in common: options, a refusal, the call of the loop."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from optlayers.errors import ParameterError
from optlayers.programs.root import RootProgram
from optlayers.solution import Solution
from optlayers.solvers.iterative import iterate, start_or_zero


def check_options(solver: Any, *positive: str, shares: Sequence[str] = ()) -> None:
    """Refuse step limits below one, options that are not positive, shares above one.

    Args:
        solver: with the options `max_steps` and `tolerance`.
        positive: others that must be above zero.
        shares: others that must be above zero and at most 1.

    Raises:
        ParameterError: names the option and the value.
    """
    name = type(solver).__name__
    steps = solver.max_steps
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ParameterError(f"{name}(max_steps={steps!r}): give an integer from 1 on.")
    for option in ("tolerance", *positive, *shares):
        value = getattr(solver, option)
        if not value > 0:
            raise ParameterError(
                f"{name}({option}={value!r}): give a number above zero."
            )
        if option in shares and not value <= 1:
            raise ParameterError(
                f"{name}({option}={value!r}): it is a share; give a number "
                "above zero and at most 1."
            )


def solved_by(
    method: Any, program: RootProgram, start: Tensor | None, check_every: int = 1
) -> Solution:
    """Run a method, with its own tolerance and step limit, from the start or zeros.

    Args:
        method: a `Method` with the options `tolerance` and `max_steps`.
        program: of B systems.
        start: [B, n] or None.
        check_every: as of `iterate`.

    Raises:
        ShapeError: a start of another shape.
    """
    return iterate(
        method, program, start_or_zero(program, start), tolerance=method.tolerance,
        max_steps=method.max_steps, check_every=check_every,
    )  # fmt: skip


def refuse_equations(program: RootProgram) -> str | None:
    """The refusal of methods that iterate a map."""
    if program.map is None:
        return "iterates a map, and the program has none; write x == map(x)."
    return None
