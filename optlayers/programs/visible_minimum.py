"""The KKT residual of a minimization in a form that all transforms can see.

F(x, y, v) is that of `MinimizeProgram`; its derivatives in x are taken by `torch.func`
instead of autograd, and no numbers are looked at.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from optlayers.interfaces import Kind
from optlayers.linalg.dense import DenseOperator
from optlayers.programs.complementarity import slope_of_multiplier
from optlayers.programs.minimize import MinimizeProgram, Split


@dataclass(frozen=True, eq=False)
class VisibleMinimum:
    """The KKT conditions of B problems, for `torch.func` and `torch.compile`.

    Attributes:
        program: the problems, whose bounds are known.
    """

    program: MinimizeProgram
    kind: ClassVar[Kind] = Kind.MINIMIZE

    @property
    def batch_size(self) -> int:
        """The number of problems B."""
        return self.program.batch_size

    @property
    def highest_order(self) -> None:
        """No limit that is known here: the functions say how smooth they are."""

    def residual(self, point: Tensor) -> Tensor:
        """F(z), [B, n + me + m] -> same, zero exactly at a KKT point."""
        parts = self.program.split(point)
        return self._residual(parts.x, parts)

    def linearize(self, point: Tensor) -> DenseOperator:
        """dF/dz at `point`, factorized, cut from every derivative."""
        program, point = self.program, point.detach()
        parts = program.split(point)

        def of_unknowns(x: Tensor) -> Tensor:
            return self._residual(x, parts)

        value, products, *_ = torch.func.vjp(of_unknowns, parts.x)
        unit = torch.eye(value.shape[1], dtype=value.dtype, device=value.device)

        def row(cotangent: Tensor) -> Tensor:
            # As samples are independent, one product serves the batch.
            (found,) = products(cotangent.expand_as(value))
            return found

        stacked = torch.func.vmap(row, randomness="different")(unit).movedim(0, 1)
        v = point[:, program.size + program.equality_count :]
        return DenseOperator.from_matrix(self._assembled(stacked.detach(), v))

    def _residual(self, x: Tensor, parts: Split) -> Tensor:
        """F with unknowns of their own beside the multipliers and slacks."""

        def lagrangian(x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            equality, rows = self.program.equality(x), self.program.rows(x)
            value = self.program.value(x) + (parts.y * equality).sum(1)
            return (value + (parts.lam * rows).sum(1)).sum(), (equality, rows)

        slope, (equality, rows) = torch.func.grad(lagrangian, has_aux=True)(x)
        return torch.cat([slope, equality, rows + parts.s], 1)

    def _assembled(self, stacked: Tensor, v: Tensor) -> Tensor:
        """dF/dz from the derivative in x alone, [B, n + me + m, n]."""
        program, width = self.program, stacked.shape[1]
        n, me = program.size, program.equality_count
        Jh, Jr = stacked[:, n : n + me], stacked[:, n + me :]
        D = slope_of_multiplier(v, program.barrier)
        slope = torch.cat([Jh.mT, Jr.mT * D.unsqueeze(1)], 2)
        feasible = torch.cat(
            [Jh.new_zeros(len(v), width - n, me), _diagonal(D - 1, me)], 2
        )
        return torch.cat([stacked, torch.cat([slope, feasible], 1)], 2)


def _diagonal(entries: Tensor, zeros: int) -> Tensor:
    """A diagonal matrix [B, m, m] below rows of zeros, [B, zeros + m, m]."""
    return torch.nn.functional.pad(torch.diag_embed(entries), (0, 0, zeros, 0))
