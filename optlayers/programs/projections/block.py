"""Cones of one kind and size that are treated as one batch."""

from typing import NamedTuple


class Block(NamedTuple):
    """`number` cones of one kind and of `size` rows each, treated as one batch.

    Attributes:
        name: the kind of cone.
        number: how many cones there are.
        size: the rows of each.
        exponents: of power cones, one a cone; empty for the others.
    """

    name: str
    number: int
    size: int
    exponents: tuple[float, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """The last two axes of the block's values, (number, size)."""
        return self.number, self.size
