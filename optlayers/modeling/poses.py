"""Poses as they stand in a declaration: rotations and rigid motions, and their words.

The same words work on tensors, so that what a layer returns can be read with them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor

from optlayers.errors import DeclarationError, OptlayersError, ShapeError
from optlayers.geometry.groups import Group
from optlayers.geometry.motions import homogeneous
from optlayers.modeling.algebra import Algebra
from optlayers.modeling.constants import NoTerm
from optlayers.modeling.expressions import (
    Expression,
    as_expression,
    call_opaque,
    relate,
)
from optlayers.modeling.functions.calling import as_term, call
from optlayers.modeling.inference import located
from optlayers.modeling.options import is_unknown
from optlayers.modeling.tracing import is_running


@dataclass(frozen=True, eq=False, repr=False)
class Pose(NoTerm):
    """One or several elements of a group, in a declaration or as tensors.

    Tangents are those of the body frame: `T.between(U).log()` is the step d with
    T Exp(d) = U; of a rigid motion it is (translation, rotation).
    """

    group: Group
    _matrix: Any

    # numpy then leaves `array @ pose` to the pose.
    __array_ufunc__ = None
    __hash__ = object.__hash__

    # ---- what it is made of ------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """How many poses: [*poses], empty for one."""
        return tuple(self._matrix.shape[:-2])

    def matrix(self) -> Any:
        """The rotation matrix, or [R t; 0 1] of a rigid motion, [*poses, n, n]."""
        return self._matrix

    @property
    def rotation(self) -> Any:
        """The rotation matrix, [*poses, d, d]."""
        d = self.group.space
        return self._matrix[..., :d, :d] if self.group.moves else self._matrix

    @property
    def translation(self) -> Any:
        """The translation, [*poses, d].

        Raises:
            DeclarationError: it is a rotation, which has none.
        """
        d = self.group.space
        if not self.group.moves:
            raise _refusal(f"{self.group.name} has no translation; SE{d} has one.")
        return self._matrix[..., :d, d]

    def log(self) -> Any:
        """The tangent from the identity, rotation within half a turn, [*poses, dof].

        Angles in radians; of rigid motions the translational part comes first.
        Differentiable but at half a turn, where it jumps.
        """
        return _called(self.group.log, self._matrix)

    def adjoint(self) -> Any:
        """Ad with T Exp(d) = Exp(Ad d) T, [*poses, dof, dof]."""
        return _called(self.group.adjoint, self._matrix)

    # ---- what it does ------------------------------------------------------------

    def act(self, points: Any) -> Any:
        """Points turned and moved, as `T @ points`.

        Args:
            points: [*points, d]; leading axes broadcast against those of the poses, so
                that one pose moves many points and k poses k points.

        Raises:
            ShapeError: they are not points of this space.
        """
        d = self.group.space
        if isinstance(self._matrix, Tensor) and not isinstance(points, Algebra):
            points = torch.as_tensor(points).to(self._matrix)
        points = as_term(points)
        if tuple(points.shape[-1:]) != (d,):
            raise located(
                ShapeError(
                    f"{self.group.name} acts on points [..., {d}], given "
                    f"{list(points.shape)}."
                )
            )
        is_known = not _depends_on_variables(self._matrix)
        if is_known and _depends_on_variables(points):
            return self._act_affinely(points)
        return _called(self.group.act, self._matrix, points)

    def _act_affinely(self, points: Expression) -> Expression:
        """The same of a given pose, in atoms that are known to be affine."""
        if points.ndim == 1 and not self.shape:
            turned = self.rotation @ points
        else:
            turned = (self.rotation * points[..., None, :]).sum(axis=-1)
        return turned + self.translation if self.group.moves else turned

    def inverse(self) -> "Pose":
        """The pose that undoes this one."""
        return Pose(self.group, _called(self.group.inverse, self._matrix))

    def between(self, other: "Pose") -> "Pose":
        """The pose of another, seen from this one: `T.inverse() @ other`."""
        return self.inverse() @ other

    def __matmul__(self, other: Any) -> Any:
        if not isinstance(other, Pose):
            return self.act(other)
        self._check_same(other)
        return Pose(self.group, call("matmul", self._matrix, other._matrix))

    def __getitem__(self, index: Any) -> "Pose":
        entries = index if isinstance(index, tuple) else (index,)
        count = sum(one is not None for one in entries)
        if any(one is Ellipsis for one in entries) or count > len(self.shape):
            raise _refusal(
                f"this is {self.group.name} of shape {list(self.shape)}, and an index "
                "chooses among poses, not entries; for these write T.matrix()[...], "
                "T.rotation[...] or T.translation[...]."
            )
        return Pose(self.group, self._matrix[index])

    def __len__(self) -> int:
        if not self.shape:
            raise _refusal(f"this is one {self.group.name}, no list of them.")
        return self.shape[0]

    def __iter__(self) -> Iterator["Pose"]:
        return (self[position] for position in range(len(self)))

    # ---- relations ---------------------------------------------------------------

    def __eq__(self, other: object) -> Any:
        if not isinstance(other, Pose):
            return NotImplemented
        self._check_same(other)
        return relate("==", self.between(other).log(), 0.0)

    def __ne__(self, other: object) -> NoReturn:
        raise _refusal("poses cannot be told unequal; use T.between(U).log().")

    @property
    def remedy(self) -> str:
        """What to write in the place of the pose, where a term is meant."""
        return (
            f"{self.group.name} is no vector or matrix to calculate with; write "
            "T.log(), T.matrix(), T.rotation or, of rigid motions, T.translation."
        )

    def __rmatmul__(self, other: Any) -> NoReturn:
        raise _refusal(self.remedy)

    def __repr__(self) -> str:
        return f"{self.group.name}({self._matrix!r})"

    def _check_same(self, other: "Pose") -> None:
        if other.group != self.group:
            raise _refusal(
                f"{self.group.name} and {other.group.name} cannot be composed; a "
                "rotation R becomes a rigid motion by from_parts(R, t)."
            )


def pose_of(group: Group, matrix: Any) -> Pose:
    """A pose of its matrix.

    Args:
        group: that it belongs to.
        matrix: an expression or tensor, [*poses, order, order].

    Raises:
        ShapeError: another shape.
    """
    matrix, n = as_term(matrix), group.order
    if tuple(matrix.shape[-2:]) != (n, n):
        raise located(
            ShapeError(
                f"{group.name} is a matrix [..., {n}, {n}], given {list(matrix.shape)}."
            )
        )
    return Pose(group, matrix)


def pose_from(
    group: Group, function: Callable[..., Tensor], length: int, vector: Any
) -> Pose:
    """A pose made of vectors.

    Args:
        group: that it belongs to.
        function: [*poses, length] -> [*poses, order, order].
        length: of the vectors.
        vector: an expression or tensor, [*poses, length].

    Raises:
        ShapeError: another length.
    """
    vector = as_term(vector)
    if tuple(vector.shape[-1:]) != (length,):
        raise located(
            ShapeError(
                f"{group.name} is made of [..., {length}] here, given "
                f"{list(vector.shape)}."
            )
        )
    return Pose(group, _called(function, vector))


def pose_of_parts(group: Group, rotation: Any, translation: Any) -> Pose:
    """A rigid motion of a rotation and a translation.

    Args:
        group: that it belongs to.
        rotation: a pose of the smaller group, or [*poses, d, d].
        translation: [*poses, d].

    Raises:
        ShapeError: other shapes.
    """
    R = rotation.rotation if isinstance(rotation, Pose) else as_term(rotation)
    t, d = as_term(translation), group.space
    if tuple(R.shape[-2:]) != (d, d) or tuple(t.shape[-1:]) != (d,):
        raise located(
            ShapeError(
                f"{group.name} is made of a rotation [..., {d}, {d}] and a "
                f"translation [..., {d}], given {list(R.shape)} and {list(t.shape)}."
            )
        )
    return Pose(group, _called(homogeneous, R, t))


def _depends_on_variables(value: Any) -> bool:
    return isinstance(value, Expression) and value.depends_on_variables


def _called(function: Callable[..., Tensor], *values: Any) -> Any:
    """A node where something is not known yet, else the tensor."""
    is_open = any(isinstance(one, Algebra) for one in values)
    if is_open or (is_running() and is_unknown(values)):
        return call_opaque(function, tuple(map(as_expression, values)), {})
    return function(*values)


def _refusal(sentence: str) -> OptlayersError:
    return located(DeclarationError(sentence))
