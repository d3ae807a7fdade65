"""Programs the tests of this folder share."""

import torch
from torch import Tensor

from optlayers.linalg.pattern import PatternMatrix
from optlayers.programs.cone_program import ConeProgram
from optlayers.programs.cones import Cones


def random_program(
    batch: int, n: int, zero: int, nonneg: int, is_shared: bool, rank: int | None = None
) -> ConeProgram:
    """Feasible, bounded programs; P of the given rank, within a box if it is low."""
    lead = () if is_shared else (batch,)
    L = torch.randn(*lead, n, n if rank is None else rank, dtype=torch.float64)
    P = L @ L.mT
    A = torch.randn(*lead, zero + nonneg, n, dtype=torch.float64)
    x = torch.randn(batch, n, dtype=torch.float64)
    slack = torch.rand(batch, zero + nonneg, dtype=torch.float64)
    slack[:, :zero] = 0
    b = (A @ x[:, :, None])[:, :, 0] + slack
    if rank is None:
        P = P + 0.1 * torch.eye(n, dtype=torch.float64)
    else:
        box = torch.cat([torch.eye(n), -torch.eye(n)]).double()
        A = torch.cat([A, box.expand(*lead, 2 * n, n)], -2)
        b = torch.cat([b, torch.full((batch, 2 * n), 5.0).double()], 1)
        nonneg += 2 * n
    q = torch.randn(batch, n, dtype=torch.float64)
    return ConeProgram(P, q, A, b, Cones(zero=zero, nonneg=nonneg))


def on_pattern(matrix: Tensor) -> PatternMatrix:
    """Every entry of a dense matrix, in random order, the first one in two halves."""
    rows, cols = torch.ones(matrix.shape[-2:]).nonzero(as_tuple=True)
    order = torch.randperm(len(rows))
    rows, cols = rows[order], cols[order]
    values = matrix[..., rows, cols]
    values = torch.cat([values[..., :1] / 2, values[..., :1] / 2, values[..., 1:]], -1)
    again = torch.cat([torch.zeros(1, dtype=torch.int64), torch.arange(len(rows))])
    return PatternMatrix(values, rows[again], cols[again], tuple(matrix.shape[-2:]))
