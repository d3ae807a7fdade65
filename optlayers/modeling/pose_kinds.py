"""The words that declare poses: SO2, SO3, SE2 and SE3."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from optlayers.errors import DeclarationError
from optlayers.geometry import groups, quaternions
from optlayers.geometry.groups import Group
from optlayers.modeling.dimensions import Dimension, parse_dimensions
from optlayers.modeling.fields import Field, Role
from optlayers.modeling.origin import Origin
from optlayers.modeling.poses import Pose, pose_from, pose_of, pose_of_parts


@dataclass(frozen=True)
class PoseKind:
    """Declares poses of one group, and makes them of vectors and matrices."""

    group: Group

    @property
    def __name__(self) -> str:
        return self.group.name

    # Any, as of the other fields: in the body the argument stands for a pose.
    def __call__(
        self, dims: Any = (), *, start: Any = None, doc: str = "", **others: Any
    ) -> Any:
        """Declare poses that the solver chooses; a layer returns their matrices.

        Args:
            dims: how many, as in "k" or "k m"; none for one.
            start: where the search begins, a matrix or one for each,
                [*poses, order, order]; the identity if none is given.
            doc: one sentence on what it is.
            **others: refused, with what to write instead.

        Raises:
            DeclarationError: dimensions that make no sense, a start that is no pose, or
                a word that poses do not take.
        """
        return self._field(Role.VARIABLE, dims, others, start=start, doc=doc)

    def parameter(self, dims: Any = (), *, doc: str = "", **others: Any) -> Any:
        """Declare poses that every call gives, as matrices that are checked.

        Args:
            dims: how many, as in "k" or "k m"; none for one. A call may put any batch
                dimensions before them.
            doc: one sentence on what it is.
            **others: refused, with what to write instead.

        Raises:
            DeclarationError: dimensions that make no sense, or a word that poses do not
                take.
        """
        return self._field(Role.PARAMETER, dims, others, doc=doc)

    # ---- made of other things ----------------------------------------------------

    def exp(self, tangent: Any) -> Pose:
        """The pose that a tangent leads to from the identity; the inverse of `log`.

        Args:
            tangent: [*poses, dof]: the angle of SO2, (x, y, angle) of SE2, the rotation
                vector of SO3, (translation, rotation vector) of SE3.

        Raises:
            ShapeError: another length.
        """
        return pose_from(self.group, self.group.exp, self.group.degrees, tangent)

    def from_matrix(self, matrix: Any) -> Pose:
        """The pose of a matrix, which is taken as it is.

        Args:
            matrix: a rotation, or [R t; 0 1], [*poses, order, order].

        Raises:
            ShapeError: another shape.
        """
        return pose_of(self.group, matrix)

    def from_quaternion(self, quaternion: Any) -> Pose:
        """The rotation of a quaternion (w, x, y, z), of any length, [*poses, 4].

        Raises:
            ShapeError: another shape.
            DeclarationError: not a rotation of space.
        """
        if self.group is not groups.SO3:
            raise DeclarationError("only SO3 is made of quaternions.")
        return pose_from(self.group, quaternions.matrix_of, 4, quaternion)

    def from_parts(self, rotation: Any, translation: Any) -> Pose:
        """The rigid motion p -> R p + t.

        Args:
            rotation: R, a pose of rotations or a matrix, [*poses, d, d].
            translation: t, [*poses, d].

        Raises:
            ShapeError: another shape.
            DeclarationError: a group of rotations, which have no translation.
        """
        if not self.group.moves:
            raise DeclarationError(f"{self.group.name} has no translation.")
        return pose_of_parts(self.group, rotation, translation)

    def __repr__(self) -> str:
        return f"ol.{self.group.name}"

    # ---- the field ---------------------------------------------------------------

    def _field(
        self,
        role: Role,
        dims: Any,
        others: Mapping[str, Any],
        *,
        doc: str,
        start: Any = None,
    ) -> Field:
        origin, group = Origin.here(), self.group
        try:
            if others:
                raise DeclarationError(self._unknown(role, next(iter(others))))
            leading = parse_dimensions(dims)
            first = None if start is None else self._start(start)
        except DeclarationError as reason:
            raise DeclarationError(f"{origin.place}: {group.name}: {reason}") from None
        axes = (*leading, *[Dimension(None, group.order)] * 2)
        return Field(role, axes, start=first, doc=doc, origin=origin, group=group)

    def _start(self, start: Any) -> Tensor:
        """The given matrices, made exact, float64 [*poses, order, order]."""
        given = start.matrix() if isinstance(start, Pose) else start
        try:
            matrix = torch.as_tensor(given, dtype=torch.float64).detach().cpu()
        except (TypeError, ValueError, RuntimeError):
            raise DeclarationError(f"start={start!r} is no matrix or pose.") from None
        n = self.group.order
        if tuple(matrix.shape[-2:]) != (n, n) or not bool(matrix.isfinite().all()):
            raise DeclarationError(
                f"start is finite and [..., {n}, {n}], given {list(matrix.shape)}."
            )
        for one in matrix.reshape(-1, n, n):
            fault = self.group.fault(one)
            if fault:
                raise DeclarationError(f"start {fault}.")
        return self.group.nearest(matrix)

    def _unknown(self, role: Role, word: str) -> str:
        known = "start and doc" if role is Role.VARIABLE else "doc"
        if word in ("lower", "upper", "nonneg", "nonpos"):
            return (
                f"{word}= is no word of poses; bound what is read of them in the body, "
                "as in T.translation[2] >= 0."
            )
        return f"{word}= is no word of poses, which take {known}."


SO2 = PoseKind(groups.SO2)
SO3 = PoseKind(groups.SO3)
SE2 = PoseKind(groups.SE2)
SE3 = PoseKind(groups.SE3)
