"""A third party's convex solver: equality-constrained quadratic programs, one solve."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from optlayers.interfaces import Kind
from optlayers.programs.cone_program import ConeProgram
from optlayers.solution import Solution, Status


@dataclass(frozen=True, kw_only=True)
class Acme:
    """Solve [P A'; A 0] [x; y] = [-q; b]."""

    ridge: float = 0.0
    kind: ClassVar[Kind] = Kind.CONVEX

    def refuses(self, program: ConeProgram) -> str | None:
        if program.cones.size != program.cones.zero:
            return "takes equalities only."
        if program.P is None:
            return "needs a quadratic objective."
        return None

    def solve(self, program: ConeProgram, start: Tensor | None = None) -> Solution:
        batch, n, m = program.batch_size, program.size, program.rows
        P = program.P.expand(batch, n, n) + self.ridge * torch.eye(n)
        A = program.A.expand(batch, m, n)
        top = torch.cat([P, A.mT], 2)
        bottom = torch.cat([A, A.new_zeros(batch, m, m)], 2)
        right = torch.cat([-program.q, program.b], 1)
        # One sample at a time: a batched solve may round differently for each size.
        pairs = zip(torch.cat([top, bottom], 1), right, strict=True)
        rows = [torch.linalg.solve(matrix, vector) for matrix, vector in pairs]
        z = torch.stack(rows) if rows else right
        s = torch.zeros(batch, m, dtype=z.dtype)
        status = torch.full((batch,), int(Status.SOLVED), dtype=torch.int8)
        return Solution(z[:, :n], {"y": z[:, n:], "s": s}, status)
