"""The way back from a solution to what the declaration named."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Readout:
    """Gathers one named tensor from the vector of all.

    Attributes:
        index: which entry stands at each position, int64 [size], C order.
        shape: shape of one sample, the stage axis first if it is staged.
        scale: what each entry is multiplied with, [size]; None if it is taken as it is.
    """

    index: Tensor
    shape: tuple[int, ...]
    scale: Tensor | None = None

    @classmethod
    def from_positions(
        cls, positions: np.ndarray, scale: np.ndarray | None = None
    ) -> "Readout":
        """The readout whose entry [i, j, ...] is entry positions[i, j, ...].

        Args:
            positions: int [*shape].
            scale: what these entries are multiplied with, [*shape].
        """
        flat = np.ascontiguousarray(positions, dtype=np.int64).ravel()
        factors = None
        if scale is not None and not bool((scale == 1).all()):
            factors = torch.tensor(scale, dtype=torch.float64).flatten()
        return cls(torch.from_numpy(flat.copy()), tuple(positions.shape), factors)

    def __call__(self, values: Tensor) -> Tensor:
        """Read it off x [B, n] or y [B, m]: [B, *shape]."""
        chosen = values.index_select(1, self.index.to(values.device))
        if self.scale is not None:
            chosen = chosen * self.scale.to(values)
        return chosen.reshape(values.shape[0], *self.shape)


@dataclass(frozen=True, eq=False)
class StageStructure:
    """Which columns belong to which stage.

    Attributes:
        steps: number of steps T.
        states: columns of each State, int64 [T + 1, size].
        controls: columns of each Control, int64 [T, size].
    """

    steps: int
    states: dict[str, Tensor]
    controls: dict[str, Tensor]
