"""The convex route: parameters -> leaves -> cone program -> named outputs.

Bound to one template (one set of sizes); the plans of the solve, one per set of
options, are made at their first use and kept.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from optlayers.batching import align, restore
from optlayers.compile.checks import checked_ndims
from optlayers.compile.convex import ConvexTemplate
from optlayers.compile.outcome import Given, Named
from optlayers.functional.differentiate import Built, Solved, differentiable_solve
from optlayers.functional.options import SolveOptions
from optlayers.functional.plans import make_plan
from optlayers.layers.result import Result
from optlayers.programs.cone_program import ConeProgram
from optlayers.solvers.plan import Plan


class Compiled(NamedTuple):
    """Cone programs and the template that reads named outputs off their solutions.

    Attributes:
        program: one sample per element of the batch.
        template: the compiled declaration.
        batch_shape: the call's leading dimensions, whose product is B.
        given: what the programs were made of.
        offset: the constant of each objective, [B].
    """

    program: ConeProgram
    template: ConvexTemplate
    batch_shape: torch.Size
    given: Given
    offset: Tensor

    def named(self, x: Tensor, y: Tensor) -> Named:
        """The outputs of a solution by name, each [B, ...].

        Args:
            x: solution of the programs, [B, n].
            y: their dual, [B, m].
        """
        objective = self.program.objective(x) + self.offset
        return self.template.named(x, y, objective, self.given)


class ConvexRoute:
    """Solves one template for any parameters.

    Attributes:
        template: the compiled declaration.
        subject: the name of the problem, for messages.
    """

    def __init__(self, template: ConvexTemplate, subject: str) -> None:
        self.template = template
        self.subject = subject
        self.ndims = checked_ndims(template.parameter_shapes, template.leaf_checks)
        self._plans: dict[SolveOptions, Plan] = {}

    def __call__(
        self,
        parameters: Mapping[str, Tensor],
        captured: Mapping[str, nn.Module | Tensor],
        options: SolveOptions,
    ) -> Result:
        """Solve one batch.

        Args:
            parameters: by name, in declared order, each [*batch, *shape].
            captured: parameters and modules met in the declaration, by name.
            options: how to solve and differentiate.
        """
        template = self.template
        dtype = next((one.dtype for one in parameters.values()), torch.float64)
        aligned, batch_shape = align(parameters, self.ndims)
        names = tuple(aligned)

        def leaves_of(inputs: Sequence[Tensor]) -> list[Tensor]:
            values = dict(zip(names, inputs, strict=True))
            return template.evaluate_leaves(values, captured)

        def build(inputs: Sequence[Tensor], batch: int) -> Built:
            return Built(*template.bind(leaves_of(inputs), batch))

        inputs = list(aligned.values())
        leaves = leaves_of(inputs)
        solved = differentiable_solve(
            Built(*template.bind(leaves, math.prod(batch_shape))),
            build,
            inputs,
            [self.ndims[name] for name in names],
            self._plan(options),
            options,
            checked=template.checked(aligned, leaves),
            batch_shape=batch_shape,
        )
        # With on_failure="raise" there are no failed samples by now.
        ok = None if options.on_failure == "raise" else solved.ok
        given = Given(aligned, captured, ok)
        return self._name(solved, given, batch_shape, dtype)

    def compiled(
        self,
        parameters: Mapping[str, Tensor],
        captured: Mapping[str, nn.Module | Tensor],
    ) -> Compiled:
        """The cone programs of one batch, differentiable in the parameters."""
        aligned, batch_shape = align(parameters, self.ndims)
        leaves = self.template.evaluate_leaves(aligned, captured)
        program, offset = self.template.bind(leaves, math.prod(batch_shape))
        given = Given(aligned, captured)
        return Compiled(program, self.template, batch_shape, given, offset)

    def prepare(self, options: SolveOptions) -> None:
        """Choose solvers ahead of the first call, which may be a traced one."""
        self._plan(options)

    def _plan(self, options: SolveOptions) -> Plan:
        plan = self._plans.get(options)
        if plan is None:
            template = self.template
            plan = make_plan(
                self.empty_program(),
                options,
                subject=self.subject,
                row_names=template.row_names,
                column_names=template.column_names,
                checks=template.checks,
            )
            plan = self._plans.setdefault(options, plan)
        return plan

    def empty_program(self) -> ConeProgram:
        """A program of the right structure; solvers are chosen by structure alone."""
        leaves = [
            torch.zeros(leaf.size, dtype=torch.float64) for leaf in self.template.leaves
        ]
        return self.template.bind(leaves, 1)[0]

    def _name(
        self,
        solved: Solved,
        given: Given,
        batch_shape: torch.Size,
        dtype: torch.dtype,
    ) -> Result:
        """Named outputs with the call's batch dimensions and dtype."""
        named = self.template.named(solved.x, solved.y, solved.objective, given)

        def back(value: Tensor) -> Tensor:
            return restore(value.to(dtype), batch_shape)

        return Result(
            values={name: back(one) for name, one in named.values.items()},
            dual={name: back(one) for name, one in named.dual.items()},
            objective=back(named.objective),
            status=restore(solved.status, batch_shape),
            stats={n: restore(one, batch_shape) for n, one in solved.stats.items()},
        )
