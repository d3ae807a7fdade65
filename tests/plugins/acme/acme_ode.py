"""A third party's solvers of initial value problems: all steps in one `solve`."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from optlayers.interfaces import Kind
from optlayers.programs.initial_value import InitialValueProgram
from optlayers.solution import Solution


@dataclass(frozen=True, kw_only=True)
class AcmeEuler:
    """Euler's method in torch, a hundred steps between save times."""

    rtol: float = 1e-6
    atol: float | None = None
    kind: ClassVar[Kind] = Kind.ODE

    def refuses(self, program: InitialValueProgram) -> str | None:
        return "knows no events." if program.events else None

    def solve(
        self, program: InitialValueProgram, start: Tensor | None = None
    ) -> Solution:
        state, values = program.initial, [program.initial]
        for begin, end in zip(
            program.times.unbind(1), program.times[:, 1:].unbind(1), strict=False
        ):
            size = (end - begin) / 100
            for k in range(100):
                rate = program.rate(begin + k * size, state)
                state = state + size.unsqueeze(1) * rate
            values.append(state)
        status = torch.zeros(len(state), dtype=torch.int8)
        stats = {"time": program.times[:, -1].detach()}
        return Solution(torch.stack(values, 1), {}, status, stats)


@dataclass(frozen=True, kw_only=True)
class AcmeClosed(AcmeEuler):
    """The same by a program of which torch sees nothing."""

    def solve(
        self, program: InitialValueProgram, start: Tensor | None = None
    ) -> Solution:
        solved = super().solve(program)
        return replace(solved, value=solved.value.detach())
