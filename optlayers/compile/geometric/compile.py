"""From a declaration of positive variables to a convex template in their logarithms.

Source: Boyd, Kim, Vandenberghe, Hassibi, A tutorial on geometric programming (2007).
"""

from dataclasses import replace

from optlayers.compile.chains import with_balanced_sums
from optlayers.compile.convex import compile_convex
from optlayers.compile.geometric.recovery import GeometricRecovery
from optlayers.compile.geometric.relations import (
    LogConstraint,
    LogObjective,
    log_constraint,
    log_objective,
)
from optlayers.compile.geometric.translate import Translator
from optlayers.compile.template import ConvexTemplate
from optlayers.errors import NotConvex
from optlayers.modeling.declaration import Declaration
from optlayers.modeling.fields import Role


def compile_geometric(declaration: Declaration) -> ConvexTemplate:
    """Compile a geometric program of known sizes.

    Raises:
        NotConvex: it breaks the rules of disciplined geometric programming; the message
            names the first subexpression that does, where it was written, and what to
            do about it.
        NotSupported: it is one, but its parameters cannot be separated.
    """
    in_logs, objective, constraints = in_log_space(declaration)
    template = compile_convex(in_logs)
    return replace(
        template,
        recover=GeometricRecovery(declaration, in_logs, objective, constraints),
        why=f"a geometric program, convex in the logarithms: {template.why}",
    )


def in_log_space(
    declaration: Declaration,
) -> tuple[Declaration, LogObjective, dict[str, LogConstraint]]:
    """The declaration of the logarithms, and what became of objective and constraints.

    Raises:
        NotConvex: it is no geometric program.
    """
    _refuse_fields(declaration)
    balanced = with_balanced_sums(declaration)
    translate = Translator(balanced.fields)
    sense = "maximize" if balanced.sense == "maximize" else "minimize"
    objective = log_objective(translate, balanced.objective, sense)
    constraints = {
        one.name: log_constraint(translate, one) for one in balanced.constraints
    }
    in_logs = replace(
        declaration,
        sense=objective.sense,
        objective=objective.log,
        constraints=(
            *(o.constraint for o in constraints.values() if o.constraint is not None),
            *translate.auxiliaries.constraints,
        ),
        fields={**translate.fields, **translate.auxiliaries.fields},
    )
    return in_logs, objective, constraints


def _refuse_fields(declaration: Declaration) -> None:
    for name, field in declaration.fields.items():
        fault = None
        if field.role is Role.TIME:
            fault = "belongs to a differential equation"
        elif field.is_variable and field.psd:
            fault = "is semidefinite, which logarithms of entries do not preserve"
        elif field.is_variable and field.group is not None:
            fault = "is a pose, whose entries have signs of all kinds"
        elif field.is_variable and field.nonpos:
            fault = "is never positive; write the problem in its negative"
        if fault is not None:
            raise NotConvex(
                f"{declaration.name}: {name} = {field.text} {fault}, and the unknowns "
                "of a geometric program are positive numbers."
            )
