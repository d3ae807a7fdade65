"""Poses as vectors: the steps from a base that is held fixed."""

from dataclasses import dataclass

from torch import Tensor

from optlayers.geometry.groups import Group


@dataclass(frozen=True, eq=False)
class Chart:
    """Elements of a group near a base, and all others up to a full turn from it.

    Regular where every rotation is less than a full turn from its base; every element
    has a step within half a turn.

    Attributes:
        group: whose elements.
        base: where the step is zero, float64 [*poses, order, order].
    """

    group: Group
    base: Tensor

    def elements(self, steps: Tensor) -> Tensor:
        """Steps [*batch, *poses, degrees] -> matrices [*batch, *poses, n, n]."""
        return self.group.retract(self.base.to(steps), steps)

    def steps(self, matrices: Tensor) -> Tensor:
        """The inverse, every rotation within half a turn of its base."""
        return self.group.step(self.base.to(matrices), matrices)
