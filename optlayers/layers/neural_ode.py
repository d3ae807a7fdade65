"""A network as the rate of change: x'(t) = f(t, x), as an nn.Module.

Source: R. T. Q. Chen, Y. Rubanova, J. Bettencourt, D. Duvenaud, Neural Ordinary
Differential Equations (2018).
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from optlayers.errors import ParameterError, ShapeError
from optlayers.functional.integrate import integrate
from optlayers.layers.dtypes import explained_dtypes
from optlayers.solution import Solution


class NeuralODE(nn.Module):
    """Follows the field of a network from given states; trained like any module.

    Attributes:
        field: f, called as f(x) or f(t, x) with t [*batch] and x [*batch, n].
        options: those of `optlayers.functional.integrate`, for every call.

    Example:
        net = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 2))
        path = ol.NeuralODE(net)(x0, torch.linspace(0, 1, 20))  # [*batch, 20, 2]
    """

    def __init__(self, field: nn.Module, **options: Any) -> None:
        """Keep a field.

        Args:
            field: takes a state, or a time and a state, and returns its rate.
            **options: of `optlayers.functional.integrate`: solver, rtol, atol,
                gradient, events, on_failure, order, dense, progress.

        Raises:
            ParameterError: an unknown option, or a field of another signature.
        """
        super().__init__()
        known = inspect.signature(integrate).parameters
        for name in options:
            if name not in known or name in ("field", "start", "times"):
                raise ParameterError(
                    f"NeuralODE: unknown option {name}=; options are those of "
                    "functional.integrate."
                )
        self.field = field
        self.options = options
        self._takes_time = _takes_time(field)

    def forward(self, start: Tensor, times: Tensor) -> Tensor:
        """The states at the times.

        Args:
            start: x at the first time, [*batch, n].
            times: [T] or [*batch, T], strictly increasing or decreasing.

        Returns:
            [*batch, T, n].

        Raises:
            SolveError: samples did not reach their last time (`on_failure="raise"`).
            ParameterError: weights of another dtype than the state.
            ShapeError: a state of another size than the field takes.
        """
        return self.solve(start, times).value

    def solve(self, start: Tensor, times: Tensor) -> Solution:
        """The same with statuses, statistics and events."""
        modules = [("field", self.field)] * isinstance(self.field, nn.Module)
        dtype = getattr(start, "dtype", torch.get_default_dtype())
        with explained_dtypes("NeuralODE", modules, dtype):
            try:
                return integrate(self._rate, start, times, **self.options)
            except RuntimeError as reason:
                if "cannot be multiplied" not in str(reason):
                    raise
                raise ShapeError(
                    f"NeuralODE: the field takes no state of size {start.shape[-1]}, "
                    f"as start {list(start.shape)} has it ({reason}). Give a start "
                    "[*batch, n] with n as many as the field takes."
                ) from reason

    def _rate(self, time: Tensor, state: Tensor) -> Tensor:
        return self.field(time, state) if self._takes_time else self.field(state)

    def extra_repr(self) -> str:
        """The options, for print(model)."""
        return ", ".join(f"{name}={value!r}" for name, value in self.options.items())


def _takes_time(field: Callable[..., Any]) -> bool:
    """Whether the field is called with a time before the state."""
    function = field.forward if isinstance(field, nn.Module) else field
    needed = [
        one
        for one in inspect.signature(function).parameters.values()
        if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
        and one.default is one.empty
    ]
    if len(needed) not in (1, 2):
        names = ", ".join(one.name for one in needed)
        raise ParameterError(
            f"NeuralODE: the field takes ({names}); it must take a state, or a time "
            "and a state."
        )
    return len(needed) == 2
