"""What a method of integration is: one step, and the solution within it.

Steps are ordinary torch code, differentiable where grad mode is on; which steps are
taken, and how long they are, is decided elsewhere.
"""

from typing import Any, NamedTuple, Protocol

from torch import Tensor

from optlayers.programs.initial_value import FieldFunction


class Step(NamedTuple):
    """A trial step of B samples, from (t, x) to t + h.

    Attributes:
        state: x(t + h), [B, n].
        error: the estimated error of it, [B, n]; None of methods that have no estimate.
        stages: what dense output is made of, increments first, [S, B, n].
        carry: what the next step starts from if this one is accepted, such as
            f(t + h, x(t + h)), [B, n].
        is_solved: where the equations of an implicit step were solved, bool [B]; None
            if there are none.
    """

    state: Tensor
    error: Tensor | None
    stages: Tensor
    carry: Tensor
    is_solved: Tensor | None = None


class Stepper(Protocol):
    """One method of integration."""

    @property
    def order(self) -> int:
        """The error of a fixed interval is O(h^order)."""
        ...

    @property
    def error_order(self) -> int | None:
        """The estimated error of one step is O(h^(error_order + 1)); None without."""
        ...

    @property
    def is_implicit(self) -> bool:
        """Whether stability bounds its steps little, so that it is for stiff fields."""
        ...

    @property
    def ends_at_saves(self) -> bool:
        """Whether steps of chosen length end at save times, as it is less right within.

        Fixed steps are as long as they were said to be.
        """
        ...

    @property
    def evaluations(self) -> int:
        """Evaluations of the field in a step, those of Jacobians not counted."""
        ...

    def begin(self, field: FieldFunction, time: Tensor, state: Tensor) -> Tensor:
        """The carry of a step that starts at [B], [B, n]."""
        ...

    def workspace(self, state: Tensor) -> Any:
        """Memory that steps without a graph may share; None if there is no need."""
        ...

    def step(
        self,
        field: FieldFunction,
        time: Tensor,
        size: Tensor,
        state: Tensor,
        carry: Tensor,
        workspace: Any = None,
    ) -> Step:
        """One step of each sample.

        A step of size zero returns the state bitwise, wherever the field is finite.

        Args:
            field: f.
            time: t, [B].
            size: h > 0, or zero of samples that rest, [B].
            state: x, [B, n].
            carry: of the step before, or of `begin`, [B, n].
            workspace: of `workspace`; stages may live in it until the next step.
        """
        ...

    def complete(
        self,
        field: FieldFunction,
        time: Tensor,
        size: Tensor,
        state: Tensor,
        step: Step,
    ) -> Step:
        """The step with what `interpolate` needs besides; most need nothing.

        It is called only for steps within which the solution is wanted.

        Args:
            field: f.
            time: t, [B].
            size: h, [B].
            state: x at the beginning of the step, [B, n].
            step: made by `step` from there.
        """
        ...

    def interpolate(
        self, state: Tensor, size: Tensor, step: Step, fraction: Tensor
    ) -> Tensor:
        """The solution within a step.

        Args:
            state: x at its beginning, [B, n].
            size: h, [B].
            step: the step, completed.
            fraction: (s - t) / h of each time s, [B, M], from 0 to 1.

        Returns:
            [B, M, n].
        """
        ...
