"""What a declaration promises of its parameters, checked before any solver runs.

The common case, all samples right, costs one reduction a check.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from optlayers.linalg.definite import is_semidefinite, is_symmetric
from optlayers.linalg.pattern import Pattern
from optlayers.solution import Status

Attribute = Literal[
    "finite", "pos", "nonneg", "nonpos", "symmetric", "psd", "lower", "upper", "pose",
    "increasing",
]  # fmt: skip

# Matrices are formed in the parameter's own precision: their symmetry and their
# eigenvalues are known up to this many of its roundings.
ROUNDINGS = 100

# Fixed width, so that any array of numbers fits: bool [B].
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Check:
    """One promise about one tensor.

    Attributes:
        name: the parameter, as the user calls it.
        attribute: what is promised; NaN and infinity break every one of them.
        text: the declaration, such as 'Parameter("n", nonneg=True)'.
        sample_ndim: the number of axes of one sample.
        bound: the limit of "lower" and "upper", broadcast over the sample; the group
            of "pose".
        pattern: of a sparse matrix, of which a sample holds the entries only.
    """

    name: str
    attribute: Attribute
    text: str
    sample_ndim: int
    bound: Any = None
    pattern: Pattern | None = None

    def holds(self, value: NDArray[Any]) -> bool:
        """Whether all samples keep the promise; cheap when they do."""
        if value.size == 0:
            return True
        if not np.isfinite(value.sum()) and not np.isfinite(value).all():
            return False
        if self.attribute in ("symmetric", "psd", "pose"):
            return bool(self._keeps(value).all())
        match self.attribute:
            case "pos":
                return bool(value.min() > 0)
            case "nonneg":
                return bool(value.min() >= 0)
            case "nonpos":
                return bool(value.max() <= 0)
            case "lower":
                return bool((value >= self._limit()).all())
            case "upper":
                return bool((value <= self._limit()).all())
            case "increasing":
                return bool((np.diff(value, axis=-1) >= 0).all())
        return True

    def statuses(self, value: NDArray[Any]) -> NDArray[np.int8]:
        """SOLVED, NOT_FINITE or INVALID_DATA per sample, [B], or [1] if shared."""
        samples = self._samples(value)
        is_finite = _all_entries(np.isfinite(samples))
        keeps = np.ones(len(samples), bool)
        keeps[is_finite] = self._keeps(samples[is_finite])
        status = np.where(keeps, int(Status.SOLVED), int(Status.INVALID_DATA))
        return np.where(is_finite, status, int(Status.NOT_FINITE)).astype(np.int8)

    def describe(self, value: NDArray[Any], sample: int) -> str:
        """What is wrong in one sample, with its number."""
        samples = self._samples(value)
        one = samples[min(sample, len(samples) - 1)]
        if not np.isfinite(one).all():
            worst = np.unravel_index(np.argmin(np.isfinite(one)), one.shape)
            fault = f"is {one[worst]}"
        elif self.pattern is not None and self.attribute in ("symmetric", "psd"):
            dense = self.pattern.compressed(one).toarray()
            return replace(self, pattern=None, sample_ndim=2).describe(dense, 0)
        elif self.attribute == "psd" and self._is_symmetric(one[None])[0]:
            lowest = np.linalg.eigvalsh(one)[0]
            return f"{self.name} has eigenvalue {lowest:.3g}, declared {self.text}"
        elif self.attribute == "pose":
            poses = torch.tensor(one)
            first = [int(k) for k in (~self.bound.has(poses)).nonzero()[0]]
            place = str(first) if first else ""
            fault = self.bound.fault(poses[tuple(first)])
            return f"{self.name}{place} {fault}, declared {self.text}"
        elif self.attribute == "increasing":
            k = int(np.argmax(self._excess(one)))
            fault = f"{self.name}[{k}] is {one[k]:.6g} after {one[k - 1]:.6g}"
            return f"{fault}, {self.text}"
        else:
            worst = np.unravel_index(np.argmax(self._excess(one)), one.shape)
            fault = f"is {one[worst]:.6g}"
            if self.attribute in ("symmetric", "psd"):
                fault += f" but {one.T[worst]:.6g} across the diagonal"
        place = str([int(k) for k in worst]) if one.ndim else ""
        return f"{self.name}{place} {fault}, declared {self.text}"

    def _samples(self, value: NDArray[Any]) -> NDArray[Any]:
        return value[None] if value.ndim == self.sample_ndim else value

    def _limit(self) -> NDArray[Any]:
        bound = self.bound
        return bound.cpu().numpy() if isinstance(bound, Tensor) else np.asarray(bound)

    def _keeps(self, samples: NDArray[Any]) -> Flags:
        """Whether each (finite) sample keeps the promise, [B]."""
        if self.attribute == "finite":
            return _all_entries(np.isfinite(samples))
        samples = self._samples(samples)
        if self.pattern is not None and self.attribute in ("symmetric", "psd"):
            keeps = [self._is_right(self.pattern, one) for one in samples]
            return np.array(keeps, dtype=bool)
        if self.attribute == "symmetric":
            return self._is_symmetric(samples)
        if self.attribute == "pose":
            return _all_entries(self.bound.has(torch.tensor(samples)).numpy())
        if self.attribute == "psd":
            return np.logical_and(self._is_symmetric(samples), _is_psd(samples))
        keeps = [bool((self._excess(one) <= 0).all()) for one in samples]
        return np.array(keeps, dtype=bool)

    def _excess(self, one: NDArray[Any]) -> NDArray[Any]:
        """By how much each entry of one sample breaks the promise; positive is bad."""
        match self.attribute:
            case "pos":
                return np.where(one > 0, 0.0, 1.0 - one)
            case "nonneg":
                return -one
            case "nonpos":
                return one
            case "lower":
                return self._limit() - one
            case "upper":
                return one - self._limit()
            case "symmetric" | "psd":
                return np.abs(one - one.T)
            case "increasing":
                return -np.diff(one, axis=-1, prepend=one[..., :1])
        return np.where(np.isfinite(one), 0.0, 1.0)

    def _is_right(self, pattern: Pattern, values: NDArray[Any]) -> bool:
        """Whether the sparse matrix of these entries is symmetric, or semidefinite."""
        tolerance = ROUNDINGS * float(np.finfo(values.dtype).eps)
        if self.attribute == "psd":
            return is_semidefinite(pattern, values, tolerance)
        return is_symmetric(pattern, values, tolerance)

    def _is_symmetric(self, samples: NDArray[Any]) -> Flags:
        if samples.size == 0:
            return np.ones(len(samples), bool)
        gap = np.abs(samples - samples.swapaxes(-1, -2)).max((-2, -1))
        return np.asarray(gap <= _rounding(samples))


def _all_entries(flags: Flags) -> Flags:
    """Whether all entries of each sample are true, [B]."""
    return np.asarray(flags.all(tuple(range(1, flags.ndim))))


def _is_psd(samples: NDArray[Any]) -> Flags:
    """Whether each symmetric sample has no eigenvalue below rounding, [B]."""
    order = samples.shape[-1]
    if samples.size == 0:
        return np.ones(len(samples), bool)
    allowed = order * _rounding(samples)
    lifted = samples + allowed[:, None, None] * np.eye(order, dtype=samples.dtype)
    try:
        np.linalg.cholesky(lifted)
    except np.linalg.LinAlgError:
        return np.linalg.eigvalsh(samples)[:, 0] >= -allowed
    return np.ones(len(samples), bool)


def _rounding(samples: NDArray[Any]) -> NDArray[Any]:
    """What the entries of each sample may be wrong by, [B]."""
    size = np.abs(samples).max((-2, -1))
    return ROUNDINGS * np.finfo(samples.dtype).eps * size


def first_faults(
    checks: Sequence[Check], values: Sequence[NDArray[Any]], batch_size: int
) -> tuple[NDArray[np.int8], NDArray[np.int64]] | None:
    """The status of every sample and the check it breaks first; None if all is well.

    Returns:
        Statuses int8 [B] and indices into `checks` int64 [B] (-1: none), or None.
    """
    if not checks:
        return None
    # Sums of infinities warn; that they are not finite is all that is asked.
    with np.errstate(all="ignore"):
        broken = [k for k, c in enumerate(checks) if not c.holds(values[k])]
    if not broken:
        return None
    status = np.zeros(batch_size, np.int8)
    culprit = np.full(batch_size, -1)
    for k in broken:
        found = np.broadcast_to(checks[k].statuses(values[k]), batch_size)
        is_new = (status == Status.SOLVED) & (found != Status.SOLVED)
        status[is_new], culprit[is_new] = found[is_new], k
    return status, culprit
