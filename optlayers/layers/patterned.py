"""The entries of a sparse parameter, from whatever form a call gives it in.

The last axis decides: as long as the pattern has entries, it holds the entries in the
pattern's order; else the last two must be the matrix.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from optlayers.errors import InvalidDataError, NotSupported, ParameterError, ShapeError
from optlayers.linalg.pattern import Pattern
from optlayers.modeling.fields import Field


class Entries(NamedTuple):
    """A sparse parameter read.

    Attributes:
        values: the entries on the pattern, differentiable, [*batch, nnz].
        outside: largest absolute entry off the pattern, which must be zero, [*batch]
            or [].
    """

    values: Tensor
    outside: Tensor


def as_torch(value: Any) -> Any:
    """A scipy matrix as a sparse tensor; anything else as it is."""
    if not sp.issparse(value):
        return value
    entries: Any = sp.coo_array(value)
    if entries.dtype.kind in "iub":
        entries = entries.astype(np.float64)
    indices = torch.from_numpy(np.stack(entries.coords).astype(np.int64))
    values = torch.from_numpy(np.array(entries.data))
    return torch.sparse_coo_tensor(indices, values, value.shape, check_invariants=False)


def read_entries(name: str, field: Field, value: Tensor) -> Entries:
    """The entries of a parameter declared with a pattern.

    Args:
        name: the parameter.
        field: its declaration.
        value: entries [*batch, nnz], or the matrix [*batch, m, n], dense or sparse.

    Raises:
        ShapeError: it is neither.
        ParameterError: a sparse tensor of a kind that cannot be read.
    """
    pattern = field.pattern
    assert pattern is not None
    if value.layout != torch.strided:
        return _of_sparse(name, field, pattern, value)
    if value.shape[-1:] == (pattern.size,):
        return Entries(value, value.new_zeros(()))
    if value.shape[-2:] != pattern.shape:
        raise _misfit(name, field, pattern, value)
    is_inside = torch.zeros(pattern.shape, dtype=torch.bool, device=value.device)
    places = (pattern.rows.to(value.device), pattern.cols.to(value.device))
    is_inside = is_inside.index_put(places, is_inside.new_ones(()))
    rest = torch.where(is_inside, 0.0, value.detach())
    return Entries(pattern.gather(value), rest.abs().flatten(-2).amax(-1))


def bound_entries(name: str, field: Field, value: Any) -> Any:
    """What a layer keeps of a sparse parameter bound at its construction.

    Raises:
        InvalidDataError: an entry outside of the pattern is not zero.
        NotSupported: a learned parameter that is declared psd.
        ShapeError: a learned parameter that is not its entries, or another misfit.
    """
    pattern = field.pattern
    assert pattern is not None
    if isinstance(value, nn.Parameter):
        if value.layout != torch.strided or value.shape[-1:] != (pattern.size,):
            raise ShapeError(
                f"{name} = {field.text}: nn.Parameter {list(value.shape)} cannot keep "
                f"its zeros; learn the entries, nn.Parameter of [{pattern.size}]."
            )
        if field.psd:
            raise NotSupported(
                f"{name} = {field.text}: entries that stay semidefinite on a pattern "
                "cannot be learned directly; learn a factor R and give R.mT @ R."
            )
        return value
    values, outside = read_entries(name, field, _as_tensor(name, value))
    if bool((outside != 0).any()):
        raise InvalidDataError(
            f"{name} has the entry {outside.max().item():.6g} outside of its pattern, "
            f"declared {field.text}."
        )
    return values.detach()


def _as_tensor(name: str, value: Any) -> Tensor:
    value = as_torch(value)
    return value if isinstance(value, Tensor) else torch.as_tensor(value)


def _of_sparse(name: str, field: Field, pattern: Pattern, value: Tensor) -> Entries:
    if value.shape[-2:] != pattern.shape:
        raise _misfit(name, field, pattern, value)
    if value.layout != torch.sparse_coo:
        if value.ndim > 2:
            raise ParameterError(
                f"{name} is {value.layout} with batch axes; give a COO tensor, its "
                f"entries [*batch, {pattern.size}], or one matrix."
            )
        value = value.to_sparse_coo()
    value = value.coalesce()
    if value.dense_dim():
        raise ParameterError(
            f"{name} is a hybrid sparse tensor with {value.dense_dim()} dense axes; "
            f"give its entries [*batch, {pattern.size}] instead."
        )
    indices, numbers, lead = value.indices(), value.values(), value.shape[:-2]
    places = indices[-2] * pattern.shape[1] + indices[-1]
    slots = pattern.find(places.cpu()).to(places.device)
    sample = torch.zeros_like(places)
    for axis, size in enumerate(lead):
        sample = sample * size + indices[axis]
    count, is_inside = math.prod(lead), slots >= 0
    target = (sample * pattern.size + slots)[is_inside]
    flat = numbers.new_zeros(count * pattern.size)
    values = flat.index_add(0, target, numbers[is_inside])
    rest = numbers.detach().abs()[~is_inside]
    outside = rest.new_zeros(count).scatter_reduce(0, sample[~is_inside], rest, "amax")
    return Entries(values.reshape(*lead, pattern.size), outside.reshape(lead))


def _misfit(name: str, field: Field, pattern: Pattern, value: Tensor) -> ShapeError:
    m, n = pattern.shape
    return ShapeError(
        f"{name} was declared {field.text}, given {list(value.shape)}: give its entries"
        f" [*batch, {pattern.size}], row by row, or the matrix [*batch, {m}, {n}]."
    )
