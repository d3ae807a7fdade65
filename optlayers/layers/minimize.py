"""The minimize route: parameters -> smooth problem -> named outputs.

Bound to one template (one set of sizes); the plans of the solve, one per set of
options, are made at their first use and kept.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from optlayers.batching import align, restore
from optlayers.compile.checks import checked_ndims
from optlayers.compile.minimize import MinimizeTemplate
from optlayers.compile.multipliers import Found
from optlayers.errors import NotSupported
from optlayers.functional.differentiate_minimize import (
    SolvedMinimum,
    differentiable_minimum,
)
from optlayers.functional.minimize_choices import TOLERANCES
from optlayers.functional.options import SolveOptions
from optlayers.functional.plans import accepted_solver
from optlayers.layers.given import home_of
from optlayers.layers.precision import possible_precisions, search_precision
from optlayers.layers.result import Result
from optlayers.layers.starts import each_start, search_points
from optlayers.layers.warm_start import first_points, take_starts, with_starts
from optlayers.programs.minimize import BatchFunction, MinimizeProgram
from optlayers.solvers.minimize.plan import MinimizePlan
from optlayers.solvers.minimize.short_turns import ShortTurns

Captured = Mapping[str, nn.Module | Tensor]


class MinimizeRoute:
    """Solves one smooth problem for any parameters.

    Attributes:
        template: the compiled declaration.
        subject: the name of the problem, for messages.
    """

    def __init__(self, template: MinimizeTemplate, subject: str) -> None:
        self.template = template
        self.subject = subject
        self.ndims = checked_ndims(
            template.parameter_shapes, template.promises.leaf_checks
        )
        self._plans: dict[tuple[SolveOptions, torch.dtype], MinimizePlan] = {}

    def __call__(
        self,
        parameters: Mapping[str, Tensor],
        captured: Captured,
        options: SolveOptions,
    ) -> Result:
        """Solve one batch.

        Args:
            parameters: by name, in declared order, each [*batch, *shape].
            captured: parameters and modules met in the declaration, by name.
            options: how to solve and differentiate.
        """
        template = self.template
        reads = template.inputs
        given = with_starts(
            parameters, self.ndims, options.warm_start, template.unknowns
        )
        aligned, batch_shape = align(*given)
        starts = take_starts(aligned)
        modules = reads.modules(captured)
        tensors = reads.tensors(aligned, captured)
        like = home_of([*aligned.values(), *tensors], modules)
        dtype = search_precision(self.subject, reads.dtypes(modules))
        start = template.box.start.to(dtype=dtype, device=like.device)
        start = first_points(start, starts, template.unknowns, math.prod(batch_shape))
        points = search_points(start, options.starts, template.unknowns, template.box)
        plan = self._plan(options, dtype)
        inputs = [one.to(dtype=dtype, device=like.device) for one in tensors]
        checked = template.promises.checked(aligned, captured)
        if options.all_starts:
            batch_shape = torch.Size((*batch_shape, points.shape[1]))
            inputs, checked, points = each_start(plan, inputs, checked, points)
        solved = differentiable_minimum(
            plan,
            inputs,
            modules,
            points,
            options,
            checked=checked,
            batch_shape=batch_shape,
            reads_closures=reads.reads_closures,
        )
        return self._named(solved, batch_shape, like.dtype)

    def compiled(self, parameters: Mapping[str, Tensor], captured: Captured) -> None:
        """There are no cone programs of a problem that is not solved as a convex one.

        Raises:
            NotSupported: always.
        """
        raise NotSupported(
            f"{self.subject} is solved as one that is not convex, so it is compiled to "
            "no cone program; call the layer, or compare with functional.minimize."
        )

    def prepare(self, options: SolveOptions) -> None:
        """Choose the solver ahead of the first call."""
        for dtype in possible_precisions(self.template.inputs):
            self._plan(options, dtype)

    def empty_program(self) -> MinimizeProgram:
        """A program of the right structure; solvers are chosen by structure alone."""
        template = self.template
        equal, unequal = len(template.equality_names), len(template.inequality_names)
        return MinimizeProgram(
            _columns(None),
            1,
            template.unknowns.size,
            _columns(equal) if equal else None,
            _columns(unequal) if unequal else None,
            equal,
            unequal,
            template.box.lower,
            template.box.upper,
            None if template.residuals is None else torch.zeros_like,
        )

    def _plan(self, options: SolveOptions, dtype: torch.dtype) -> MinimizePlan:
        # Plans outlive the call; and dynamo would hash the starts.
        options = options.cold
        plan = self._plans.get((options, dtype))
        if plan is None:
            plan = self._make_plan(options, dtype)
            plan = self._plans.setdefault((options, dtype), plan)
        return plan

    def _make_plan(self, options: SolveOptions, dtype: torch.dtype) -> MinimizePlan:
        template = self.template
        options.check_kind(template.kind)
        tolerance = options.tolerance or TOLERANCES[dtype]
        solver = accepted_solver(
            self.empty_program(), options.solver, tolerance=tolerance
        )
        if template.unknowns.charts:
            solver = ShortTurns(solver, template.unknowns.shortened, tolerance)
        return MinimizePlan(
            objective=template.objective,
            maximize=template.maximize,
            equalities=template.equalities,
            inequalities=template.inequalities,
            residuals=template.residuals,
            loss=template.loss,
            pattern=template.pattern,
            separable=template.separable,
            input_ndims=template.inputs.ndims,
            column_names=template.column_names,
            equality_names=template.equality_names,
            inequality_names=template.inequality_names,
            bound_names=template.bound_names,
            lower=template.box.lower,
            upper=template.box.upper,
            solver=solver,
            tolerance=tolerance,
            on_failure=options.on_failure,
            subject=self.subject,
            checks=template.promises.checks,
            auxiliary_starts=template.auxiliary_starts,
            auxiliary_count=template.auxiliary_count,
        )

    def _named(
        self, solved: SolvedMinimum, batch_shape: tuple[int, ...], dtype: torch.dtype
    ) -> Result:
        template = self.template
        found = Found(solved.equalities.to(dtype), solved.rows.to(dtype))
        values = template.unknowns.split(solved.x.to(dtype))
        values = {n: v for n, v in values.items() if n not in template.auxiliary_names}
        dual = {name: read(found) for name, read in template.duals.items()}
        return Result(
            values={n: restore(one, batch_shape) for n, one in values.items()},
            dual={n: restore(one, batch_shape) for n, one in dual.items()},
            objective=restore(solved.objective.to(dtype), batch_shape),
            status=restore(solved.status, batch_shape),
            stats={n: restore(one, batch_shape) for n, one in solved.stats.items()},
        )


def _columns(count: int | None) -> BatchFunction:
    """Zeros, as many columns for each sample; one number without an axis if None."""

    def zeros(x: Tensor) -> Tensor:
        return x.new_zeros(len(x)) if count is None else x.new_zeros(len(x), count)

    return zeros
