"""The leapfrog (velocity Verlet) method for separable Hamiltonian systems.

v' = v + h/2 a(q),   q1 = q + h u(v'),   v1 = v' + h/2 a(q1)
Source: Hairer, Lubich, Wanner, Geometric Numerical Integration (2006), I.1.4.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from optlayers.errors import SolverRefused
from optlayers.programs.initial_value import FieldFunction, InitialValueProgram
from optlayers.solvers.ode.control import Control, FixedStep
from optlayers.solvers.ode.drive import Walk
from optlayers.solvers.ode.hermite import hermite, with_rates
from optlayers.solvers.ode.solver import SteppingSolver
from optlayers.solvers.ode.stepper import Step, Stepper

# How far states are moved to see what a rate depends on, as a share of 1 + |x|.
PROBE = 0.03
GOLDEN = 0.6180339887498949
# Differences of so many roundings are none.
ROUNDINGS = 64


@dataclass(frozen=True)
class LeapfrogStepper:
    """Positions are the first half of the state, velocities or momenta the second."""

    order: int = 2
    error_order: int | None = None
    is_implicit: bool = False
    ends_at_saves: bool = False
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
    rate of q must depend on v (and time) alone, the rate of v on q (and time) alone:
    three evaluations at the beginning look whether this is so.

    Raises:
        SolverRefused: later, of a field in which it is not.
    """

    control: Control = field(default_factory=FixedStep)
    stepper: ClassVar[Stepper] = LeapfrogStepper()

    def refuses(self, program: InitialValueProgram) -> str | None:
        """An odd number of states, which has no halves."""
        if program.size % 2:
            return f"needs as many velocities as positions; there are {program.size}."
        return None

    def walk(
        self,
        program: InitialValueProgram,
        *,
        records: bool = False,
        dense: bool = False,
    ) -> Walk:
        """The integration at its beginning, to be advanced a step at a time.

        Args:
            program: of B samples.
            records: whether the steps are kept, for `Walk.grid` and `Walk.saves`.
            dense: whether the steps are kept for `Walk.at`.

        Raises:
            SolverRefused: the field is not separable.
        """
        reason = self.refuses(program) or inseparable(program)
        if reason:
            raise SolverRefused(f"leapfrog does not take this program: it {reason}")
        return super().walk(program, records=records, dense=dense)


@torch.no_grad()
def inseparable(program: InitialValueProgram) -> str | None:
    """Why a field of (q, v) is not separable, seen where it begins; None if it is.

    Args:
        program: of B samples, n even.
    """
    time, start = program.times[:, 0], program.initial
    half = start.shape[1] // 2
    # Moves of unequal length, so that no sum or difference of two stays as it was.
    places = torch.arange(1, start.shape[1] + 1, dtype=start.dtype, device=start.device)
    other = start + PROBE * (1 + start.abs()) * (1 + (places * GOLDEN) % 1)
    both = program.rate(time, other)
    for name, word, kept in (
        ("q", "position", slice(0, half)),
        ("v", "velocity", slice(half, None)),
    ):
        # Only what lies in `kept` is moved back.
        point = other.clone()
        point[:, kept] = start[:, kept]
        change = (program.rate(time, point) - both)[:, kept].abs()
        size = both[:, kept].abs() + other.abs().amax(1, keepdim=True)
        seen = change > ROUNDINGS * torch.finfo(start.dtype).eps * size
        if bool(seen.any()):
            i, k = seen.nonzero()[0].tolist()
            return (
                f"takes fields in which the rate of q depends on v alone and the rate "
                f"of v on q; with {name} moved by about {PROBE:g}, the rate of "
                f"{word} {k} changes by {float(change[i, k]):.2g} in sample {i}. Use "
                'solver="dopri5" or "dopri8", or RK4(control=FixedStep(size=...)) for '
                "fixed steps."
            )
    return None
