"""The four groups SO(2), SO(3), SE(2) and SE(3), one table of their closed forms.

T Exp(d) moves T by a tangent d of its own (body) frame; Log is the inverse of Exp.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from optlayers.geometry import motions, rotations, se2, se3, so2, so3
from optlayers.geometry.motions import homogeneous, parts

Map = Callable[[Tensor], Tensor]
# Entries of a given pose may be wrong by this much; rounding in float32 is 1e-7.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Group:
    """A group of rotations or rigid motions; every function takes [*batch, ...].

    Attributes:
        name: "SO2", "SO3", "SE2" or "SE3".
        space: number of coordinates of the points that it moves.
        degrees: of freedom, the length of a tangent.
        order: of its matrices.
        exp: tangent [*batch, degrees] -> matrix [*batch, order, order].
        log: the inverse, its rotation within half a turn.
        adjoint: matrix -> [*batch, degrees, degrees].
        inverse: of a matrix.
        act: matrix, points [*batch, space] -> points; the batches broadcast.
    """

    name: str
    space: int
    degrees: int
    order: int
    exp: Map
    log: Map
    adjoint: Map
    inverse: Map
    act: Callable[[Tensor, Tensor], Tensor]

    @property
    def moves(self) -> bool:
        """Whether its elements have a translation."""
        return self.order > self.space

    @property
    def turns(self) -> "Group":
        """The group of its rotations."""
        return SO2 if self.space == 2 else SO3

    def rotation(self, matrix: Tensor) -> Tensor:
        """The rotation of each element, [*batch, space, space]."""
        return matrix[..., : self.space, : self.space]

    def translation(self, matrix: Tensor) -> Tensor:
        """The translation of each rigid motion, [*batch, space]."""
        return matrix[..., : self.space, self.space]

    def gap(self, matrix: Tensor) -> Tensor:
        """The largest entry by which R'R differs from I, and the last row from 0 1.

        Args:
            matrix: [*batch, order, order].

        Returns:
            [*batch].
        """
        R = self.rotation(matrix)
        unit = torch.eye(self.order, dtype=R.dtype, device=R.device)
        gap = (R.mT @ R - self.rotation(unit)).abs().amax((-2, -1))
        if not self.moves:
            return gap
        return torch.maximum(gap, (matrix[..., -1, :] - unit[-1]).abs().amax(-1))

    def has(self, matrix: Tensor) -> Tensor:
        """Whether a finite matrix is an element up to `TOLERANCE`, bool [*batch]."""
        is_turn = torch.linalg.det(self.rotation(matrix)) > 0
        return (self.gap(matrix) <= TOLERANCE) & is_turn

    def fault(self, matrix: Tensor) -> str:
        """Why a finite matrix [order, order] is no element; empty if it is one."""
        if bool(self.has(matrix)):
            return ""
        R = self.rotation(matrix)
        size = float(self.gap(matrix))
        if size <= TOLERANCE:
            return "is a reflection, of determinant -1"
        if size > float(self.turns.gap(R)):
            return f"has the last row {matrix[-1].tolist()} instead of 0 ... 0 1"
        return f"has a rotation R whose R'R differs from I by {size:.2g}"

    def nearest(self, matrix: Tensor) -> Tensor:
        """An element [*batch, order, order] close to a matrix that nearly is one."""
        rotation = self.turns.exp(self.turns.log(self.rotation(matrix)))
        return homogeneous(rotation, parts(matrix)[1]) if self.moves else rotation

    def retract(self, base: Tensor, step: Tensor) -> Tensor:
        """The element at a step from a base: R Exp(w), and t + v where there is a t.

        Smooth in the step, with a regular derivative where |w| < 2 pi; at step 0 its
        rotation moves as R Exp(w) does.

        Args:
            base: [*batch, order, order].
            step: w, or (v, w) translation first, [*batch, degrees].
        """
        if not self.moves:
            return base @ self.exp(step)
        R, t = parts(base)
        v, w = step[..., : self.space], step[..., self.space :]
        return homogeneous(R @ self.turns.exp(w), t + v)

    def step(self, base: Tensor, matrix: Tensor) -> Tensor:
        """The step from a base to an element, its rotation within half a turn."""
        if not self.moves:
            return self.log(base.mT @ matrix)
        (R, t), (goal, end) = parts(base), parts(matrix)
        return torch.cat([end - t, self.turns.log(R.mT @ goal)], -1)

    def shortened(self, step: Tensor) -> Tensor:
        """The step to the same element, its rotation the shorter way round.

        Only where it is more than three quarters of a turn, so that one near half a
        turn is not thrown back and forth.
        """
        v, w = step.split((self.degrees - self.turns.degrees, self.turns.degrees), -1)
        angle = torch.linalg.vector_norm(w, dim=-1, keepdim=True)
        turns = (angle / (2 * math.pi)).round()
        shorter = w * (1 - 2 * math.pi * turns / angle.clamp_min(1.0))
        return torch.cat([v, torch.where(angle > 1.5 * math.pi, shorter, w)], -1)


_TURN = (rotations.inverse, rotations.act)
_MOVE = (motions.inverse, motions.act)
SO2 = Group("SO2", 2, 1, 2, so2.exp, so2.log, so2.adjoint, *_TURN)
SO3 = Group("SO3", 3, 3, 3, so3.exp, so3.log, so3.adjoint, *_TURN)
SE2 = Group("SE2", 2, 3, 3, se2.exp, se2.log, se2.adjoint, *_MOVE)
SE3 = Group("SE3", 3, 6, 4, se3.exp, se3.log, se3.adjoint, *_MOVE)
GROUPS = (SO2, SO3, SE2, SE3)
