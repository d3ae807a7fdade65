"""From a declaration of known sizes to a convex template, by way of cvxpy.

Declaration -> objective read off directly, rest and constraints lifted and lowered to
cvxpy -> conic data -> affine maps from the leaves.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import cvxpy as cp

from optlayers.compile.affine_form import AffineForms
from optlayers.compile.assembly import Assembly
from optlayers.compile.chains import with_balanced_sums
from optlayers.compile.checks import asserted_leaves, leaf_checks
from optlayers.compile.columns import ColumnLayout
from optlayers.compile.conic import Piece
from optlayers.compile.cvxpy_private import (
    CVXPY_LOCK,
    ConeForm,
    cone_form,
    is_dpp,
    problem_of,
)
from optlayers.compile.explain import (
    describe_pose,
    explain_not_convex,
    sentence_on_convexity,
)
from optlayers.compile.leaves import LeafEvaluation, LeafTable
from optlayers.compile.lifting import Lifter
from optlayers.compile.lowering import Lowering
from optlayers.compile.naming import Names, stage_structure
from optlayers.compile.objective import split_objective
from optlayers.compile.parametric import Parametrics
from optlayers.compile.quadratic import ObjectiveParts
from optlayers.compile.sharing import shared
from optlayers.compile.template import ConvexTemplate
from optlayers.errors import NotConvex, NotSupported
from optlayers.modeling.declaration import Declaration
from optlayers.modeling.expressions import Expression
from optlayers.modeling.fields import Role
from optlayers.programs.cones import Cones

__all__ = ["ConvexTemplate", "compile_convex", "explain_not_convex"]


def compile_convex(declaration: Declaration) -> ConvexTemplate:
    """Compile a declaration of known sizes.

    Raises:
        NotConvex: it is not convex by cvxpy's rules; the message names the first
            subexpression that is not, where it was written, and a rewrite if there is
            an obvious one.
        NotSupported: it is convex, but its parameters cannot be separated.
    """
    _refuse_fields(declaration)
    # One compilation at a time: cvxpy numbers its objects without a lock of its own.
    with CVXPY_LOCK:
        return _compile(with_balanced_sums(declaration))


def _compile(declaration: Declaration) -> ConvexTemplate:
    parametrics = Parametrics()
    layout = ColumnLayout(declaration.fields)
    is_maximized = declaration.sense == "maximize"
    forms = AffineForms(layout, parametrics)
    parts = split_objective(declaration.objective, is_maximized, forms)
    try:
        built = _build(declaration, parts, parametrics, is_isolated=False)
    except NotConvex as reason:
        raise NotConvex(explain_not_convex(declaration) or str(reason)) from None
    if not built.problem.is_dcp():
        raise NotConvex(explain_not_convex(declaration))
    if not is_dpp(built.problem):
        built = _build(declaration, parts, parametrics, is_isolated=True)
        if not is_dpp(built.problem):
            raise NotSupported(
                f"{declaration.name} is convex, but parameters stand inside a scaled "
                "function of another convex function, which this version cannot "
                "separate. Introduce a variable for the inner function."
            )
    form = cone_form(built.problem)
    return _template(declaration, layout, parts, parametrics, built, form)


@dataclass(frozen=True, eq=False)
class _Built:
    """A cvxpy problem and where its pieces came from.

    Attributes:
        problem: what cvxpy sees: the rest of the objective, and the constraints.
        lowering: the variables and parameters in it.
        leaves: what its parameters stand for.
        owners: for every constraint of `problem` the declared one it belongs to, by
            number; -1 for the objective.
        own: for every declared constraint what it became.
        lifted: the same as `owners` for auxiliary variables, by cvxpy's id.
    """

    problem: cp.Problem
    lowering: Lowering
    leaves: LeafTable
    owners: tuple[int, ...]
    own: tuple[tuple[Piece, ...], ...]
    lifted: Mapping[int, int]


def _build(
    declaration: Declaration,
    parts: ObjectiveParts,
    parametrics: Parametrics,
    is_isolated: bool,
) -> _Built:
    sides = [side for one in declaration.constraints for side in (one.left, one.right)]
    lifter = Lifter(parametrics, shared([*parts.rest, *sides]))
    leaves = LeafTable(parametrics)
    lowering = Lowering(leaves, parametrics)

    def prepared(e: Expression) -> Expression:
        e = lifter.prepare(e)
        return lifter.isolate(e) if is_isolated else e

    constraints: list[cp.Constraint] = []
    owners: list[int] = []

    def take_auxiliary(owner: int) -> None:
        for variable, equality in lowering.auxiliary[len(lifted) :]:
            lifted[variable.id] = owner
            constraints.append(equality)
            owners.append(owner)

    own: list[tuple[Piece, ...]] = []
    lifted: dict[int, int] = {}
    terms = [lowering.lower(prepared(one)) for one in parts.rest]
    take_auxiliary(-1)
    for number, one in enumerate(declaration.constraints):
        lowered = lowering.constraint(one, prepared(one.left), prepared(one.right))
        take_auxiliary(number)
        own.append(tuple(lowered))
        owners.extend(number for _ in lowered)
        constraints.extend(piece.constraint for piece in lowered)
    objective = sum(terms[1:], terms[0]) if terms else cp.Constant(0.0)
    problem = problem_of(cp.Minimize(objective), constraints)
    return _Built(problem, lowering, leaves, tuple(owners), tuple(own), lifted)


def _template(
    declaration: Declaration,
    layout: ColumnLayout,
    parts: ObjectiveParts,
    parametrics: Parametrics,
    built: _Built,
    form: ConeForm,
) -> ConvexTemplate:
    leaves = built.leaves
    for one in (*parts.P, *parts.q, *parts.d):
        if not parametrics.is_constant(one.value):
            leaves.position(one.value)
    asserted = asserted_leaves(leaves)
    assembly = Assembly(
        form, layout, built.lowering.variables, leaves, built.lowering.parameters,
        parametrics,
    )  # fmt: skip
    names = Names(declaration, built.problem, built.owners, built.own, form)
    shapes = {
        name: field.shape
        for name, field in declaration.fields.items()
        if not field.is_variable
    }
    P = assembly.quadratic(parts)
    cones = Cones(form.zero, form.nonneg, form.soc, form.psd, form.exp, form.power)
    return ConvexTemplate(
        leaves=tuple(leaves.leaves),
        P=P,
        q=assembly.linear(parts),
        A=assembly.constraints(),
        b=assembly.right_side(),
        offset=assembly.offset(parts),
        cones=cones,
        n=assembly.n,
        m=form.rows,
        variables=names.variables(layout, assembly.final),
        duals=names.duals(),
        row_names=names.rows(),
        column_names=names.columns(layout, assembly, built.lifted),
        maximize=declaration.sense == "maximize",
        leaf_checks=leaf_checks(declaration, asserted),
        stages=stage_structure(declaration, layout, assembly.final),
        why=sentence_on_convexity(declaration, cones, assembly.n, P is not None),
        parameter_shapes=shapes,
        evaluation=LeafEvaluation(leaves.leaves, shapes),
    )


def _refuse_fields(declaration: Declaration) -> None:
    for name, field in declaration.fields.items():
        if field.role is Role.TIME:
            raise NotConvex(
                f"{declaration.name}: {name} = {field.text} belongs to a differential "
                "equation, not to a convex program."
            )
        if field.is_variable and field.group is not None:
            raise NotConvex(describe_pose(field))
