"""The leapfrog (velocity Verlet) method for separable Hamiltonian systems.

v' = v + h/2 a(q),   q1 = q + h u(v'),   v1 = v' + h/2 a(q1)
Source: Hairer, Lubich, Wanner, Geometric Numerical Integration (2006), I.1.4.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from optlayers.programs.initial_value import FieldFunction, InitialValueProgram
from optlayers.solvers.ode.control import Control, FixedStep
from optlayers.solvers.ode.hermite import hermite, with_rates
from optlayers.solvers.ode.solver import SteppingSolver
from optlayers.solvers.ode.stepper import Step, Stepper


@dataclass(frozen=True)
class LeapfrogStepper:
    """Positions are the first half of the state, velocities or momenta the second."""

    order: int = 2
    error_order: int | None = None
    evaluations: int = 2

    def begin(self, field: FieldFunction, time: Tensor, state: Tensor) -> Tensor:
        """The rate, [B, n], whose second half is the acceleration a(q)."""
        return field(time, state)

    def workspace(self, state: Tensor) -> None:
        """No memory is shared."""

    def step(
        self,
        field: FieldFunction,
        time: Tensor,
        size: Tensor,
        state: Tensor,
        carry: Tensor,
        workspace: None = None,
    ) -> Step:
        """Half a kick, a drift, half a kick."""
        half = state.shape[1] // 2
        column = size.unsqueeze(1)
        position, velocity = state.split(half, 1)
        velocity = torch.addcmul(velocity, column, carry[:, half:], value=0.5)
        between = torch.cat((position, velocity), 1)
        speed = field(torch.add(time, size, alpha=0.5), between)[:, :half]
        position = torch.addcmul(position, column, speed)
        rate = field(time + size, torch.cat((position, velocity), 1))
        velocity = torch.addcmul(velocity, column, rate[:, half:], value=0.5)
        after = torch.cat((position, velocity), 1)
        return Step(after, None, (after - state).unsqueeze(0), rate)

    def complete(
        self,
        field: FieldFunction,
        time: Tensor,
        size: Tensor,
        state: Tensor,
        step: Step,
    ) -> Step:
        """The step with the rates at both ends."""
        return with_rates(field, time, size, state, step)

    def interpolate(
        self, state: Tensor, size: Tensor, step: Step, fraction: Tensor
    ) -> Tensor:
        """The cubic Hermite interpolant."""
        return hermite(state, step, fraction)


@dataclass(frozen=True, kw_only=True)
class Leapfrog(SteppingSolver):
    """Symplectic, time-reversible, order 2, fixed steps: energy does not drift.

    The state is (q, v), positions before velocities (or momenta), as many of each; the
    rate of q must depend on v alone, the rate of v on q (and time) alone.
    """

    control: Control = field(default_factory=FixedStep)
    stepper: ClassVar[Stepper] = LeapfrogStepper()

    def refuses(self, program: InitialValueProgram) -> str | None:
        """An odd number of states, which has no halves."""
        if program.size % 2:
            return f"needs as many velocities as positions; there are {program.size}."
        return None
