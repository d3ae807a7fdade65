"""From a program and the user's options to the plan of its solve."""

from dataclasses import dataclass
from typing import Any

from optlayers import registry
from optlayers.errors import ParameterError, SolverRefused
from optlayers.functional.options import SolveOptions, kind_asked
from optlayers.interfaces import Program, Solver
from optlayers.programs.cone_program import ConeProgram
from optlayers.solvers.certify import DEFAULT_TOLERANCE
from optlayers.solvers.checks import Check
from optlayers.solvers.plan import Plan


def make_plan(
    program: ConeProgram,
    options: SolveOptions,
    *,
    subject: str,
    row_names: tuple[str, ...] = (),
    column_names: tuple[str, ...] = (),
    checks: tuple[Check, ...] = (),
) -> Plan:
    """Decide which solvers are tried, in which order, on programs of this structure.

    Raises:
        SolverRefused: no solver takes it, or the one asked for does not.
        UnknownName: no solver has the name asked for.
        ParameterError: a gradient of another kind.
    """
    options.check_kind(program.kind)
    return Plan(
        structure=program.structure(),
        solvers=_solvers(program, options.solver),
        subject=subject,
        row_names=row_names,
        column_names=column_names,
        checks=checks,
        tolerance=options.tolerance or DEFAULT_TOLERANCE,
        on_failure=options.on_failure,
    )


@dataclass(frozen=True)
class SolverChoice:
    """What was found of one solver.

    Attributes:
        name: as it is registered; the class of an instance that was given.
        refusal: why it does not take the program; "" if it does.
    """

    name: str
    refusal: str


def solver_choices(program: Program, wanted: Any) -> tuple[SolverChoice, ...]:
    """The solvers that were considered, in the order in which they are tried.

    Args:
        program: of the structure in question.
        wanted: the option `solver`: "auto", a name or an instance.

    Raises:
        ParameterError: `wanted` is none of these.
        SolverRefused: it solves programs of another kind, or cannot be imported.
        UnknownName: no solver has that name.
    """
    kind = program.kind.value
    wanted = _within(kind, wanted)
    # Of some kinds a solver of that name is registered, which chooses for itself.
    if wanted == "auto" and wanted not in registry.names(kind):
        verdicts = registry.verdicts(program)
        return tuple(SolverChoice(name, reason) for name, reason in verdicts.items())
    solver, name = _asked_for(program, wanted)
    return (SolverChoice(name, solver.refuses(program) or ""),)


def _solvers(program: ConeProgram, wanted: Any) -> tuple[Solver, ...]:
    if _within(program.kind.value, wanted) == "auto":
        return registry.ranked(program)
    return (accepted_solver(program, wanted),)


def accepted_solver(program: Program, wanted: Any, **made_with: Any) -> Solver:
    """The solver that was asked for.

    Args:
        program: of the structure in question.
        wanted: a name or an instance.
        **made_with: options of a solver that is made by its name.

    Raises:
        ParameterError: neither a name nor a solver.
        SolverRefused: of another kind, or it does not take the program.
        UnknownName: no solver has that name.
    """
    solver, name = _asked_for(program, wanted, **made_with)
    reason = solver.refuses(program)
    if reason is not None:
        raise SolverRefused(f"{name} does not take this program: it {reason}")
    return solver


def _asked_for(program: Program, wanted: Any, **made_with: Any) -> tuple[Solver, str]:
    """The solver of a name, or the instance given; and what it is called."""
    kind = program.kind.value
    solver = wanted = _within(kind, wanted)
    if isinstance(wanted, str):
        other = kind_asked(wanted)
        if other is not None:
            raise SolverRefused(_other_kind(wanted, other.value, kind))
        solver = registry.create(kind, wanted, **made_with)
    if not isinstance(solver, Solver):
        raise ParameterError(
            f"solver={wanted!r}: give a name ({', '.join(registry.names(kind))}), "
            '"auto", or a solver instance.'
        )
    if solver.kind != program.kind:
        raise SolverRefused(_other_kind(wanted, solver.kind.value, kind))
    return solver, wanted if isinstance(wanted, str) else type(solver).__name__


def _within(kind: str, wanted: Any) -> Any:
    """The option `solver` without the name of this kind in front."""
    return wanted.removeprefix(f"{kind}.") if isinstance(wanted, str) else wanted


def _other_kind(wanted: object, its: str, kind: str) -> str:
    return (
        f"solver={wanted!r} solves {its} programs, this one is {kind}; choose among "
        f"{', '.join(registry.names(kind))}."
    )
