"""What the adjoint equation needs of x: integrated backward beside it, or looked up.

lambda' = -(df/dx)' lambda, in the time -t
"""

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from optlayers.implicit.path import Path
from optlayers.implicit.recorded import Steps
from optlayers.programs.initial_value import FieldFunction, InitialValueProgram

# A state that comes back farther from where it was, in allowed errors of a step, may
# belong to another solution. Looking states up instead is right as well, only slower.
ASTRAY = 100.0


class States(Protocol):
    """How the way back knows x."""

    @property
    def stops(self) -> Tensor | None:
        """Times -t that no step back crosses, [B, K]; None if there are none."""
        ...

    def begin(self, k: int, adjoint: Tensor) -> Tensor:
        """What is integrated backward, at save time k, from lambda [B, n] there."""
        ...

    def apart(self, time: Tensor, packed: Tensor) -> tuple[Tensor, Tensor]:
        """x and lambda, each [M, n], at the time -t, [M]."""
        ...

    def rates(self, forward: Tensor, product: Tensor) -> Tensor:
        """The rates of what is integrated, from f and (df/dx)' lambda, [M, n]."""
        ...

    def are_astray(self, walk: Any, k: int) -> Tensor:
        """Which samples have not come back to save time k - 1 as they were, bool [B].

        Args:
            walk: the way back from save time k, at its end.
            k: from 1 on.
        """
        ...


class JoinedStates(NamedTuple):
    """x is integrated backward, together with lambda; it begins anew at each save.

    Attributes:
        values: the solution at save times, [B, T, n].
        stops: those of the field.
    """

    values: Tensor
    stops: Tensor | None

    @classmethod
    def of(cls, program: InitialValueProgram, values: Tensor) -> "JoinedStates":
        """From a program whose time runs forward, and its solution, [B, T, n]."""
        stops = program.stops
        return cls(values, None if stops is None else -stops.flip(1))

    def begin(self, k: int, adjoint: Tensor) -> Tensor:
        """x as it was saved, and lambda, [B, 2 n]."""
        return torch.cat((self.values[:, k], adjoint), 1)

    def apart(self, time: Tensor, packed: Tensor) -> tuple[Tensor, Tensor]:
        """The two halves of what is integrated."""
        size = packed.shape[1] // 2
        return packed[:, :size], packed[:, size:]

    def rates(self, forward: Tensor, product: Tensor) -> Tensor:
        """Both, in the time -t."""
        return torch.cat((-forward, product), 1)

    def are_astray(self, walk: Any, k: int) -> Tensor:
        """Where x is farther from the save than errors of steps explain."""
        was = self.values[:, k - 1]
        # A NaN is astray, too.
        return ~(walk.distance(walk.state[:, : was.shape[1]], was) <= ASTRAY)


class LookedUpStates(NamedTuple):
    """x is looked up, and lambda alone is integrated.

    No step crosses an end of those that led forward: a longer one would not notice what
    x does in between, of which the integrals over parameters consist, too.

    Attributes:
        path: of x.
        stops: those of the field, and the ends of the steps forward.
    """

    path: Path
    stops: Tensor | None

    @classmethod
    def along(cls, program: InitialValueProgram, steps: Steps) -> "LookedUpStates":
        """From the steps that led forward."""
        path = Path(program, steps)
        known = [] if program.stops is None else [-program.stops]
        return cls(path, torch.cat([*known, -path.ends], 1))

    def begin(self, k: int, adjoint: Tensor) -> Tensor:
        """Lambda, [B, n]."""
        return adjoint

    def apart(self, time: Tensor, packed: Tensor) -> tuple[Tensor, Tensor]:
        """x from the path, and lambda."""
        return self.path.at(-time), packed

    def rates(self, forward: Tensor, product: Tensor) -> Tensor:
        """Of lambda alone."""
        return product

    def are_astray(self, walk: Any, k: int) -> Tensor:
        """None: x is not integrated."""
        return torch.zeros_like(walk.running)


def adjoint_field(field: FieldFunction, states: States) -> FieldFunction:
    """The rates of what is integrated, [B, n] or [B, 2 n], in the time -t.

    They carry a graph where a derivative is taken of them: of implicit methods the
    order, or the convergence of the stages, rests on their Jacobian.

    Args:
        field: f(t, x) of time running forward, [B, n].
        states: how x is known at a time.
    """

    def rate(time: Tensor, packed: Tensor) -> Tensor:
        follows = torch.is_grad_enabled() and (
            packed.requires_grad or time.requires_grad
        )
        with torch.enable_grad():
            point, adjoint = states.apart(time, packed)
            if not (follows and point.requires_grad):
                point = point.detach().requires_grad_()
            forward = field(-time, point)
            product = torch.zeros_like(point)
            if forward.requires_grad:
                (product,) = torch.autograd.grad(
                    forward, point, adjoint, allow_unused=True,
                    materialize_grads=True, create_graph=follows,
                )  # fmt: skip
        if not follows:
            forward = forward.detach()
        return states.rates(forward, product)

    return rate
