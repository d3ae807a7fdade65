"""Smooth minimization and the residual whose zero is a point that may be a minimum.

minimize f(x) subject to h(x) = 0, r(x) <= 0, bounds among the rows of r. With
lam = max(v, 0), s = lam - v the KKT conditions are
F(x, y, v) = [grad f + Jh'y + Jr'lam ; h(x) ; r(x) + s] = 0.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from optlayers.errors import ParameterError, ShapeError
from optlayers.interfaces import Kind
from optlayers.linalg.dense import DenseOperator
from optlayers.linalg.pattern import Pattern
from optlayers.programs.bounds import Bound, bounds_of
from optlayers.programs.complementarity import (
    multiplier_and_slack,
    slope_of_multiplier,
)
from optlayers.programs.root import Evaluation as Differentiable
from optlayers.programs.separable import Separable
from optlayers.programs.violation import largest_violation

BatchFunction = Callable[[Tensor], Tensor]

# From this many numbers on (B times the length of the gradient and the constraints),
# the Hessian and the constraints' Jacobian are faster apart, as constraints need no
# second derivative: 3.8 ms against 5.2 for n = m = 10, batch 256.
APART = 500


class Split(NamedTuple):
    """The parts of a KKT point.

    Attributes:
        x: the unknowns, [B, n].
        y: multipliers of the equalities, [B, me].
        lam: multipliers of the rows, [B, m], not negative.
        s: slacks of the rows, [B, m], not negative.
    """

    x: Tensor
    y: Tensor
    lam: Tensor
    s: Tensor


@dataclass(frozen=True, eq=False)
class MinimizeProgram:
    """B smooth problems of one size; row i of every function depends on row i alone.

    Attributes:
        objective: f, [B, n] -> [B].
        batch_size: the number of problems B.
        size: the number of unknowns n.
        equalities: h with h(x) = 0, [B, n] -> [B, me].
        inequalities: g with g(x) <= 0, [B, n] -> [B, mi].
        equality_count: me.
        inequality_count: mi.
        lower, upper: bounds, [n] or [B, n]; infinite entries stand for none.
        residuals: r, [B, n] -> [B, k], if the objective is the sum of their squares, or
            of a loss of each.
        loss: phi, [B, k] -> [B, k], each entry a function of its own residual alone, if
            the objective is the sum of phi(r); None where it is that of the squares.
        pattern: where dr/dx may have entries, row by row, where it is known.
        sides: `bounds` of lower and upper, where they have been looked up before.
        barrier: mu of lam s = mu, whose solutions are the minima of f - mu sum(log(s));
            0 for the KKT conditions themselves.
        separable: the objective as a sum of functions of affine functions, if it is
            known to be one; gives the Hessian.
    """

    objective: BatchFunction
    batch_size: int
    size: int
    equalities: BatchFunction | None = None
    inequalities: BatchFunction | None = None
    equality_count: int = 0
    inequality_count: int = 0
    lower: Tensor | None = None
    upper: Tensor | None = None
    residuals: BatchFunction | None = None
    loss: BatchFunction | None = None
    pattern: Pattern | None = None
    sides: tuple[Bound, ...] | None = None
    barrier: float = 0.0
    separable: Separable | None = None
    kind: ClassVar[Kind] = Kind.MINIMIZE

    @property
    def bounds(self) -> tuple[Bound, ...]:
        """The sides on which some unknown is bounded, lower before upper."""
        return self._found_bounds if self.sides is None else self.sides

    @cached_property
    def _found_bounds(self) -> tuple[Bound, ...]:
        return bounds_of(self.lower, self.upper)

    @property
    def row_count(self) -> int:
        """The number m of rows: inequalities, lower bounds, upper bounds."""
        return self.inequality_count + sum(len(side.columns) for side in self.bounds)

    @property
    def is_constrained(self) -> bool:
        """Whether there is any constraint or bound."""
        return self.equality_count > 0 or self.row_count > 0

    @property
    def highest_order(self) -> None:
        """No limit that is known here: the functions say how smooth they are."""

    def value(self, x: Tensor) -> Tensor:
        """f(x), [B, n] -> [B].

        Raises:
            ShapeError: the objective is not one number for each sample.
            ParameterError: it has another dtype than x.
        """
        return _checked("objective", self.objective(x), x.shape[:1], x)

    def equality(self, x: Tensor) -> Tensor:
        """h(x), [B, n] -> [B, me].

        Raises:
            ShapeError, ParameterError: as of `value`.
        """
        shape = (len(x), self.equality_count)
        if self.equalities is None:
            return x.new_zeros(shape)
        return _checked("equalities", self.equalities(x), shape, x)

    def rows(self, x: Tensor) -> Tensor:
        """r(x) = (g(x), lower - x, x - upper), which must be <= 0, [B, n] -> [B, m].

        The row of a bound that a sample does not have is -1.

        Raises:
            ShapeError, ParameterError: as of `value`.
        """
        parts = [self._inequality(x)]
        for side in self.bounds:
            row = side.sign * (x[:, side.columns] - side.limit)
            parts.append(torch.where(side.is_finite, row, -1.0))
        return torch.cat(parts, 1) if len(parts) > 1 else parts[0]

    def clamp(self, x: Tensor) -> Tensor:
        """The nearest point within the bounds, [B, n] -> [B, n]."""
        if self.lower is None and self.upper is None:
            return x
        return x.clamp(self.lower, self.upper)

    def evaluate(
        self, x: Tensor, y: Tensor | None = None, lam: Tensor | None = None
    ) -> "Evaluation":
        """All functions at x, [B, n], with the graph from which derivatives come.

        Args:
            x: [B, n].
            y: multipliers of the equalities in the Lagrangian, [B, me], or None.
            lam: multipliers of the rows, [B, m], or None.
        """
        with recording():
            x = leaf(x)
            is_curved = self.separable is None
            return self._evaluated(x, _constant(y), _constant(lam), is_curved)

    def gradient(self, x: Tensor) -> Tensor:
        """grad f, [B, n] -> [B, n], detached."""
        with recording():
            x = leaf(x)
            return _slope(self.value(x), x, create_graph=False).detach()

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """f and grad f, [B] and [B, n], both detached."""
        with recording():
            x = leaf(x)
            value = self.value(x)
            return value.detach(), _slope(value, x, create_graph=False).detach()

    def hessian_of_lagrangian(
        self, x: Tensor, y: Tensor | None = None, lam: Tensor | None = None
    ) -> Tensor:
        """The second derivative of f + y'h + lam'r in x, [B, n, n], detached."""
        return self.evaluate(x, y, lam).derivatives()[0]

    def jacobians(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """dh/dx and dr/dx, [B, me, n] and [B, m, n], detached."""
        with recording():
            x = leaf(x)
            values = torch.cat([self.equality(x), self._inequality(x)], 1)
            return self._with_bounds(Differentiable(x, values).jacobian(), x)

    def products(
        self, x: Tensor, y: Tensor | None = None, lam: Tensor | None = None
    ) -> BatchFunction:
        """The map v -> H v of the Lagrangian's Hessian H, forming no matrix."""
        with recording():
            found = self._evaluated(leaf(x), _constant(y), _constant(lam))

        def product(v: Tensor) -> Tensor:
            if not found.slope.requires_grad:
                return torch.zeros_like(v)
            (image,) = torch.autograd.grad(
                found.slope, found.x, v, retain_graph=True, allow_unused=True,
                materialize_grads=True,
            )  # fmt: skip
            return image

        return product

    def split(self, point: Tensor) -> Split:
        """The parts of z = (x, y, v), [B, n + me + m]."""
        sizes = (self.size, self.equality_count, self.row_count)
        x, y, v = point.split(sizes, 1)
        return Split(x, y, *multiplier_and_slack(v, self.barrier))

    def point(self, x: Tensor, y: Tensor, lam: Tensor, s: Tensor) -> Tensor:
        """z = (x, y, lam - s), [B, n + me + m]."""
        return torch.cat([x, y, lam - s], 1)

    def point_at(self, x: Tensor, y: Tensor, lam: Tensor) -> Tensor:
        """z with the slacks that x has, [B, n + me + m], without derivatives."""
        with torch.no_grad():
            return self.point(x, y, lam, (-self.rows(x)).clamp_min(0))

    def residual(self, point: Tensor) -> Tensor:
        """F(z), [B, n + me + m] -> same, zero exactly at a KKT point."""
        is_wanted = torch.is_grad_enabled()
        with recording():
            x, y, lam, s = self.split(point if is_wanted else leaf(point).detach())
            x = x if x.requires_grad else leaf(x)
            found = self._evaluated(x, y, lam)
            value = torch.cat([found.slope, found.equality, found.rows + s], 1)
        return value if is_wanted else value.detach()

    def linearize(self, point: Tensor) -> DenseOperator:
        """dF/dz at `point`, factorized, cut from every derivative."""
        return DenseOperator.from_matrix(self.jacobian(point))

    def jacobian(self, point: Tensor) -> Tensor:
        """dF/dz = [H Jh' Jr'D ; Jh 0 0 ; Jr 0 D - I], detached; D = dlam/dv."""
        x, y, lam, _ = self.split(point.detach())
        H, Jh, Jr = self.evaluate(x, y, lam).derivatives()
        v = point.detach()[:, self.size + self.equality_count :]
        D = slope_of_multiplier(v, self.barrier)
        me, m = self.equality_count, self.row_count
        top = torch.cat([H, Jh.mT, Jr.mT * D.unsqueeze(1)], 2)
        middle = torch.cat([Jh, Jh.new_zeros(len(x), me, me + m)], 2)
        corner = [Jr, Jr.new_zeros(len(x), m, me), torch.diag_embed(D - 1)]
        return torch.cat([top, middle, torch.cat(corner, 2)], 1)

    def violation(self, point: Tensor, own_terms: Tensor | None = None) -> Tensor:
        """The largest entry of F(z), relative, [B]; inf where one, or f, is not finite.

        Args:
            point: z, [B, n + me + m].
            own_terms: as of `largest_violation`.
        """
        with recording():
            x, y, lam, s = self.split(leaf(point).detach())
            x = leaf(x)
            found = self._evaluated(x, y, lam)
        gradient = found.gradient.detach()
        return largest_violation(
            found.value.detach(), gradient, found.slope.detach() - gradient,
            found.equality.detach(), found.rows.detach(), s, own_terms,
        )  # fmt: skip

    def depends_on_parameters(self, x: Tensor) -> bool:
        """Whether a tensor that the functions close over asks for a gradient."""
        x = x.detach()
        with recording():
            found = (self.value(x), self.equality(x), self.rows(x))
        return any(one.requires_grad for one in found)

    def _inequality(self, x: Tensor) -> Tensor:
        shape = (len(x), self.inequality_count)
        if self.inequalities is None:
            return x.new_zeros(shape)
        return _checked("inequalities", self.inequalities(x), shape, x)

    def _evaluated(
        self,
        x: Tensor,
        y: Tensor | None,
        lam: Tensor | None,
        is_curved: bool = True,
    ) -> "Evaluation":
        """The functions; grad f without its derivative unless `is_curved`."""
        value, equality = self.value(x), self.equality(x)
        gradient = slope = _slope(value, x, create_graph=is_curved)
        rows = self.rows(x)
        terms = [] if y is None else [(y * equality).sum(1)]
        terms += [] if lam is None else [(lam * rows).sum(1)]
        if self.is_constrained and terms:
            slope = gradient + _slope(sum(terms[1:], terms[0]), x, create_graph=True)
        return Evaluation(self, x, value, equality, rows, gradient, slope)

    def _with_bounds(self, jacobian: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Jh and Jr from the Jacobian of (h, g), [B, me + mi, n]."""
        Jh, Jg = jacobian.split((self.equality_count, self.inequality_count), 1)
        parts = [Jg]
        for side in self.bounds:
            unit = torch.eye(self.size, dtype=x.dtype, device=x.device)[side.columns]
            sign = (side.sign * side.is_finite).to(x.dtype)
            parts.append((sign.unsqueeze(-1) * unit).expand(len(x), -1, -1))
        return Jh, torch.cat(parts, 1) if len(parts) > 1 else Jg


class Evaluation(NamedTuple):
    """The functions of a program at a point, with the graph that leads there.

    Attributes:
        program: whose functions.
        x: [B, n], a leaf unless the caller asked for more.
        value: f(x), [B].
        equality: h(x), [B, me].
        rows: r(x), [B, m].
        gradient: grad f, [B, n].
        slope: grad f + Jh'y + Jr'lam, [B, n]; without the derivative of grad f where
            the program is separable.
    """

    program: MinimizeProgram
    x: Tensor
    value: Tensor
    equality: Tensor
    rows: Tensor
    gradient: Tensor
    slope: Tensor

    def derivatives(self) -> tuple[Tensor, Tensor, Tensor]:
        """The Hessian of the Lagrangian, dh/dx and dr/dx, detached.

        [B, n, n], [B, me, n] and [B, m, n]; only once, as it may free the graph.
        """
        # Where the caller takes no gradients, these are wanted all the same.
        with recording():
            own = self.rows[:, : self.program.inequality_count]
            values = torch.cat([self.equality, own], 1)
            H, rest = _both_jacobians(self.x, self.slope, values)
        if self.program.separable is not None:
            H = H + self.program.separable.hessian(self.x.detach())
        return (H + H.mT) / 2, *self.program._with_bounds(rest, self.x.detach())


def _both_jacobians(x: Tensor, slope: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Of the gradient, [B, n], and of constraints, [B, k], in x; frees the graph."""
    n, k = slope.shape[1], values.shape[1]
    if k and len(x) * (n + k) >= APART:
        constraints = Differentiable(x, values).jacobian(keep_graph=True)
        return Differentiable(x, slope).jacobian(), constraints
    together = Differentiable(x, torch.cat([slope, values], 1)).jacobian()
    return together[:, :n], together[:, n:]


@contextmanager
def recording() -> Iterator[None]:
    """Where derivatives are taken, whatever the caller has switched off."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def leaf(x: Tensor) -> Tensor:
    """The same numbers as a variable to differentiate in; inside `recording`."""
    x = x.clone() if x.is_inference() else x.detach()
    return x.requires_grad_()


def _slope(value: Tensor, x: Tensor, *, create_graph: bool) -> Tensor:
    """The gradient of each sample's number, [B] -> [B, n]."""
    if not value.requires_grad:
        return torch.zeros_like(x)
    (slope,) = torch.autograd.grad(
        value.sum(), x, create_graph=create_graph, allow_unused=True,
        materialize_grads=True,
    )  # fmt: skip
    return slope


def _constant(multipliers: Tensor | None) -> Tensor | None:
    return None if multipliers is None else leaf(multipliers).detach()


def _checked(name: str, value: Tensor, shape: tuple[int, ...], x: Tensor) -> Tensor:
    if not isinstance(value, Tensor) or tuple(value.shape) != tuple(shape):
        shown = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ShapeError(
            f"the {name} of points {list(x.shape)} returned {shown}; {list(shape)} is "
            "needed, one row for each sample."
        )
    if value.dtype != x.dtype:
        raise ParameterError(
            f"the {name} returned {value.dtype} for points of {x.dtype}: what it "
            "closes over must have the dtype of the start."
        )
    return value
