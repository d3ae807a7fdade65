"""Integrate, and take the derivative as it was asked for."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from optlayers.errors import NotSupported, ParameterError
from optlayers.functional.options import SolveOptions
from optlayers.implicit.backsolve import backsolve
from optlayers.implicit.checkpoint import checkpointed
from optlayers.implicit.failed import replace_failed, with_zero_gradient
from optlayers.implicit.moved_times import with_moved_saves, with_still_times
from optlayers.implicit.recorded import Stepping
from optlayers.implicit.steady_state import attach_steady_state, refuse_moving
from optlayers.implicit.sweep import sweep
from optlayers.programs.initial_value import InitialValueProgram
from optlayers.solution import Solution, Status
from optlayers.solvers.ode.drive import Walk

# Up to this many states "exact" sweeps over the steps; beyond, n products with each
# step's derivative cost more than the graph of all steps. Forward and backward, a batch
# of 64: n = 4 43 ms against 60, n = 8 52 against 55, n = 16 130 against 71.
SWEEP_LIMIT = 4

Differentiated = Callable[[InitialValueProgram, Stepping, SolveOptions], Solution]


def _exact(
    program: InitialValueProgram, solver: Stepping, options: SolveOptions
) -> Solution:
    """The derivative of the steps, the faster way."""
    is_small = program.size <= SWEEP_LIMIT and options.order == 1
    if is_small and not program.events and isinstance(solver, Stepping):
        return _sweep(program, solver, options)
    return _direct(program, solver, options)


def _direct(
    program: InitialValueProgram, solver: Stepping, options: SolveOptions
) -> Solution:
    """The graph of all steps, of any order."""
    solved = solver.solve(with_still_times(program))
    if not (solved.value.requires_grad or isinstance(solver, Stepping)):
        name = type(solver).__name__
        raise NotSupported(
            f'gradient="{options.gradient}": {name} returned values without a graph, '
            "and does not take its steps one at a time, so nothing can be "
            "differentiated. Use a solver of optlayers, such as "
            f'solver="dopri5", or call {name} under torch.no_grad().'
        )
    return with_moved_saves(program, solved)


def _sweep(
    program: InitialValueProgram, solver: Stepping, options: SolveOptions
) -> Solution:
    """All steps at once, and a linear recursion."""
    return with_moved_saves(
        program, sweep(with_still_times(program), _stepping(solver, options))
    )


def _checkpoint(
    program: InitialValueProgram, solver: Stepping, options: SolveOptions
) -> Solution:
    """The steps again, segment by segment."""
    return with_moved_saves(
        program, checkpointed(with_still_times(program), _stepping(solver, options))
    )


def _backsolve(
    program: InitialValueProgram, solver: Stepping, options: SolveOptions
) -> Solution:
    """The adjoint equation."""
    return with_moved_saves(
        program, backsolve(with_still_times(program), _stepping(solver, options))
    )


def _steady_state(
    program: InitialValueProgram, solver: Stepping, options: SolveOptions
) -> Solution:
    """The implicit function theorem at the end."""
    with torch.no_grad():
        found = solver.solve(program)
    solved = attach_steady_state(program, found, options.order)
    if options.on_failure == "raise":
        refuse_moving(solved, found)
    return solved


def _stepping(solver: Any, options: SolveOptions) -> Stepping:
    """The solver, if its steps may be taken one by one."""
    if not isinstance(solver, Stepping):
        name = type(solver).__name__
        raise ParameterError(
            f'gradient="{options.gradient}" takes the steps of the solver one by one; '
            f"{name} takes them all at once (it has no `walk`, `stepper` and "
            f'`is_for_stiff`). Use gradient="direct" if {name} computes with torch '
            'operations, or a solver of optlayers, such as solver="dopri5".'
        )
    return solver


# What each `gradient=` does.
ADJOINTS: Mapping[str, Differentiated] = {
    "exact": _exact,
    "direct": _direct,
    "sweep": _sweep,
    "checkpoint": _checkpoint,
    "backsolve": _backsolve,
    "steady_state": _steady_state,
}
TAKE_EVENTS = frozenset(("exact", "direct"))


def differentiable_integral(
    program: InitialValueProgram, solver: Stepping, options: SolveOptions
) -> Solution:
    """Integrate a batch, differentiably in initial values, times and closures.

    Args:
        program: of B samples; broken times and values are found here.
        solver: of kind "ode".
        options: gradient and failure behaviour.

    Returns:
        A `Solution` of value [B, T, n]: rows that failed have no gradient; they are NaN
        with `on_failure="nan"`, and else from where they stopped.

    Raises:
        ParameterError: a gradient that cannot pass events, or that takes the steps of
            a solver which does not give them one by one.
        NotSupported: the solver returned values without a graph.
        SolveError: no steady state, of `gradient="steady_state"`.
    """
    if program.events and options.gradient not in TAKE_EVENTS:
        raise ParameterError(
            f'gradient="{options.gradient}" cannot pass events; use gradient="exact".'
        )
    given = program
    program, status, needs_gradient = _begun(program)
    if not program.batch_size:
        solved = solver.solve(program)
        if needs_gradient:
            value = with_zero_gradient(solved.value, _inputs(program))
            solved = replace(solved, value=value)
    elif needs_gradient:
        solved = ADJOINTS[options.gradient](program, solver, options)
    else:
        with torch.no_grad():
            solved = solver.solve(program)
    if needs_gradient:
        solved = _with_events(program, solved)
    return _told(given, solved, status, options)


def stepwise_integral(
    program: InitialValueProgram, solver: Any, options: SolveOptions
) -> Generator[Walk, None, Solution]:
    """The same by `gradient="direct"`, which stops after every step.

    Args:
        program: of B samples.
        solver: whose steps are taken one by one.
        options: failure behaviour.

    Yields:
        The walk after each step.

    Returns:
        The solution of `differentiable_integral`.
    """
    given = program
    program, status, needs_gradient = _begun(program)
    # Grad mode must not reach into the loop in which this is watched.
    with torch.set_grad_enabled(needs_gradient):
        still = with_still_times(program)
        walk = solver.walk(still)
    while walk.is_running:
        with torch.set_grad_enabled(needs_gradient):
            walk.advance()
        yield walk
    with torch.set_grad_enabled(needs_gradient):
        solved = with_moved_saves(program, solver.told(walk))
        if needs_gradient:
            solved = _with_events(program, solved)
    return _told(given, solved, status, options)


def _told(
    program: InitialValueProgram,
    solved: Solution,
    faults: Tensor,
    options: SolveOptions,
) -> Solution:
    """The solution with the statuses of samples that could not begin, [B]."""
    status = torch.where(faults != 0, faults, solved.status)
    failed = (status != 0)[:, None, None]
    if not bool(failed.any()):
        return solved
    value = torch.where(failed, solved.value.detach(), solved.value)
    idle = (faults != 0)[:, None, None]
    first = torch.arange(value.shape[1], device=value.device)[:, None] == 0
    value = torch.where(idle & first, program.initial.detach().unsqueeze(1), value)
    is_broken = (faults == int(Status.INVALID_DATA))[:, None, None]
    lost = failed if options.on_failure == "nan" else is_broken | (idle & ~first)
    start = program.times[:, 0].detach()
    time = torch.where(faults != 0, start, solved.stats["time"])
    return replace(
        solved,
        value=value.masked_fill(lost, torch.nan),
        events=tuple(one.without_gradient(status != 0) for one in solved.events),
        status=status.to(torch.int8),
        stats=dict(solved.stats) | {"time": time},
    )


def _broken_times(times: Tensor) -> Tensor:
    """Which rows are neither increasing nor decreasing, bool [B]."""
    times = times.detach()
    steps = times.diff(dim=1)
    is_ordered = (steps > 0).all(1) | (steps < 0).all(1)
    return ~(is_ordered & times.isfinite().all(1))


def _faults(program: InitialValueProgram) -> Tensor:
    """A status of samples whose data are broken, 0 of the others, [B]."""
    broken = _broken_times(program.times)
    return torch.where(broken, int(Status.INVALID_DATA), 0).to(torch.int8)


def _begun(program: InitialValueProgram) -> tuple[InitialValueProgram, Tensor, bool]:
    """The program without samples that cannot begin, whose NaN would reach all.

    Returns:
        The program, a status of samples that cannot begin, [B], and whether the
        solution has a gradient.
    """
    status, inputs = _faults(program), []
    if torch.is_grad_enabled():
        inputs = _inputs(program)
        initial, rate = program.initial, inputs[0]
        finite = (rate.detach() + initial.detach()).isfinite().all(1)
        lost = (status == 0) & ~finite
        status = torch.where(lost, int(Status.NOT_FINITE), status).to(torch.int8)
    if bool((status != 0).any()):
        program = _without(program, status == 0)
    return program, status, any(one.requires_grad for one in inputs)


def _inputs(program: InitialValueProgram) -> list[Tensor]:
    """The rate at the beginning, and all else that a solution depends on there."""
    time, initial = program.times[:, 0], program.initial
    inputs = [program.rate(time, initial), initial, program.times]
    for event in program.events:
        inputs += [event.value(time, initial), event.after(time, initial)]
    return inputs


def _with_events(program: InitialValueProgram, solved: Solution) -> Solution:
    """The solution in which events that no sample met can be differentiated, too."""
    if all(one.times.requires_grad for one in solved.events):
        return solved
    inputs = _inputs(program)
    events = tuple(
        one
        if one.times.requires_grad
        else replace(
            one,
            times=with_zero_gradient(one.times, inputs),
            states=with_zero_gradient(one.states, inputs),
        )
        for one in solved.events
    )
    return replace(solved, events=events)


def _without(program: InitialValueProgram, ok: Tensor) -> InitialValueProgram:
    """The program in which the other samples rest where a good one begins."""
    initial, times = replace_failed((program.initial, program.times), ok)
    times = torch.where(ok.unsqueeze(1), times, times[:, :1].detach())
    return replace(program, initial=initial, times=times)
