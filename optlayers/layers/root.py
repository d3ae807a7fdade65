"""The root route: parameters -> system of equations -> named outputs.

Bound to one template (one set of sizes); the plans of the solve, one per set of
options, are made at their first use and kept.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from optlayers.batching import align, restore
from optlayers.compile.checks import checked_ndims
from optlayers.compile.root import RootTemplate
from optlayers.errors import NotSupported
from optlayers.functional.differentiate_root import differentiable_root
from optlayers.functional.options import SolveOptions
from optlayers.functional.plans import accepted_solver
from optlayers.functional.root_choices import TOLERANCES
from optlayers.functional.root_gradients import check_solver
from optlayers.layers.given import home_of
from optlayers.layers.precision import possible_precisions, search_precision
from optlayers.layers.result import Result
from optlayers.layers.warm_start import first_points, take_starts, with_starts
from optlayers.programs.root import RootProgram
from optlayers.solvers.root.plan import RootPlan

Captured = Mapping[str, nn.Module | Tensor]


class RootRoute:
    """Solves one system of equations for any parameters.

    Attributes:
        template: the compiled declaration.
        subject: the name of the problem, for messages.
    """

    def __init__(self, template: RootTemplate, subject: str) -> None:
        self.template = template
        self.subject = subject
        self.ndims = checked_ndims(
            template.parameter_shapes, template.promises.leaf_checks
        )
        self._plans: dict[tuple[SolveOptions, torch.dtype], RootPlan] = {}

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
        reads = template.function.inputs
        given = with_starts(
            parameters, self.ndims, options.warm_start, template.unknowns
        )
        aligned, batch_shape = align(*given)
        starts = take_starts(aligned)
        modules = reads.modules(captured)
        tensors = reads.tensors(aligned, captured)
        like = home_of([*aligned.values(), *tensors], modules)
        dtype = search_precision(self.subject, reads.dtypes(modules))
        inputs = [one.to(dtype=dtype, device=like.device) for one in tensors]
        start = template.start.to(dtype=dtype, device=like.device)
        solved = differentiable_root(
            self._plan(options, dtype),
            inputs,
            modules,
            first_points(start, starts, template.unknowns, math.prod(batch_shape)),
            options,
            checked=template.promises.checked(aligned, captured),
            batch_shape=batch_shape,
            reads_closures=reads.reads_closures,
        )
        values = template.unknowns.split(solved.point.to(like.dtype))
        return Result(
            values={n: restore(one, batch_shape) for n, one in values.items()},
            dual={},
            objective=None,
            status=restore(solved.status, batch_shape),
            stats={n: restore(one, batch_shape) for n, one in solved.stats.items()},
        )

    def compiled(self, parameters: Mapping[str, Tensor], captured: Captured) -> None:
        """There are no cone programs of a system of equations.

        Raises:
            NotSupported: always.
        """
        raise NotSupported(
            f"{self.subject} is a system of equations, which is compiled to no cone "
            "program; call the layer, or compare with functional.root."
        )

    def prepare(self, options: SolveOptions) -> None:
        """Choose the solver ahead of the first call, which may be a traced one."""
        for dtype in possible_precisions(self.template.function.inputs):
            self._plan(options, dtype)

    def empty_program(self) -> RootProgram:
        """A program of the right structure; solvers are chosen by structure alone."""
        template = self.template
        return RootProgram(
            torch.zeros_like,
            1,
            template.unknowns.size,
            torch.zeros_like if template.is_fixed_point else None,
            template.lower,
            template.upper,
        )

    def _plan(self, options: SolveOptions, dtype: torch.dtype) -> RootPlan:
        # Plans outlive the call; and dynamo would hash the starts.
        options = options.cold
        plan = self._plans.get((options, dtype))
        if plan is None:
            plan = self._make_plan(options, dtype)
            plan = self._plans.setdefault((options, dtype), plan)
        return plan

    def _make_plan(self, options: SolveOptions, dtype: torch.dtype) -> RootPlan:
        template = self.template
        options.check_kind(template.kind)
        tolerance = options.tolerance or TOLERANCES[dtype]
        solver = accepted_solver(
            self.empty_program(), options.solver, tolerance=tolerance
        )
        check_solver(solver, options)
        return RootPlan(
            function=template.function,
            is_fixed_point=template.is_fixed_point,
            input_ndims=template.function.inputs.ndims,
            solver=solver,
            tolerance=tolerance,
            on_failure=options.on_failure,
            subject=self.subject,
            row_names=template.row_names,
            checks=template.promises.checks,
            lower=template.lower,
            upper=template.upper,
        )
