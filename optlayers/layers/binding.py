"""Tensors bound when a layer is constructed, and how a learned one stays declared.

A parameter declared nonneg and bound to an nn.Parameter is read through a map onto
the declared set that leaves admissible values as they are, so that learning can never
leave the declaration and the value at the start is the one that was given.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from optlayers.compile.checks import field_checks
from optlayers.errors import InvalidDataError
from optlayers.geometry.groups import Group
from optlayers.modeling.fields import BoundField, Field


@dataclass(frozen=True)
class Constrained:
    """How the raw nn.Parameter of one declared parameter is read.

    Attributes:
        raw: from the given nn.Parameter to the one that is registered.
        read: from the registered one to the declared set.
    """

    raw: Callable[[nn.Parameter], nn.Parameter]
    read: Callable[[Tensor], Tensor]


def constrain(field: Field | BoundField) -> Constrained:
    """The parametrization that keeps an nn.Parameter inside its declaration."""
    if field.psd:
        return Constrained(_square_root, _gram)
    if field.group is not None:
        return Constrained(_Tangent(field.group), field.group.exp)
    lower, upper = field.lower, field.upper
    if field.nonneg and lower is None:
        lower = 0.0
    if field.nonpos and upper is None:
        upper = 0.0
    fold = _identity if lower is None and upper is None else _Fold(lower, upper)
    if not field.symmetric:
        return Constrained(_same, fold)
    mirror = None if field.pattern is None else field.pattern.mirror
    return Constrained(_same, _SymmetricFold(fold, mirror))


def check_admissible(name: str, field: Field, value: nn.Parameter) -> None:
    """Refuse a start outside the declaration, which its map would move silently.

    Raises:
        InvalidDataError: it is not finite, or breaks an attribute of the field.
    """
    start = value.detach().cpu().numpy()
    for check in field_checks(name, field, len(field.dimensions)):
        if not check.holds(start):
            raise InvalidDataError(f"{check.describe(start, 0)}; start it inside.")


@dataclass(frozen=True)
class _Tangent:
    """Poses are learned as the tangents that lead to them from the identity."""

    group: Group

    def __call__(self, given: nn.Parameter) -> nn.Parameter:
        tangent = self.group.log(given.detach())
        return nn.Parameter(tangent, requires_grad=given.requires_grad)


@dataclass(frozen=True)
class _Fold:
    """Reflect at the bounds: identity inside, slope one up to sign everywhere."""

    lower: float | Tensor | None
    upper: float | Tensor | None

    def __call__(self, raw: Tensor) -> Tensor:
        lower = _like(self.lower, raw)
        upper = _like(self.upper, raw)
        if upper is None and lower is not None:
            return torch.where(raw >= lower, raw, 2 * lower - raw)
        if lower is None and upper is not None:
            return torch.where(raw <= upper, raw, 2 * upper - raw)
        assert lower is not None and upper is not None
        width = upper - lower
        period = torch.remainder(raw - lower, 2 * width)
        inside = (raw >= lower) & (raw <= upper)
        folded = lower + torch.where(period <= width, period, 2 * width - period)
        return torch.where(inside, raw, folded)


@dataclass(frozen=True)
class _SymmetricFold:
    fold: Callable[[Tensor], Tensor]
    mirror: Tensor | None

    def __call__(self, raw: Tensor) -> Tensor:
        if self.mirror is None:
            return self.fold(_symmetrize(raw))
        across = raw.index_select(-1, self.mirror.to(raw.device))
        return self.fold((raw + across) / 2)


def _like(bound: float | Tensor | None, raw: Tensor) -> Tensor | None:
    if bound is None:
        return None
    return torch.as_tensor(bound, dtype=raw.dtype, device=raw.device)


def _same(given: nn.Parameter) -> nn.Parameter:
    return given


def _identity(raw: Tensor) -> Tensor:
    return raw


def _symmetrize(raw: Tensor) -> Tensor:
    return (raw + raw.mT) / 2


def _square_root(given: nn.Parameter) -> nn.Parameter:
    values, vectors = torch.linalg.eigh(_symmetrize(given.detach()))
    root = vectors * values.clamp_min(0).sqrt().unsqueeze(-2)
    return nn.Parameter(root, requires_grad=given.requires_grad)


def _gram(raw: Tensor) -> Tensor:
    return raw @ raw.mT
