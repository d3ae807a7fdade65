"""Unknowns of any form as one matrix [B, n], and back.

A tensor [*batch, n] has its last axis as unknowns; of a pytree of several tensors,
[B, *shape] each, the first axis is the batch and all the rest are unknowns.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree

from optlayers.errors import ParameterError, ShapeError

_LEAF = _pytree.tree_structure(0.0)


@dataclass(frozen=True)
class Unknowns:
    """How the user's unknowns lie in a row.

    Attributes:
        shapes: of every tensor, leading axes included.
        structure: of the pytree.
        batch_shape: the leading axes.
    """

    shapes: tuple[tuple[int, ...], ...]
    structure: Any
    batch_shape: tuple[int, ...]

    @classmethod
    def of(cls, start: Any) -> "Unknowns":
        """Read off the form of a start.

        Raises:
            ParameterError: a leaf is no floating tensor, or dtypes or devices differ.
            ShapeError: no axis for the unknowns, or batch sizes differ.
        """
        leaves, structure = _pytree.tree_flatten(start)
        _check_leaves(leaves)
        shapes = tuple(tuple(leaf.shape) for leaf in leaves)
        if isinstance(start, Tensor):
            if not shapes[0]:
                raise ShapeError(
                    "start has no axis; unknowns are [*batch, n], so that one unknown "
                    "is [1]. Write start.unsqueeze(-1)."
                )
            return cls(shapes, structure, shapes[0][:-1])
        if any(not shape for shape in shapes) or len({s[0] for s in shapes}) != 1:
            raise ShapeError(
                f"start has tensors of shapes {[list(s) for s in shapes]}; of a pytree "
                "each must be [B, ...] with one B."
            )
        return cls(shapes, structure, shapes[0][:1])

    @property
    def batch_size(self) -> int:
        """B, the number of samples."""
        return math.prod(self.batch_shape)

    @property
    def size(self) -> int:
        """n, the number of unknowns of one sample."""
        return sum(self._sizes())

    @property
    def is_tensor(self) -> bool:
        """Whether the user's form is a single tensor, no pytree around it."""
        return self.structure == _LEAF

    @property
    def is_matrix(self) -> bool:
        """Whether the user's form is [B, n] already."""
        return self.is_tensor and len(self.shapes[0]) == 2

    def rows(self, value: Any) -> Tensor:
        """The user's form as a matrix [B, n].

        Raises:
            ShapeError: another structure or other shapes than those of the start.
        """
        leaves, structure = _pytree.tree_flatten(value)
        shapes = tuple(tuple(getattr(leaf, "shape", ())) for leaf in leaves)
        if structure != self.structure or shapes != self.shapes:
            raise ShapeError(
                f"the function returned {_shown(structure, shapes)} for unknowns "
                f"{_shown(self.structure, self.shapes)}; it must return the same form, "
                "one equation for each unknown."
            )
        batch = self.batch_size
        flat = [
            leaf.reshape(batch, size)
            for leaf, size in zip(leaves, self._sizes(), strict=True)
        ]
        return flat[0] if len(flat) == 1 else torch.cat(flat, 1)

    def restore(self, rows: Tensor) -> Any:
        """A matrix [B, n] in the user's form."""
        parts = rows.split(self._sizes(), 1)
        leaves = [
            part.reshape(shape) for part, shape in zip(parts, self.shapes, strict=True)
        ]
        return _pytree.tree_unflatten(leaves, self.structure)

    def restore_over(self, rows: Tensor) -> Any:
        """[B, T, n] in the form of a pytree, each leaf [B, T, ...]."""
        count = rows.shape[1]
        leaves = [
            part.reshape(shape[0], count, *shape[1:])
            for part, shape in zip(
                rows.split(self._sizes(), 2), self.shapes, strict=True
            )
        ]
        return _pytree.tree_unflatten(leaves, self.structure)

    def wrapped(self, function: Callable[[Any], Any]) -> Callable[[Tensor], Tensor]:
        """A function of the user's form as one of matrices [B, n]."""
        if self.is_matrix:
            return lambda rows: _checked(function(rows), rows)
        return lambda rows: _of_one_dtype(self.rows(function(self.restore(rows))), rows)

    def broadcast(self, value: Any) -> Tensor:
        """Numbers for the unknowns, as they lie in a row: [n], or [B, n].

        Args:
            value: a number for all unknowns, a tensor [n] or [*batch, n], or, of a
                pytree as start, the same pytree, each tensor like that of the start or
                without the batch.

        Raises:
            ShapeError: it is none of these.
        """
        one = (self.size,)
        all_rows = (*self.batch_shape, self.size)
        if self.structure == _pytree.tree_structure(value) != _LEAF:
            return self._broadcast_tree(value)
        given = torch.as_tensor(value)
        if given.ndim == 0 or given.shape == one:
            return given.expand(one)
        if given.shape == all_rows:
            return given.reshape(self.batch_size, self.size)
        raise ShapeError(
            f"{list(given.shape)} is neither {list(one)} nor {list(all_rows)}, "
            "as the unknowns are."
        )

    def _broadcast_tree(self, value: Any) -> Tensor:
        parts = []
        for leaf, shape in zip(_pytree.tree_leaves(value), self.shapes, strict=True):
            given = torch.as_tensor(leaf)
            if given.shape not in ((), shape, shape[1:]):
                raise ShapeError(
                    f"{list(given.shape)} is neither {list(shape[1:])} nor "
                    f"{list(shape)}, as the unknowns are."
                )
            parts.append(given.expand(shape).reshape(self.batch_size, -1))
        return torch.cat(parts, 1)

    def _sizes(self) -> list[int]:
        batch = len(self.batch_shape)
        return [math.prod(shape[batch:]) for shape in self.shapes]


def _checked(value: Any, rows: Tensor) -> Tensor:
    if not isinstance(value, Tensor) or value.shape != rows.shape:
        shown = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ShapeError(
            f"the function returned {shown} for unknowns {list(rows.shape)}; it must "
            "return the same form, one equation for each unknown."
        )
    return _of_one_dtype(value, rows)


def _of_one_dtype(value: Tensor, rows: Tensor) -> Tensor:
    if value.dtype != rows.dtype:
        raise ParameterError(
            f"the function returned {value.dtype} for unknowns of {rows.dtype}: what "
            "it closes over must have the dtype of start."
        )
    return value


def _check_leaves(leaves: list[Any]) -> None:
    if not leaves:
        raise ParameterError("start holds no tensor; give [*batch, n] or a pytree.")
    for leaf in leaves:
        if not isinstance(leaf, Tensor):
            raise ParameterError(
                f"start holds a {type(leaf).__name__}; give tensors [*batch, n]."
            )
    kinds = {(leaf.dtype, leaf.device) for leaf in leaves}
    if len(kinds) > 1:
        shown = ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds))
        raise ParameterError(
            f"the tensors of start must share one dtype and device, not {shown}."
        )
    if leaves[0].dtype not in (torch.float32, torch.float64):
        raise ParameterError(f"start is {leaves[0].dtype}; give float32 or float64.")


def _shown(structure: Any, shapes: tuple[tuple[int, ...], ...]) -> str:
    return str(_pytree.tree_unflatten([list(shape) for shape in shapes], structure))
