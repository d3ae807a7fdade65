"""Products of cones, their projections, and the derivatives of these.

Rows come in the order zero, nonneg, soc, psd, exp, power. Everything is stated for the
dual cone K*: y = proj_{K*}(v) and s = y - v in K are complementary.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor

from optlayers.errors import ShapeError
from optlayers.programs.projections import exponential, power, psd, soc
from optlayers.programs.projections.block import Block
from optlayers.programs.projections.derivatives import HIGHEST_ORDER, limited


@dataclass(frozen=True)
class Cones:
    """The cone K = zero x nonneg x soc x psd x exp x power.

    Attributes:
        zero: number of equality rows, s = 0.
        nonneg: number of inequality rows, s >= 0.
        soc: sizes of second-order cones {(t, u): |u| <= t}.
        psd: orders of positive semidefinite cones; order k takes k (k + 1) / 2 rows:
            the upper triangle column by column, off-diagonal entries times sqrt 2.
        exp: number of exponential cones, three rows each.
        power: exponents of three-dimensional power cones, three rows each.

    Raises:
        ShapeError: a count is negative or a size is below 1.
    """

    zero: int = 0
    nonneg: int = 0
    soc: tuple[int, ...] = ()
    psd: tuple[int, ...] = ()
    exp: int = 0
    power: tuple[float, ...] = ()
    # Derived, kept so that nothing is rebuilt per call. `floor` is -inf in zero rows
    # and 0 in nonneg rows; `blocks` are the cones after these, those of equal size side
    # by side, gathered by `order` and put back by `back` (None: already so).
    floor: Tensor = field(init=False, repr=False, compare=False)
    blocks: tuple[Block, ...] = field(init=False, repr=False, compare=False)
    order: Tensor | None = field(init=False, repr=False, compare=False)
    back: Tensor | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("soc", "psd", "power"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        _check_sizes(self)
        linear = self.zero + self.nonneg
        grouped = _group(self)
        rows = [row for group in grouped.values() for row in group]
        order = torch.tensor([*range(linear), *rows], dtype=torch.int64)
        back = order.argsort()
        is_ordered = bool((order == back).all() & (order.diff() == 1).all())
        floor = torch.tensor([-torch.inf] * self.zero + [0.0] * self.nonneg)
        derived = {
            "floor": floor.double(),
            "blocks": _blocks(grouped, self.power),
            "order": None if is_ordered else order,
            "back": None if is_ordered else back,
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    @property
    def size(self) -> int:
        """The number of rows m."""
        return self.zero + self.nonneg + sum(b.number * b.size for b in self.blocks)

    @property
    def slices(self) -> dict[str, slice]:
        """Which rows each kind of cone takes, for all six kinds."""
        slices, first = {}, 0
        for name in ("zero", "nonneg", *_PROJECTIONS):
            rows = getattr(self, name) if name in ("zero", "nonneg") else 0
            rows += sum(b.number * b.size for b in self.blocks if b.name == name)
            slices[name] = slice(first, first + rows)
            first += rows
        return slices

    @property
    def highest_order(self) -> int | None:
        """How often the projection may be differentiated; None: without limit."""
        is_limited = any(block.name != "soc" for block in self.blocks)
        return HIGHEST_ORDER if is_limited else None

    def each(self) -> Iterator[tuple[str, int]]:
        """Kind and rows of every cone, in row order; linear rows one by one."""
        yield from [("zero", 1)] * self.zero
        yield from [("nonneg", 1)] * self.nonneg
        yield from (("soc", size) for size in self.soc)
        yield from (("psd", order * (order + 1) // 2) for order in self.psd)
        yield from [("exp", 3)] * self.exp
        yield from [("power", 3)] * len(self.power)

    def project_dual(self, v: Tensor) -> Tensor:
        """The nearest point of the dual cone, [B, m] -> [B, m].

        Differentiable off the kinks as often as `highest_order` says; at a kink
        autograd gives the element of the generalized derivative that
        `times_derivative` gives.
        """
        linear, *others = self._parts(v)
        projected = [torch.where(self._is_above_floor(linear), linear, 0.0)]
        for block, part in zip(self.blocks, others, strict=True):
            rows = part.unflatten(-1, block.shape)
            y = _PROJECTIONS[block.name](rows, block)
            if block.name != "soc":
                y = limited(y, rows)
            projected.append(y.flatten(-2))
        return self._join(projected)

    def times_derivative(self, matrix: Tensor, v: Tensor) -> Tensor:
        """M D, with D the (symmetric, generalized) derivative of `project_dual` at v.

        Args:
            matrix: M, [k, m] or [B, k, m].
            v: [B, m].

        Returns:
            [B, k, m].
        """
        linear, *others = self._parts(v)
        columns, *other_columns = self._parts(matrix)
        is_above = self._is_above_floor(linear).unsqueeze(1)
        products = [torch.where(is_above, columns, 0.0)]
        for block, part, M in zip(self.blocks, others, other_columns, strict=True):
            D = _DERIVATIVES[block.name](part.unflatten(-1, block.shape), block)
            by_cone = M.unflatten(-1, block.shape).transpose(-2, -3)
            products.append((by_cone @ D).transpose(-2, -3).flatten(-2))
        return self._join(products)

    def project_dual_derivative(self, v: Tensor) -> Tensor:
        """D in the generalized derivative of `project_dual`, symmetric, [B, m, m]."""
        identity = torch.eye(v.shape[1], dtype=v.dtype, device=v.device)
        return self.times_derivative(identity, v)

    def derivative_entries(self, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The entries of D that may differ from zero, at v [B, m].

        Returns:
            Their rows and columns, int64 [k], and values [B, k].
        """
        linear, *others = self._parts(v)
        positions, *blocks = self._parts(torch.arange(self.size))
        rows, cols = [positions], [positions]
        values = [self._is_above_floor(linear).to(v.dtype)]
        for block, part, where in zip(self.blocks, others, blocks, strict=True):
            D = _DERIVATIVES[block.name](part.unflatten(-1, block.shape), block)
            of_cone = where.unflatten(-1, block.shape)
            full = (block.number, block.size, block.size)
            rows.append(of_cone.unsqueeze(2).expand(full).flatten())
            cols.append(of_cone.unsqueeze(1).expand(full).flatten())
            values.append(D.flatten(-3))
        return torch.cat(rows), torch.cat(cols), torch.cat(values, -1)

    @property
    def block_widths(self) -> Tensor:
        """How many entries D may have in each row, int64 [m]."""
        linear = torch.ones(self.zero + self.nonneg, dtype=torch.int64)
        sizes = [
            torch.full((block.number * block.size,), block.size)
            for block in self.blocks
        ]
        return self._join([linear, *sizes])

    def has_kink(self, v: Tensor) -> Tensor | None:
        """Where semidefinite cones make no single derivative, bool [B]; None: nowhere.

        Such a solution lacks strict complementarity: its derivative is one of several.
        """
        _, *others = self._parts(v)
        found = [
            psd.is_kink(part.unflatten(-1, block.shape), block)
            for block, part in zip(self.blocks, others, strict=True)
            if block.name == "psd"
        ]
        return torch.stack(found).any(0) if found else None

    def _is_above_floor(self, linear: Tensor) -> Tensor:
        return linear > self.floor.to(linear.device)

    def _parts(self, values: Tensor) -> tuple[Tensor, ...]:
        """The linear rows, then each block's, of the last axis."""
        if not self.blocks:
            return (values,)
        if self.order is not None:
            values = values.index_select(-1, self.order.to(values.device))
        sizes = [block.number * block.size for block in self.blocks]
        return values.split([self.zero + self.nonneg, *sizes], -1)

    def _join(self, parts: list[Tensor]) -> Tensor:
        if len(parts) == 1:
            return parts[0]
        values = torch.cat(parts, -1)
        if self.back is None:
            return values
        return values.index_select(-1, self.back.to(values.device))


def _check_sizes(cones: Cones) -> None:
    for name in ("zero", "nonneg", "exp"):
        if getattr(cones, name) < 0:
            raise ShapeError(f"Cones({name}={getattr(cones, name)}): give 0 or more.")
    for name in ("soc", "psd"):
        if any(size < 1 for size in getattr(cones, name)):
            raise ShapeError(
                f"Cones({name}={getattr(cones, name)}): each cone needs a size of at "
                "least 1; leave empty cones out."
            )
    if any(not 0 < exponent < 1 for exponent in cones.power):
        raise ShapeError(f"Cones(power={cones.power}): exponents lie between 0 and 1.")


def _group(cones: Cones) -> dict[tuple[str, int], list[int]]:
    """Rows of the cones that share a kind and a size."""
    grouped: dict[tuple[str, int], list[int]] = {}
    first = linear = cones.zero + cones.nonneg
    for name, size in islice(cones.each(), linear, None):
        grouped.setdefault((name, size), []).extend(range(first, first + size))
        first += size
    return grouped


def _blocks(
    grouped: dict[tuple[str, int], list[int]], power: tuple[float, ...]
) -> tuple[Block, ...]:
    blocks = [
        Block(name, len(rows) // size, size) for (name, size), rows in grouped.items()
    ]
    # All power cones have three rows, and so form one block, in their order.
    return tuple(
        b._replace(exponents=power) if b.name == "power" else b for b in blocks
    )


# One function per cone: [B, number, size] -> [B, number, size], and its derivative
# [B, number, size, size].
_PROJECTIONS: Mapping[str, Callable[[Tensor, Block], Tensor]] = {
    "soc": soc.project,
    "psd": psd.project,
    "exp": exponential.project,
    "power": power.project,
}
_DERIVATIVES: Mapping[str, Callable[[Tensor, Block], Tensor]] = {
    "soc": soc.derivative,
    "psd": psd.derivative,
    "exp": exponential.derivative,
    "power": power.derivative,
}
