"""A plan of root finding: everything about a solve that is no tensor."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from optlayers.interfaces import Solver
from optlayers.programs.root import RootProgram
from optlayers.solvers.checks import Check
from optlayers.solvers.plan import OnFailure, keep

Modules = Mapping[str, nn.Module]


class SystemFunction(Protocol):
    """A function of points and tensors; row i of it depends on row i alone."""

    def __call__(
        self, point: Tensor, inputs: Sequence[Tensor], modules: Modules, /
    ) -> Tensor:
        """F(z), [B, n] -> [B, n]; each input is [*shape] (shared) or [B, *shape]."""
        ...

    def jacobian(
        self, point: Tensor, inputs: Sequence[Tensor], modules: Modules, /
    ) -> Tensor:
        """dF/dz, [B, n, n], in a form that all transforms can see."""
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class RootPlan:
    """How one layer's systems are checked, solved and complained about.

    Attributes:
        function: F whose zero is wanted, or the map G of z = G(z).
        is_fixed_point: whether it is the map.
        input_ndims: axes of one sample of each input of the function.
        solver: finds the roots.
        tolerance: largest entry of the residual that counts as zero.
        on_failure: "raise", or "nan" or "keep", which leave failures to the status.
        subject: what error messages call the problem, a layer's name.
        row_names: the equation each entry of the residual belongs to, n names.
        checks: what the declaration promises of the parameters.
        lower, upper: bounds that choose among several roots, [n] or None.
        handle: the integer that names this plan in this process.
        standalone: the same plan with the tensors of modules as inputs, by which
            modules they are.
    """

    function: SystemFunction
    is_fixed_point: bool
    input_ndims: tuple[int, ...]
    solver: Solver
    tolerance: float
    on_failure: OnFailure
    subject: str = "the problem"
    row_names: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    lower: Tensor | None = None
    upper: Tensor | None = None
    handle: int = field(init=False)
    standalone: dict[Hashable, "RootPlan"] = field(
        init=False, default_factory=dict, repr=False
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "handle", keep(self))

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy, in this process or another, is a plan of its own with its own number.
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        return (_make, (given,))

    def program(
        self,
        inputs: Sequence[Tensor],
        modules: Modules,
        like: Tensor,
        *,
        jacobian: bool = False,
    ) -> RootProgram:
        """The systems of a batch.

        Args:
            inputs: each [*shape] (shared) or [B, *shape].
            modules: by name.
            like: points of the batch, [B, n], of their dtype and device.
            jacobian: whether derivatives are taken by `torch.func`, which other
                transforms can see, rather than by autograd.
        """

        def function(point: Tensor) -> Tensor:
            return self.function(point, inputs, modules)

        def residual(point: Tensor) -> Tensor:
            return point - function(point) if self.is_fixed_point else function(point)

        def derivative(point: Tensor) -> Tensor:
            of_function = self.function.jacobian(point, inputs, modules)
            if not self.is_fixed_point:
                return of_function
            one = torch.eye(point.shape[1], dtype=point.dtype, device=point.device)
            return one - of_function

        return RootProgram(
            residual,
            like.shape[0],
            like.shape[1],
            function if self.is_fixed_point else None,
            None if self.lower is None else self.lower.to(like),
            None if self.upper is None else self.upper.to(like),
            derivative if jacobian else None,
        )


def _make(given: dict[str, Any]) -> RootPlan:
    return RootPlan(**given)
