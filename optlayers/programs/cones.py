"""Products of cones, their projections, and the derivatives of these.

Rows come in the order zero, nonneg, soc, psd, exp, power. Everything is stated for the
dual cone K*: y = proj_{K*}(v) and s = y - v in K are complementary.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from optlayers.errors import NotSupported, ShapeError


class Block(NamedTuple):
    """`count` cones of one kind and of `size` rows each, treated as one batch."""

    name: str
    count: int
    size: int


@dataclass(frozen=True)
class Cones:
    """The cone K = zero x nonneg x soc x psd x exp x power.

    Attributes:
        zero: number of equality rows, s = 0.
        nonneg: number of inequality rows, s >= 0.
        soc: sizes of second-order cones {(t, u): |u| <= t}.
        psd: orders of positive semidefinite cones; order k takes k (k + 1) / 2 rows, the
            upper triangle column by column, off-diagonal entries times sqrt 2.
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
    # Derived, kept so that nothing is rebuilt per call. `order` gathers cones of equal
    # size side by side (None: they already are) and `back` undoes it; `places` says
    # where the entries of the derivative's blocks go in a flattened [m, m].
    blocks: tuple[Block, ...] = field(init=False, repr=False, compare=False)
    order: Tensor | None = field(init=False, repr=False, compare=False)
    back: Tensor | None = field(init=False, repr=False, compare=False)
    places: Tensor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("soc", "psd", "power"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        _check_sizes(self)
        singles = list(_single_cones(self))
        grouped = _group(singles)
        order = torch.tensor([row for rows in grouped.values() for row in rows]).long()
        back = order.argsort()
        is_ordered = bool((order.diff() == 1).all())
        blocks = tuple(
            Block(name, len(rows) // size, size)
            for (name, size), rows in grouped.items()
        )
        object.__setattr__(self, "blocks", blocks)
        object.__setattr__(self, "order", None if is_ordered else order)
        object.__setattr__(self, "back", None if is_ordered else back)
        object.__setattr__(self, "places", _places(blocks, order))

    @property
    def size(self) -> int:
        """The number of rows m."""
        return sum(block.count * block.size for block in self.blocks)

    @property
    def slices(self) -> dict[str, slice]:
        """Which rows each kind of cone takes, for all six kinds."""
        slices, first = {}, 0
        for name in _KINDS:
            rows = sum(b.count * b.size for b in self.blocks if b.name == name)
            slices[name] = slice(first, first + rows)
            first += rows
        return slices

    def project_dual(self, v: Tensor) -> Tensor:
        """The nearest point of the dual cone, [B, m] -> [B, m].

        Twice differentiable off the kinks; at a kink autograd gives the element of the
        generalized derivative that `project_dual_derivative` gives.

        Raises:
            NotSupported: a cone without a projection in this version.
        """
        if not self.blocks:
            return v
        pieces = [
            _PROJECTIONS[block.name](piece.unflatten(1, block[1:])).flatten(1)
            for block, piece in zip(self.blocks, self._pieces(v), strict=True)
        ]
        y = pieces[0] if len(pieces) == 1 else torch.cat(pieces, 1)
        return y if self.back is None else y.index_select(1, self.back.to(v.device))

    def project_dual_derivative(self, v: Tensor) -> Tensor:
        """D in the generalized derivative of `project_dual`, symmetric, [B, m, m].

        Raises:
            NotSupported: a cone without a projection in this version.
        """
        batch, rows = v.shape
        entries = [
            _DERIVATIVES[block.name](piece.unflatten(1, block[1:])).flatten(1)
            for block, piece in zip(self.blocks, self._pieces(v), strict=True)
        ]
        flat = v.new_zeros(batch, rows * rows)
        if entries:
            flat = flat.index_copy(1, self.places.to(v.device), torch.cat(entries, 1))
        return flat.view(batch, rows, rows)

    def _pieces(self, v: Tensor) -> tuple[Tensor, ...]:
        if not self.blocks:
            return ()
        if self.order is not None:
            v = v.index_select(1, self.order.to(v.device))
        return v.split([block.count * block.size for block in self.blocks], 1)


_KINDS = ("zero", "nonneg", "soc", "psd", "exp", "power")


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


def _single_cones(cones: Cones) -> Iterator[tuple[str, int]]:
    """Kind and number of rows of every cone, in row order; scalars are cones of 1."""
    yield from [("zero", 1)] * cones.zero
    yield from [("nonneg", 1)] * cones.nonneg
    yield from (("soc", size) for size in cones.soc)
    yield from (("psd", order * (order + 1) // 2) for order in cones.psd)
    yield from [("exp", 3)] * cones.exp
    yield from [("power", 3)] * len(cones.power)


def _group(singles: list[tuple[str, int]]) -> dict[tuple[str, int], list[int]]:
    """Rows of the cones that share a kind and a size."""
    grouped: dict[tuple[str, int], list[int]] = {}
    first = 0
    for name, size in singles:
        grouped.setdefault((name, size), []).extend(range(first, first + size))
        first += size
    return grouped


def _places(blocks: tuple[Block, ...], order: Tensor) -> Tensor:
    places, first = [order.new_zeros(0)], 0
    for _, count, size in blocks:
        own = order[first : first + count * size].view(count, size)
        places.append((own[:, :, None] * len(order) + own[:, None, :]).flatten())
        first += count * size
    return torch.cat(places)


# One function per cone: [B, count, size] -> [B, count, size], and its derivative
# [B, count, size, size].


def _project_free(v: Tensor) -> Tensor:
    return v


def _project_nonneg(v: Tensor) -> Tensor:
    return v.relu()


def _project_soc(v: Tensor) -> Tensor:
    t, u = v[..., :1], v[..., 1:]
    is_boundary, is_inside, length = _soc_parts(t, u)
    shrunk = 0.5 * torch.cat([t + length, (t / length + 1) * u], -1)
    return torch.where(is_boundary, shrunk, v * is_inside)


def _free_derivative(v: Tensor) -> Tensor:
    return torch.ones_like(v).unsqueeze(-1)


def _nonneg_derivative(v: Tensor) -> Tensor:
    return (v > 0).to(v.dtype).unsqueeze(-1)


def _soc_derivative(v: Tensor) -> Tensor:
    t, u = v[..., :1], v[..., 1:]
    is_boundary, is_inside, length = _soc_parts(t, u)
    # With w = u/|u| and e the first axis, D = [1 w'; w (1 + t/r) I - (t/r) w w'] / 2
    # is the sum ((1 + t/r) (I - e e' - w w') + (e + w)(e + w)') / 2.
    ratio = (t / length).unsqueeze(-1)
    w = u / length
    axis = torch.cat([torch.ones_like(t), w], -1)
    side = torch.cat([torch.zeros_like(t), w], -1)
    identity = torch.eye(v.shape[-1], dtype=v.dtype, device=v.device)
    below = identity.clone()
    below[0, 0] = 0
    boundary = (1 + ratio) * (below - side.unsqueeze(-1) * side.unsqueeze(-2))
    boundary = 0.5 * (boundary + axis.unsqueeze(-1) * axis.unsqueeze(-2))
    inside = is_inside.unsqueeze(-1) * identity
    return torch.where(is_boundary.unsqueeze(-1), boundary, inside)


def _soc_parts(t: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where the projection is on the boundary, where it is v itself, and |u|."""
    squared = u.square().sum(-1, keepdim=True)
    is_boundary = squared > t.square()
    # The inner `where` keeps the derivative of the root finite where it is not used.
    length = torch.where(is_boundary, squared, 1.0).sqrt()
    return is_boundary, (t > 0) & ~is_boundary, length


def _refuse(name: str) -> Callable[[Tensor], Tensor]:
    def refused(v: Tensor) -> Tensor:
        raise NotSupported(
            f"the program has {name} cones, whose projection is not available in this "
            "version; zero, nonneg and soc are. Write the problem with these cones."
        )

    return refused


_PROJECTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "zero": _project_free,
    "nonneg": _project_nonneg,
    "soc": _project_soc,
    "psd": _refuse("psd"),
    "exp": _refuse("exp"),
    "power": _refuse("power"),
}
_DERIVATIVES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "zero": _free_derivative,
    "nonneg": _nonneg_derivative,
    "soc": _soc_derivative,
    "psd": _refuse("psd"),
    "exp": _refuse("exp"),
    "power": _refuse("power"),
}
