"""A compiled convex problem: affine maps from leaves to cone programs, and back.

Everything that depends on sizes only is done; what is left per call is evaluating the
leaves and applying the maps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from optlayers.compile.leaves import Captured, Leaf, LeafEvaluation
from optlayers.compile.outcome import Given, Named, Recover, as_it_is
from optlayers.compile.readout import Readout, StageStructure
from optlayers.interfaces import Kind
from optlayers.linalg.affine_map import AffineMap
from optlayers.linalg.pattern import PatternMatrix
from optlayers.programs.cone_program import (
    ConeProgram,
    ConeProgramStructure,
    Positions,
)
from optlayers.programs.cones import Cones
from optlayers.solvers.checks import Check


@dataclass(frozen=True, eq=False)
class MatrixMap:
    """A matrix whose entries are affine in the leaves.

    Attributes:
        entries: map to the entries.
        rows, cols: where they are, int64 [nnz]; None if all entries are, row by row.
        shape: (m, n).
    """

    entries: AffineMap
    rows: Tensor | None
    cols: Tensor | None
    shape: tuple[int, int]

    def __call__(
        self, leaves: Sequence[Tensor], device: torch.device
    ) -> Tensor | PatternMatrix:
        """The matrix, with a batch axis if a leaf it depends on has one."""
        values = self.entries(leaves).to(device)
        if self.rows is None or self.cols is None:
            return values.reshape(*values.shape[:-1], *self.shape)
        return PatternMatrix(
            values, self.rows.to(device), self.cols.to(device), self.shape
        )

    @property
    def positions(self) -> Positions | None:
        """Where the entries are, as a program's structure says it."""
        if self.rows is None or self.cols is None:
            return None
        return Positions(self.rows, self.cols, self.shape)


@dataclass(frozen=True, eq=False)
class LeafCheck:
    """A promise about a parameter or an asserted leaf, checked before a solve.

    Attributes:
        check: what is promised.
        subject: name of the parameter, or number of the leaf, that it is about.
    """

    check: Check
    subject: str | int


def subjects(
    checks: Sequence[LeafCheck],
    parameters: Mapping[str, Tensor],
    leaves: Sequence[Tensor],
    shapes: Sequence[tuple[int, ...]],
) -> list[Tensor]:
    """The tensors that checks speak of, each [*shape] or [B, *shape].

    Args:
        checks: of parameters and of leaves.
        parameters: by name, each [*shape] or [B, *shape].
        leaves: values, flattened: [size] or [B, size].
        shapes: of one sample of each leaf.
    """
    found = []
    for one in checks:
        if isinstance(one.subject, str):
            found.append(parameters[one.subject])
            continue
        value = leaves[one.subject]
        found.append(value.reshape((*value.shape[:-1], *shapes[one.subject])))
    return found


@dataclass(frozen=True, eq=False)
class ConvexTemplate:
    """A declaration of known sizes, compiled.

    minimize x'Px/2 + q'x + offset subject to A x + s = b, s in K (of the negative
    objective if it is maximized); P, q, A, b and offset are affine in the leaves.

    Attributes:
        leaves: what the data are affine in.
        P: quadratic part, symmetric, both triangles; None if there is none.
        q, A, b, offset: the other data, [n], [m, n], [m], [1].
        cones: the cone K.
        n: number of variables, auxiliary ones included.
        m: number of rows.
        variables: how to read each declared variable off x.
        duals: how to read the multiplier of each constraint off y, in the constraint's
            shape; L = f + sum multiplier * (left - right), for `maximize` with f the
            negative objective.
        row_names: the constraint of each row; "objective" for auxiliary rows of it.
        column_names: the variable of each column; auxiliary ones name their origin.
        maximize: whether the objective was negated.
        leaf_checks: what must hold of the parameters before a solve.
        stages: which columns belong to which stage; None if nothing is staged.
        why: one sentence on why the declaration is convex.
        parameter_shapes: shape of one sample of each parameter.
        evaluation: evaluates the leaves.
        recover: from what the program is solved for, which `variables`, `duals` and
            `maximize` speak of, to what was declared.
    """

    leaves: tuple[Leaf, ...]
    P: MatrixMap | None
    q: AffineMap
    A: MatrixMap
    b: AffineMap
    offset: AffineMap
    cones: Cones
    n: int
    m: int
    variables: Mapping[str, Readout]
    duals: Mapping[str, Readout]
    row_names: tuple[str, ...]
    column_names: tuple[str, ...]
    maximize: bool
    leaf_checks: tuple[LeafCheck, ...]
    stages: StageStructure | None
    why: str
    parameter_shapes: Mapping[str, tuple[int, ...]]
    evaluation: LeafEvaluation
    recover: Recover = as_it_is
    kind: ClassVar[Kind] = Kind.CONVEX

    @property
    def structure(self) -> ConeProgramStructure:
        """The static part of the programs that `bind` makes."""
        return ConeProgramStructure(
            self.cones,
            self.P is not None,
            None if self.P is None else self.P.positions,
            self.A.positions,
        )

    @property
    def checks(self) -> tuple[Check, ...]:
        """What must hold of the tensors `checked` returns, in that order."""
        return tuple(one.check for one in self.leaf_checks)

    def checked(
        self, parameters: Mapping[str, Tensor], leaves: Sequence[Tensor]
    ) -> list[Tensor]:
        """The tensors that `checks` speak of, each [*shape] or [B, *shape].

        Args:
            parameters: by name, as given to `evaluate_leaves`.
            leaves: as `evaluate_leaves` returned them.
        """
        shapes = [leaf.shape for leaf in self.leaves]
        return subjects(self.leaf_checks, parameters, leaves, shapes)

    def evaluate_leaves(
        self, parameters: Mapping[str, Tensor], captured: Captured
    ) -> list[Tensor]:
        """Values of the leaves, float64, flattened in C order: [size] or [B, size].

        Args:
            parameters: by name, each [*shape] (shared) or [B, *shape].
            captured: parameters and modules met in the declaration, by name.
        """
        return self.evaluation(parameters, captured)

    def named(self, x: Tensor, y: Tensor, objective: Tensor, given: Given) -> Named:
        """The outputs of a solution by name, as they were declared.

        Args:
            x: solution, [B, n].
            y: dual, [B, m].
            objective: value of the program, [B].
            given: what the programs were made of.
        """
        found = Named(
            {name: read(x) for name, read in self.variables.items()},
            {name: read(y) for name, read in self.duals.items()},
            -objective if self.maximize else objective,
        )
        return self.recover(found, given)

    def bind(
        self, leaves: Sequence[Tensor], batch_size: int
    ) -> tuple[ConeProgram, Tensor]:
        """The cone programs of a batch, and the constant of each objective, [B].

        Args:
            leaves: float64, as `evaluate_leaves` returns them.
            batch_size: B; P and A have no batch axis if their leaves are shared.
        """
        device = leaves[0].device if leaves else torch.device("cpu")

        def rows(values: Tensor) -> Tensor:
            return values.to(device).expand(batch_size, values.shape[-1])

        program = ConeProgram(
            None if self.P is None else self.P(leaves, device),
            rows(self.q(leaves)),
            self.A(leaves, device),
            rows(self.b(leaves)),
            self.cones,
        )
        return program, rows(self.offset(leaves)).squeeze(1)
