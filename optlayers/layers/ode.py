"""The route of differential equations: parameters -> initial values -> named paths.

Bound to one template (one set of sizes); the solver is made once for each tolerance.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from optlayers.batching import align, restore
from optlayers.compile.checks import checked_ndims
from optlayers.compile.ode import OdeTemplate
from optlayers.errors import NotSupported, ShapeError, TransformError
from optlayers.functional.differentiate_ode import differentiable_integral
from optlayers.functional.initial_value import TOLERANCES, values_asked
from optlayers.functional.observe import observed, with_kept_steps
from optlayers.functional.options import SolveOptions
from optlayers.functional.plans import accepted_solver
from optlayers.implicit.failed import replace_failed
from optlayers.implicit.transforms import hides_values
from optlayers.layers.dtypes import explained_dtypes
from optlayers.layers.trajectory import Happenings, Trajectory
from optlayers.layers.versions import Versions
from optlayers.programs.initial_value import InitialValueProgram
from optlayers.solution import EventLog, Solution
from optlayers.solvers.checks import first_faults
from optlayers.solvers.failure import Fault
from optlayers.solvers.ode.failure import raise_failed

Captured = Mapping[str, nn.Module | Tensor]


class OdeRoute:
    """Integrates one differential equation for any parameters.

    Attributes:
        template: the compiled declaration.
        subject: the name of the problem, for messages.
    """

    def __init__(self, template: OdeTemplate, subject: str) -> None:
        self.template = template
        self.subject = subject
        shapes = {name: (1,) * n for name, n in template.parameter_ndims.items()}
        self.ndims = checked_ndims(shapes, template.promises.leaf_checks)
        self._solvers: dict[tuple[object, float], Any] = {}

    def __call__(
        self,
        parameters: Mapping[str, Tensor],
        captured: Captured,
        options: SolveOptions,
    ) -> Trajectory:
        """Integrate one batch.

        Args:
            parameters: by name, in declared order, each [*batch, *shape]; save times
                [*batch, T], controls [*batch, T - 1, *shape].
            captured: parameters and modules met in the declaration, by name.
            options: how to integrate and differentiate.

        Raises:
            ParameterError: a gradient of another kind.
            ShapeError: no times, or a control that has not one value for each
                interval.
            InvalidDataError, SolveError: samples failed, `on_failure="raise"`.
            TransformError: called inside `torch.func` or `torch.compile`.
        """
        if hides_values():
            raise TransformError(
                f"{self.subject} was called inside torch.func or torch.compile, which "
                "cannot follow a choice of steps. Call it outside; give vmap's axis as "
                "one more batch axis of the parameters."
            )
        template = self.template
        options.check_kind(template.kind)
        self._check_intervals(parameters)
        aligned, batch_shape = align(parameters, self.ndims)
        batch = math.prod(batch_shape)
        broken, faults = self._broken(aligned, captured, batch)
        given = self._without(aligned, broken == 0) if faults else aligned
        times = given[template.time]
        if times.ndim == 1:
            times = times.expand(batch, -1)
        with explained_dtypes(self.subject, _modules(captured), times.dtype):
            program, told = template.posed(given, captured, times)
            solver = self._solver(options, program.initial.dtype)
            solved = told(differentiable_integral(program, solver, options))
        if faults:
            known = broken.to(solved.status)
            status = torch.where(known == 0, solved.status, known)
            solved = replace(solved, status=status)
        if options.on_failure == "raise":
            names = [one.name for one in template.events]
            raise_failed(self.subject, program, solved, batch_shape, faults, names)

        def again() -> tuple[InitialValueProgram, Solution]:
            # The program anew, for a graph that no other result shares.
            same, told = template.posed(given, captured, times)
            watched = observed(solver, None, dense=True)
            steps = with_kept_steps(options)
            return same, told(differentiable_integral(same, watched, steps))

        versions = Versions(self.subject, parameters, captured)
        within = self._within(again, versions, options, batch_shape, solved)
        return self._result(solved, solved.value, batch_shape, within)

    def compiled(self, parameters: Mapping[str, Tensor], captured: Captured) -> None:
        """There are no cone programs of a differential equation.

        Raises:
            NotSupported: always.
        """
        raise NotSupported(
            f"{self.subject} is a differential equation, which is compiled to no cone "
            "program; call the layer, or compare with functional.integrate."
        )

    def prepare(self, options: SolveOptions) -> None:
        """Make the solver ahead of the first call."""
        options.check_kind(self.template.kind)
        self._solver(options, torch.float64)

    def empty_program(self) -> InitialValueProgram:
        """A program of the right structure; solvers are chosen by structure alone."""
        size = self.template.states.size
        zero = torch.zeros(1, size, dtype=torch.float64)
        return InitialValueProgram(
            lambda time, state: torch.zeros_like(state), zero, zero.new_zeros(1, 1)
        )

    def _solver(self, options: SolveOptions, dtype: torch.dtype) -> Any:
        tolerance = options.tolerance or TOLERANCES[dtype]
        key = (options.solver, tolerance)
        if key not in self._solvers:
            self._solvers[key] = accepted_solver(
                self.empty_program(), options.solver, rtol=tolerance
            )
        return self._solvers[key]

    def _broken(
        self, aligned: Mapping[str, Tensor], captured: Captured, batch: int
    ) -> tuple[Tensor, dict[int, Fault]]:
        """A status of each sample, int8 [B], and what is wrong with the broken ones."""
        promises = self.template.promises
        watched = promises.checked(aligned, captured)
        values = [one.detach().cpu().numpy() for one in watched]
        found = first_faults(promises.checks, values, batch)
        if found is None:
            return torch.zeros(batch, dtype=torch.int8), {}
        status, culprit = map(torch.from_numpy, found)
        checks = promises.checks
        faults: dict[int, Fault] = {}
        for i in (culprit >= 0).nonzero()[:, 0].tolist():
            k = int(culprit[i])
            faults[i] = partial(checks[k].describe, values[k])
        return status, faults

    def _check_intervals(self, parameters: Mapping[str, Tensor]) -> None:
        """Refuse no times, and controls that have not one value for each interval."""
        times = parameters[self.template.time]
        count = times.shape[-1:]
        if count and not count[0]:
            raise ShapeError(
                f"{self.subject}: {self.template.time} {list(times.shape)} has no "
                "times; give the initial time and those at which states are wanted."
            )
        for name in self.template.controls:
            value = parameters[name]
            axis = value.ndim - self.ndims[name]
            given = value.shape[axis] if axis >= 0 else "no axis of"
            if count and given != count[0] - 1:
                raise ShapeError(
                    f"{self.subject}: {name} {list(value.shape)} has "
                    f"{given} values for {count[0]} save times; give one for each "
                    f"interval between them, {count[0] - 1}, on the axis before its "
                    "own."
                )

    def _without(self, aligned: Mapping[str, Tensor], ok: Tensor) -> dict[str, Tensor]:
        """Parameters in which broken samples stand for a good one, without times."""
        rows = [
            one if one.ndim > self.ndims[name] else one.expand(len(ok), *one.shape)
            for name, one in aligned.items()
        ]
        kept = ok.to(rows[0].device)
        given = dict(zip(aligned, replace_failed(rows, kept), strict=True))
        times = given[self.template.time]
        # A sample without times is not integrated.
        given[self.template.time] = times.masked_fill(~kept.unsqueeze(1), torch.nan)
        return given

    def _within(
        self,
        integral: Callable[[], tuple[InitialValueProgram, Solution]],
        versions: Versions,
        options: SolveOptions,
        batch_shape: Sequence[int],
        solved: Solution,
    ) -> Callable[[Any], Trajectory]:
        """What gives the states at other times.

        Args:
            integral: integrates again, with the steps kept.
            versions: of all that it depends on.
            options: of the call.
            batch_shape: the batch axes of the call.
            solved: what the call has found.
        """
        # By grad mode. What has a graph is not kept: going back frees it.
        kept: dict[bool, tuple[InitialValueProgram, Solution]] = {}

        def within(times: Any) -> Trajectory:
            mode = torch.is_grad_enabled()
            found = kept.get(mode)
            if found is None:
                versions.check()
                found = integral()
                # A field may count its calls in buffers of its own.
                versions.remember()
            program, dense = found
            if not (dense.value.requires_grad or torch.is_inference_mode_enabled()):
                kept[mode] = found
            value = values_asked(program, dense, options, batch_shape, times)
            return self._result(solved, value, batch_shape, within)

        return within

    def _result(
        self,
        solved: Solution,
        value: Tensor,
        batch_shape: Sequence[int],
        within: Callable[[Any], Trajectory],
    ) -> Trajectory:
        batch = torch.Size(batch_shape)
        named = self.template.states.split(value)
        logs = zip(self.template.events, solved.events, strict=True)
        return Trajectory(
            {n: restore(one, batch) for n, one in named.items()},
            {one.name: self._happenings(log, batch) for one, log in logs},
            restore(solved.status, batch),
            {n: restore(one, batch) for n, one in solved.stats.items()},
            within,
        )

    def _happenings(self, log: EventLog, batch: torch.Size) -> Happenings:
        named = self.template.states.split(log.states)
        states = {n: restore(value, batch) for n, value in named.items()}
        return Happenings(restore(log.times, batch), states)


def _modules(captured: Captured) -> Iterator[tuple[str, nn.Module]]:
    return ((name, one) for name, one in captured.items() if isinstance(one, nn.Module))
