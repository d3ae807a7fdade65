"""The steps that a walk has made, kept to be taken again."""

from typing import NamedTuple

import torch
from torch import Tensor


class Grid(NamedTuple):
    """The steps of a walk; those that were rejected have length zero.

    Attributes:
        times, sizes: t and h, each [N, B].
        states: x at the beginning of each step, [N, B, n], without a graph.
    """

    times: Tensor
    sizes: Tensor
    states: Tensor


class Footprints:
    """Steps, added one by one."""

    def __init__(self) -> None:
        self._steps: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, time: Tensor, size: Tensor, state: Tensor) -> None:
        """Keep one step.

        Args:
            time: t, [B].
            size: h, [B]; zero where it was rejected.
            state: x at t, [B, n].
        """
        self._steps.append((time, size, state.detach()))

    def grid(self, time: Tensor, state: Tensor) -> Grid:
        """All that were kept.

        Args:
            time: whatever is like the times, [B].
            state: whatever is like the states, [B, n].
        """
        if not self._steps:
            none = time.new_zeros(0, len(time))
            return Grid(none, none, state.new_zeros(0, *state.shape))
        return Grid(*(torch.stack(one) for one in zip(*self._steps, strict=True)))
