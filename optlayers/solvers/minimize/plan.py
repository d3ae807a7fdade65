"""A plan of a minimization: everything about a solve that is no tensor."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from optlayers.interfaces import Solver
from optlayers.linalg.pattern import Pattern
from optlayers.programs.bounds import Bound, bounds_of
from optlayers.programs.minimize import MinimizeProgram
from optlayers.programs.separable import Separable
from optlayers.solvers.checks import Check
from optlayers.solvers.plan import OnFailure, keep

Modules = Mapping[str, nn.Module]


class PointFunction(Protocol):
    """A function of points and tensors; row i of it depends on row i alone."""

    def __call__(
        self, point: Tensor, inputs: Sequence[Tensor], modules: Modules, /
    ) -> Tensor:
        """[B, n] -> [B, k]; each input is [*shape] (shared) or [B, *shape]."""
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class MinimizePlan:
    """How one layer's problems are checked, solved and complained about.

    Attributes:
        objective: f, [B, n] -> [B, 1].
        maximize: whether f is to be large; the programs then minimize -f.
        equalities, inequalities, residuals: as of a `MinimizeProgram`, or None.
        loss: likewise, a function of residuals [B, k].
        pattern: of the Jacobian of the residuals, or None.
        separable: the two functions of a `Separable`, or None.
        input_ndims: axes of one sample of each input of these functions.
        column_names: the variable that each unknown belongs to.
        equality_names, inequality_names, bound_names: the constraint that each entry
            of h, of g and of the bounds belongs to.
        lower, upper: bounds, [n] or None.
        solver: finds the minima.
        tolerance: largest entry of the KKT residual that counts as zero.
        on_failure: "raise", or "nan" or "keep", which leave failures to the status.
        subject: what error messages call the problem, a layer's name.
        checks: what the declaration promises of the parameters.
        auxiliary_starts: where the last unknowns begin, as a function of the others;
            None if all are declared.
        auxiliary_count: how many these are.
        bounds: lower and upper as rows; compiled code may not look for them.
        handle: the integer that names this plan in this process.
        standalone: the same plan with the tensors of modules as inputs, by which
            modules they are.
    """

    objective: PointFunction
    maximize: bool
    equalities: PointFunction | None
    inequalities: PointFunction | None
    residuals: PointFunction | None
    loss: PointFunction | None
    pattern: Pattern | None
    separable: tuple[PointFunction, PointFunction] | None
    input_ndims: tuple[int, ...]
    column_names: tuple[str, ...]
    equality_names: tuple[str, ...]
    inequality_names: tuple[str, ...]
    bound_names: tuple[str, ...]
    lower: Tensor | None
    upper: Tensor | None
    solver: Solver
    tolerance: float
    on_failure: OnFailure
    subject: str = "the problem"
    checks: tuple[Check, ...] = ()
    auxiliary_starts: PointFunction | None = None
    auxiliary_count: int = 0
    bounds: tuple[Bound, ...] = field(init=False, repr=False)
    handle: int = field(init=False)
    standalone: dict[Hashable, "MinimizePlan"] = field(
        init=False, default_factory=dict, repr=False
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "bounds", bounds_of(self.lower, self.upper))
        object.__setattr__(self, "handle", keep(self))

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy, in this process or another, is a plan of its own with its own number.
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        return (_make, (given,))

    @property
    def point_names(self) -> tuple[str, ...]:
        """What each entry of the KKT residual is about."""
        slopes = (f"the slope in `{name}`" for name in self.column_names)
        stated = (*self.equality_names, *self.inequality_names, *self.bound_names)
        return (*slopes, *(f"`{name}`" for name in stated))

    def program(
        self, inputs: Sequence[Tensor], modules: Modules, like: Tensor
    ) -> MinimizeProgram:
        """The problems of a batch.

        Args:
            inputs: each [*shape] (shared) or [B, *shape].
            modules: by name.
            like: points of the batch, [B, n], of their dtype and device.
        """

        # Dynamo evaluates the annotations of inner functions, and cannot join these.
        def bound(function: Any) -> Any:
            if function is None:
                return None
            return lambda x: function(x, inputs, modules)

        def objective(x: Tensor) -> Tensor:
            value = self.objective(x, inputs, modules)[:, 0]
            return -value if self.maximize else value

        separable = None
        # Solvers profit from it, which compiled code does not look into.
        if self.separable is not None and not torch.compiler.is_compiling():
            arguments, outer = self.separable
            sign = -1 if self.maximize else 1
            separable = Separable(
                bound(arguments), lambda u: sign * outer(u, inputs, modules)[:, 0]
            )
        lower = None if self.lower is None else self.lower.to(like)
        upper = None if self.upper is None else self.upper.to(like)
        return MinimizeProgram(
            objective, like.shape[0], like.shape[1],
            bound(self.equalities), bound(self.inequalities),
            len(self.equality_names), len(self.inequality_names), lower, upper,
            bound(self.residuals), bound(self.loss),
            pattern=self.pattern, sides=tuple(side.to(like) for side in self.bounds),
            separable=separable,
        )  # fmt: skip

    def completed(
        self, start: Tensor, inputs: Sequence[Tensor], modules: Modules
    ) -> Tensor:
        """The start, [B, n], with that of the last unknowns, as the others give it."""
        if self.auxiliary_starts is None:
            return start
        own = start[:, : start.shape[1] - self.auxiliary_count]
        with torch.no_grad():
            last = self.auxiliary_starts(own, inputs, modules)
        return torch.cat([own, last.nan_to_num(0.0, 0.0, 0.0)], 1)


def _make(given: dict[str, Any]) -> MinimizePlan:
    return MinimizePlan(**given)
