"""What a walk has cost each sample, for the statistics of its solution."""

import time as clock

import torch
from torch import Tensor


class Tally:
    """Counts steps and evaluations.

    Attributes:
        tried, accepted: steps of each sample, int64 [B].
    """

    def __init__(self, like: Tensor) -> None:
        """Begin to count, and to take the time, of as many samples as `like` [B]."""
        self._began = clock.perf_counter()
        self.tried = torch.zeros_like(like, dtype=torch.int64)
        self.accepted = torch.zeros_like(self.tried)
        # Evaluations by the methods before this one, two for the first step, and the
        # steps that they are of.
        self._spent: Tensor | int = 2
        self._counted: Tensor | int = 0

    def add(self, tried: Tensor, accepted: Tensor) -> None:
        """Count one step, of samples [B] that took one and where it was accepted."""
        self.tried += tried
        self.accepted += accepted & tried

    def ask(self, rows: Tensor, evaluations: int) -> None:
        """Count so many evaluations beside the steps in some samples, bool [B]."""
        self._spent = self._spent + rows * evaluations

    def change(self, evaluations: int) -> None:
        """Leave a method of so many evaluations a step; another one goes on."""
        self._spent = self._evaluations(evaluations)
        self._counted = self.tried.clone()

    def stats(self, evaluations: int, reached: Tensor) -> dict[str, Tensor]:
        """The statistics, each [B].

        Args:
            evaluations: of the present method, a step.
            reached: time of each sample, in the user's direction, [B].
        """
        seconds = (clock.perf_counter() - self._began) / max(1, len(reached))
        return {
            "steps": self.tried,
            "accepted": self.accepted,
            "rejected": self.tried - self.accepted,
            "evaluations": self._evaluations(evaluations),
            "time": reached,
            "seconds": torch.full_like(reached, seconds, dtype=torch.float64),
        }

    def _evaluations(self, each: int) -> Tensor:
        """Of the field, by all methods, [B]; those for Jacobians not counted."""
        return self._spent + (self.tried - self._counted) * each
