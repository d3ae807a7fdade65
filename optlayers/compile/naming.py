"""Names and places: which row belongs to which constraint, which column to what."""

from collections.abc import Mapping, Sequence

import cvxpy as cp
import numpy as np
import torch

from optlayers.compile.assembly import Assembly
from optlayers.compile.columns import ColumnLayout
from optlayers.compile.cvxpy_private import ConeForm
from optlayers.compile.readout import Readout, StageStructure
from optlayers.errors import NotSupported
from optlayers.modeling.constraints import Constraint
from optlayers.modeling.declaration import Declaration
from optlayers.modeling.expressions import Expression
from optlayers.modeling.fields import Role
from optlayers.modeling.inference import describe

# The atoms that cvxpy writes with cones beyond zero, nonneg and soc.
_ATOMS_OF_CONE: Mapping[str, frozenset[str]] = {
    "exponential": frozenset(
        "exp log log1p logistic entr kl_div rel_entr log_sum_exp log_det".split()
    ),
    "positive semidefinite": frozenset(
        "lambda_max lambda_min lambda_sum_largest lambda_sum_smallest log_det tr_inv "
        "sigma_max normNuc norm matrix_frac".split()
    ),
    "power": frozenset("power pnorm norm geo_mean".split()),
}


class Names:
    """Names of rows and columns, and readouts of variables and multipliers."""

    def __init__(
        self,
        declaration: Declaration,
        problem: cp.Problem,
        owners: Sequence[int],
        own: Sequence[int],
        form: ConeForm,
    ) -> None:
        self.declaration = declaration
        self.problem = problem
        self.own = own
        self.form = form
        named = [one.name for one in declaration.constraints]
        # The last two are reached by -2, no owner, and -1, the objective.
        self._labels = [*(named[k] if k >= 0 else "objective" for k in owners)]
        self._labels += ["", "objective"]

    def variables(self, layout: ColumnLayout, final: np.ndarray) -> dict[str, Readout]:
        """How to read each variable off x."""
        return {
            name: Readout.from_positions(final[layout.columns(field)])
            for name, field in self.declaration.fields.items()
            if field.is_variable
        }

    def duals(self) -> dict[str, Readout]:
        """How to read each multiplier off y."""
        found = {}
        for one, number in zip(self.declaration.constraints, self.own, strict=True):
            lowered = self.problem.constraints[number]
            shape = constraint_shape(one)
            size = int(np.prod(shape, dtype=int))
            rows = np.arange(size).reshape(shape, order="F")
            found[one.name] = Readout.from_positions(
                rows + self.form.first_row[lowered.id]
            )
        return found

    def rows(self) -> tuple[str, ...]:
        """The constraint that each row came from."""
        return tuple(self._labels[owner] for owner in self.form.row_owners)

    def columns(
        self, layout: ColumnLayout, assembly: Assembly, lifted: Mapping[int, int]
    ) -> tuple[str, ...]:
        """The variable of each column; auxiliary ones name what they came from.

        Args:
            layout: where the declared variables stand.
            assembly: where they stand in the end.
            lifted: the declared constraint each auxiliary variable that is not cvxpy's
                was made for, by cvxpy's id; -1 for the objective.
        """
        found = [""] * assembly.n
        for column, owner in enumerate(self.form.column_owners):
            found[column] = f"auxiliary of {self._labels[owner]}"
        sizes = {one.id: one.size for one in self.problem.variables()}
        for identity, number in lifted.items():
            first = self.form.first_column[identity]
            owner = "objective"
            if number >= 0:
                owner = self.declaration.constraints[number].name
            label = f"auxiliary of {owner}"
            found[first : first + sizes[identity]] = [label] * sizes[identity]
        for name, first, size in layout.spans():
            for column in assembly.final[first : first + size]:
                found[column] = name
        return tuple(found)


def constraint_shape(one: Constraint) -> tuple[int, ...]:
    """Shape of a constraint's multiplier, the stage axis first."""
    return one.shape if one.stages is None else (len(one.stages), *one.shape)


def stage_structure(
    declaration: Declaration, layout: ColumnLayout, final: np.ndarray
) -> StageStructure | None:
    """Which columns belong to which stage; None if nothing is staged."""
    if declaration.steps is None:
        return None
    found: dict[Role, dict[str, torch.Tensor]] = {Role.STATE: {}, Role.CONTROL: {}}
    for name, field in declaration.fields.items():
        if field.role in found:
            columns = final[layout.columns(field)]
            columns = columns.reshape(len(columns), -1)
            found[field.role][name] = torch.from_numpy(columns)
    return StageStructure(declaration.steps, found[Role.STATE], found[Role.CONTROL])


def refuse_cones(
    form: ConeForm, declaration: Declaration, owners: Sequence[int]
) -> None:
    """Refuse a problem whose cones have no projection yet, naming what needs them."""
    kinds = {
        "positive semidefinite": sum(k * (k + 1) // 2 for k in form.psd),
        "exponential": 3 * form.exp,
        "power": 3 * len(form.power),
    }
    first = form.zero + form.nonneg + sum(form.soc)
    for kind, rows in kinds.items():
        if not rows:
            continue
        owner = form.row_owners[first]
        number = owners[owner] if owner >= 0 else -1
        raise NotSupported(
            f"{_culprit(declaration, number, kind)} needs the {kind} cone, which is "
            "not available in this version; zero, nonneg and soc are. Write it with "
            "affine, quadratic and norm expressions."
        )


def _culprit(declaration: Declaration, number: int, kind: str) -> str:
    if number < 0:
        roots, label = [declaration.objective], "the objective"
    else:
        one = declaration.constraints[number]
        roots, label = [one.left, one.right], f"constraint {one.name}"
    for root in roots:
        found = _first_atom(root, _ATOMS_OF_CONE[kind])
        if found is not None:
            return f"{found.origin.place}: `{describe(found)}` in {label}"
    return f"{declaration.name}: {label}"


def _first_atom(e: Expression, names: frozenset[str]) -> Expression | None:
    if e.name in names and e.depends_on_variables:
        return e
    for one in e.arguments:
        found = _first_atom(one, names)
        if found is not None:
            return found
    return None
