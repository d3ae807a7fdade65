"""Names and places: which row belongs to which constraint, which column to what."""

from collections.abc import Mapping, Sequence

import cvxpy as cp
import numpy as np
import torch

from optlayers.compile.assembly import Assembly
from optlayers.compile.columns import ColumnLayout
from optlayers.compile.conic import Piece
from optlayers.compile.cvxpy_private import ConeForm
from optlayers.compile.readout import Readout, StageStructure
from optlayers.modeling.declaration import Declaration
from optlayers.modeling.fields import Role


class Names:
    """Names of rows and columns, and readouts of variables and multipliers."""

    def __init__(
        self,
        declaration: Declaration,
        problem: cp.Problem,
        owners: Sequence[int],
        own: Sequence[Sequence[Piece]],
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
        for one, pieces in zip(self.declaration.constraints, self.own, strict=True):
            first = [self.form.first_row[piece.constraint.id] for piece in pieces]
            rows = [p.rows + at for p, at in zip(pieces, first, strict=True)]
            scales = [piece.scale for piece in pieces]
            if len(pieces) > 1:
                rows, scales = [np.concatenate(part, -1) for part in (rows, scales)]
            else:
                rows, scales = rows[0], scales[0]
            found[one.name] = Readout.from_positions(rows, scales)
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
