"""Systems of equations and the residual whose zero is their solution.

B systems of n equations in n unknowns, F(z) = 0, as one function of a batch whose rows
are independent. A fixed point z = map(z) is the system z - map(z) = 0 and keeps `map`.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from optlayers.errors import ShapeError
from optlayers.interfaces import Kind
from optlayers.linalg.dense import DenseOperator

BatchFunction = Callable[[Tensor], Tensor]

# Up to this many unknowns one product with the transposed Jacobian after the other is
# as fast as all at once; at n = 10, batch 1024, they take 2.2 ms against 1.5.
LOOPED_ROWS = 3


@dataclass(frozen=True, eq=False)
class RootProgram:
    """B systems of equations of one size.

    Attributes:
        function: F, [B, n] -> [B, n]; row i of the result depends on row i alone.
        batch_size: the number of systems B.
        size: the number of unknowns n.
        map: G of the fixed point z = G(z), [B, n] -> [B, n], if that is what was
            declared; F(z) = z - G(z) then.
        lower, upper: bounds that choose among several roots, each [n], [B, n] or None.
        derivative: dF/dz, [B, n] -> [B, n, n], where not autograd shall take it.
    """

    function: BatchFunction
    batch_size: int
    size: int
    map: BatchFunction | None = None
    lower: Tensor | None = None
    upper: Tensor | None = None
    derivative: BatchFunction | None = None
    kind: ClassVar[Kind] = Kind.ROOT

    @classmethod
    def from_map(cls, map: BatchFunction, batch_size: int, size: int) -> "RootProgram":
        """The system z - map(z) = 0, which knows its map."""

        def residual(point: Tensor) -> Tensor:
            return point - map(point)

        return cls(residual, batch_size, size, map)

    @property
    def highest_order(self) -> None:
        """No limit that is known here: the function says how smooth it is."""

    def residual(self, point: Tensor) -> Tensor:
        """F(z), [B, n] -> [B, n].

        Raises:
            ShapeError: the function returns another shape.
        """
        value = self.function(point)
        if value.shape != point.shape:
            raise ShapeError(
                f"the residual of a point {list(point.shape)} has shape "
                f"{list(value.shape)}; as many equations as unknowns are needed, and "
                "one row for each sample."
            )
        return value

    def image(self, point: Tensor) -> Tensor:
        """G(z) of a fixed point, [B, n] -> [B, n], without derivatives.

        Raises:
            ShapeError: there is no map, or it returns another shape.
        """
        with torch.no_grad():
            return self.differentiable_image(point)

    def differentiable_image(self, point: Tensor) -> Tensor:
        """G(z) of a fixed point, [B, n] -> [B, n].

        Raises:
            ShapeError: there is no map, or it returns another shape.
        """
        if self.map is None:
            raise ShapeError("this system has no map; make it by RootProgram.from_map.")
        value = self.map(point)
        if value.shape != point.shape:
            raise ShapeError(
                f"the map takes a point {list(point.shape)} to {list(value.shape)}; "
                "it must keep the shape."
            )
        return value

    def clamp(self, point: Tensor) -> Tensor:
        """The nearest point within the bounds, [B, n] -> [B, n]."""
        if self.lower is None and self.upper is None:
            return point
        return point.clamp(self.lower, self.upper)

    def jacobian(self, point: Tensor) -> Tensor:
        """dF/dz, [B, n] -> [B, n, n], detached."""
        if self.derivative is not None:
            return self.derivative(point.detach()).detach()
        return self.evaluate(point).jacobian()

    def residual_and_jacobian(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """F(z) and dF/dz, [B, n] and [B, n, n], both detached."""
        found = self.evaluate(point)
        return found.residual, found.jacobian()

    def evaluate(self, point: Tensor) -> "Evaluation":
        """F(z) of [B, n], from which the Jacobian may be had without another one."""
        with torch.enable_grad():
            point = point.detach().requires_grad_()
            return Evaluation(point, self.residual(point))

    def products(self, point: Tensor) -> BatchFunction:
        """The map v -> (dF/dz) v at `point`, [B, n] -> [B, n], forming no matrix."""

        @cache
        def graph() -> tuple[Tensor, Tensor] | None:
            found = self.evaluate(point)
            if not found.value.requires_grad:
                return None
            # J'w is linear in w, so its derivative along v is J v; one graph serves
            # all products, and nothing need be differentiable in forward mode.
            with torch.enable_grad():
                w = torch.zeros_like(found.value).requires_grad_()
                (image,) = torch.autograd.grad(
                    found.value, found.point, w, create_graph=True,
                    materialize_grads=True,
                )  # fmt: skip
            return image, w

        def product(v: Tensor) -> Tensor:
            made = graph()
            if made is None or not made[0].requires_grad:
                return torch.zeros_like(v)
            (along,) = torch.autograd.grad(
                *made, v, retain_graph=True, materialize_grads=True
            )
            return along

        return product

    def transposed_products(self, point: Tensor) -> BatchFunction:
        """The map w -> (dF/dz)' w at `point`, [B, n] -> [B, n], forming no matrix."""

        @cache
        def graph() -> Evaluation:
            return self.evaluate(point)

        def product(w: Tensor) -> Tensor:
            found = graph()
            if not found.value.requires_grad:
                return torch.zeros_like(w)
            (image,) = torch.autograd.grad(
                found.value, found.point, w, retain_graph=True, materialize_grads=True
            )
            return image

        return product

    def linearize(self, point: Tensor) -> DenseOperator:
        """dF/dz at `point`, factorized, cut from every derivative."""
        return DenseOperator.from_matrix(self.jacobian(point))


class Evaluation(NamedTuple):
    """F at a point, with the graph that leads there.

    Attributes:
        point: z, [B, n], a leaf.
        value: F(z), [B, n], differentiable in it.
    """

    point: Tensor
    value: Tensor

    @property
    def residual(self) -> Tensor:
        """F(z) alone, [B, n]."""
        return self.value.detach()

    def jacobian(self, *, keep_graph: bool = False) -> Tensor:
        """dF/dz, [B, n, n], detached; it frees the graph unless that shall be kept.

        Of a value [B, k] it is [B, k, n].

        As rows are independent, the derivative of a column's sum holds every sample's.
        """
        point, value = self
        batch, size = value.shape
        if not value.requires_grad or not size:
            return point.new_zeros(*value.shape, point.shape[1])
        if size > LOOPED_ROWS:
            unit = torch.eye(size, dtype=value.dtype, device=value.device)
            with suppress(RuntimeError):  # an operator in F that cannot be mapped
                (rows,) = torch.autograd.grad(
                    value, point, unit.unsqueeze(1).expand(-1, batch, -1),
                    retain_graph=True, is_grads_batched=True, allow_unused=True,
                    materialize_grads=True,
                )  # fmt: skip
                return rows.movedim(0, 1)
        with torch.enable_grad():
            sums = value.sum(0).unbind()
        kept = [True] * (size - 1) + [keep_graph]
        rows = [_product(*one, point) for one in zip(sums, kept, strict=True)]
        return torch.stack(rows, 1)


def _product(total: Tensor, keep_graph: bool, point: Tensor) -> Tensor:
    """The gradient of a sum."""
    if not total.requires_grad:
        return torch.zeros_like(point)
    (row,) = torch.autograd.grad(
        total, point, retain_graph=keep_graph, allow_unused=True, materialize_grads=True
    )
    return row
