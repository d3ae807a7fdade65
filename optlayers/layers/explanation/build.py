"""From a declared problem and its sizes to an explanation."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from optlayers.compile.geometric.compile import in_log_space
from optlayers.compile.lowered import LoweredProgram, lowered_program
from optlayers.compile.reasons import Part, reasons_of
from optlayers.compile.template import ConvexTemplate
from optlayers.errors import NotConvex
from optlayers.functional.options import SolveOptions
from optlayers.functional.plans import solver_choices
from optlayers.interfaces import Kind
from optlayers.layers.explanation.data import Explanation
from optlayers.layers.routes import Template, route_of
from optlayers.modeling.declaration import Declaration
from optlayers.modeling.goals import NOT_OPTIMIZED

if TYPE_CHECKING:
    from optlayers.layers.problem import Problem


def explain(
    problem: "Problem",
    sizes: Mapping[str, int],
    steps: int | None,
    options: SolveOptions,
) -> Explanation:
    """Why a problem is routed as it is at these sizes, convex or not.

    Args:
        problem: the declared problem.
        sizes: size of every named dimension.
        steps: number of steps, where there are stages.
        options: which solvers are asked.

    Raises:
        DeclarationError: a size is missing.
    """
    declaration = problem.declared.trace(sizes, steps)
    shown = dict(declaration.sizes)
    if declaration.steps is not None:
        shown = {"steps": declaration.steps, **shown}
    program, solvers = None, ()
    try:
        template = problem.template(sizes, steps, options.asked)
    except NotConvex as reason:
        kind, why = Kind.MINIMIZE, str(reason)
    else:
        kind, why = template.kind, template.why
        program = _lowered(template)
        route = route_of(template, declaration.name)
        solvers = solver_choices(route.empty_program(), options.solver)
    return Explanation(
        name=declaration.name,
        kind=kind,
        why=why,
        sizes=tuple(shown.items()),
        is_geometric=problem.declared.geometric,
        parts=_parts(declaration, problem.declared.geometric),
        program=program,
        solvers=solvers,
    )


def _lowered(template: Template) -> LoweredProgram | None:
    return lowered_program(template) if isinstance(template, ConvexTemplate) else None


def _parts(declaration: Declaration, is_geometric: bool) -> tuple[Part, ...]:
    if declaration.sense in NOT_OPTIMIZED:
        # Equations are evaluated as they stand: convexity is not asked of them.
        return ()
    if not is_geometric:
        return reasons_of(declaration)
    try:
        return reasons_of(in_log_space(declaration)[0])
    except NotConvex:
        # Where there are no logarithms, `why` says which expression has none.
        return ()
