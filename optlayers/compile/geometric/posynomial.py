"""Positive tensors as sums of exponentials, the currency of the change of variables.

Sums only relabel owners and products only add logarithms, so that a posynomial reaches
the solver as one log-sum-exp, however it was written.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from optlayers.compile.geometric.curvature import Curvature, NotGeometric
from optlayers.compile.geometric.nodes import gathered, joined, node, reshaped, scaled
from optlayers.modeling.expressions import Expression
from optlayers.modeling.origin import Origin

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Posynomial:
    """A tensor of sums of terms, each known by its logarithm.

    Entry i is the sum of exp(logs[t]) over the terms t with owner[t] == i; an entry
    that owns no term is zero.

    Attributes:
        logs: logarithms of the terms, [terms] (at every stage if it is staged).
        owner: the entry, in C order, that each term belongs to, int64 [terms].
        shape: shape of the tensor, of one sample at one stage.
        bend: log-log curvature of the terms.
    """

    logs: Expression
    owner: np.ndarray
    shape: Shape
    bend: Curvature

    def __post_init__(self) -> None:
        if self.bend is Curvature.CONCAVE and self.counts.max(initial=0) > 1:
            raise NotGeometric(
                "adds up terms of which one is log-log concave; only monomials and "
                "log-log convex terms can be added. Introduce a variable for it and "
                "bound that by a constraint."
            )

    @classmethod
    def of_logs(cls, logs: Expression, bend: Curvature) -> "Posynomial":
        """The tensor whose entries have these logarithms, [*shape]."""
        size = int(np.prod(logs.shape, dtype=int))
        return cls(reshaped(logs, (size,)), np.arange(size), logs.shape, bend)

    # ---- what is known of it ---------------------------------------------------------

    @property
    def size(self) -> int:
        """Number of entries."""
        return int(np.prod(self.shape, dtype=int))

    @cached_property
    def counts(self) -> np.ndarray:
        """Number of terms of each entry, [size]."""
        return np.bincount(self.owner, minlength=self.size)

    @property
    def support(self) -> np.ndarray:
        """Which entries are not zero, bool [*shape]."""
        return (self.counts > 0).reshape(self.shape)

    @property
    def curvature(self) -> Curvature:
        """Log-log curvature of the whole."""
        if self.bend is Curvature.AFFINE and self.counts.max(initial=0) > 1:
            return Curvature.CONVEX
        return self.bend

    # ---- entries moved ---------------------------------------------------------------

    def take(self, entries: np.ndarray) -> "Posynomial":
        """The tensor of the entries of these numbers; -1 stands for zero."""
        flat = np.asarray(entries, dtype=np.int64).ravel()
        order = np.argsort(self.owner, kind="stable")
        first = np.cumsum(self.counts) - self.counts
        many = np.where(flat >= 0, self.counts[flat], 0) if self.size else flat * 0
        owner = np.repeat(np.arange(flat.size), many)
        rank = np.arange(owner.size) - np.repeat(np.cumsum(many) - many, many)
        terms = order[np.repeat(first[flat], many) + rank]
        return Posynomial(gathered(self.logs, terms), owner, entries.shape, self.bend)

    def broadcast(self, shape: Shape) -> "Posynomial":
        """The tensor in a shape it broadcasts to."""
        if self.shape == shape:
            return self
        return self.take(np.broadcast_to(self.numbers, shape))

    @property
    def numbers(self) -> np.ndarray:
        """The number of each entry, int64 [*shape]."""
        return np.arange(self.size).reshape(self.shape)

    # ---- arithmetic ------------------------------------------------------------------

    def summed(self, into: np.ndarray, shape: Shape) -> "Posynomial":
        """Entries added up: entry i of this becomes part of entry into[i]."""
        owner = np.asarray(into, dtype=np.int64).ravel()[self.owner]
        return replace(self, owner=owner, shape=shape)

    def times(self, other: "Posynomial") -> "Posynomial":
        """The product, entry by entry, of shapes that broadcast."""
        shape = np.broadcast_shapes(self.shape, other.shape)
        one, many = self.broadcast(shape), other.broadcast(shape)
        if one.counts.max(initial=0) > 1:
            one, many = many, one
        if one.counts.max(initial=0) > 1:
            one, many = one.condensed(), many.condensed()
        bend = one.bend + many.bend
        partner = np.full(one.size, -1)
        partner[one.owner] = np.arange(len(one.owner))
        partners = partner[many.owner]
        kept = np.flatnonzero(partners >= 0)
        left = gathered(one.logs, partners[kept])
        right = gathered(many.logs, kept)
        logs = node("add", left, right, origin=many.logs.origin)
        return Posynomial(logs, many.owner[kept], shape, bend)

    def power(self, exponent: float | Expression) -> "Posynomial":
        """Entries raised to a number, or to an expression of parameters."""
        if isinstance(exponent, Expression):
            return self._parametric_power(exponent)
        if exponent < 0:
            self.check_support("divides by")
        if exponent == 0:
            raise ValueError("the power zero is the constant one")
        one = self.condensed()
        bend = one.bend if exponent > 0 else -one.bend
        return replace(one, logs=scaled(exponent, one.logs), bend=bend)

    def _parametric_power(self, exponent: Expression) -> "Posynomial":
        self.check_support("raises to a power given by parameters")
        shape = np.broadcast_shapes(self.shape, exponent.shape)
        one = self.broadcast(shape).condensed()
        bend = one.bend
        if bend is not Curvature.AFFINE and not exponent.sign.is_nonneg:
            if not exponent.sign.is_nonpos:
                raise NotGeometric(
                    "raises what is no monomial to a power of unknown sign. Declare "
                    "the exponent nonneg=True, or write ol.nonneg(...) around it."
                )
            bend = -bend
        size = int(np.prod(exponent.shape, dtype=int))
        numbers = np.arange(size).reshape(exponent.shape)
        places = np.broadcast_to(numbers, shape).ravel()
        factor = gathered(reshaped(exponent, (size,)), places)
        return Posynomial(
            scaled(factor, reshaped(one.log(), (one.size,))),
            np.arange(one.size),
            shape,
            bend,
        )

    def condensed(self) -> "Posynomial":
        """The same tensor, one term an entry: the log-sum-exp of those it had."""
        if self.counts.max(initial=0) <= 1:
            return self
        entries = np.flatnonzero(self.counts)
        return Posynomial(self._log_of(entries), entries, self.shape, self.curvature)

    # ---- logarithm -------------------------------------------------------------------

    def log(self) -> Expression:
        """The logarithm, [*shape].

        Raises:
            NotGeometric: some entries are zero.
        """
        self.check_support("needs the logarithm of")
        return reshaped(self._log_of(np.arange(self.size)), self.shape)

    def check_support(self, verb: str) -> None:
        """Refuse entries that are zero.

        Raises:
            NotGeometric: there are some; `verb` says what became of them.
        """
        if self.counts.min(initial=1) < 1:
            where = [int(k) for k in np.argwhere(~self.support)[0]]
            what = f"entries that are zero, such as {where}" if where else "zero"
            raise NotGeometric(f"{verb} {what}; all must be positive.")

    def _log_of(self, entries: np.ndarray) -> Expression:
        """Logarithms of some entries, [len(entries)], one log-sum-exp a count."""
        order = np.argsort(self.owner, kind="stable")
        first = np.cumsum(self.counts) - self.counts
        own = self.counts[entries]
        parts, places = [], []
        for count in np.unique(own):
            chosen = np.flatnonzero(own == count)
            terms = order[first[entries[chosen], None] + np.arange(count)]
            places.append(chosen)
            if count == 1:
                parts.append(gathered(self.logs, terms[:, 0]))
                continue
            rows = gathered(self.logs, terms)
            origin = self.logs.origin
            parts.append(node("log_sum_exp", rows, origin=origin, axis=1))
        back = np.argsort(np.concatenate(places))
        return gathered(joined(parts, self.logs.origin), back)


def added(parts: Sequence[Posynomial], origin: Origin) -> Posynomial:
    """The sum of tensors whose shapes broadcast."""
    shape = np.broadcast_shapes(*(one.shape for one in parts))
    spread = [one.broadcast(shape) for one in parts]
    return _united(spread, [one.owner for one in spread], shape, origin)


def stacked(parts: Sequence[Posynomial], origin: Origin) -> Posynomial:
    """All entries of all tensors as one vector, the first tensor's first."""
    ends = np.cumsum([one.size for one in parts])
    owners = [one.owner + end - one.size for one, end in zip(parts, ends, strict=True)]
    return _united(parts, owners, (int(ends[-1]),), origin)


def _united(
    parts: Sequence[Posynomial],
    owners: Sequence[np.ndarray],
    shape: Shape,
    origin: Origin,
) -> Posynomial:
    bend = Curvature.AFFINE
    for one in parts:
        try:
            bend = bend + one.bend
        except NotGeometric:
            raise NotGeometric(
                "brings together a log-log convex and a log-log concave part, and "
                "nothing is known of the whole."
            ) from None
    present = [one for one in parts if len(one.owner)]
    logs = joined([one.logs for one in (present or parts[:1])], origin)
    owner = np.concatenate([np.zeros(0, np.int64), *owners])
    return Posynomial(logs, owner, shape, bend)
