"""Keep samples that failed from everything that is differentiated.

A gradient of zero times a NaN derivative is NaN, and a shared parameter sums it over
the batch; so failed rows are replaced before anything is computed from them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def replace_failed(tensors: Sequence[Tensor], ok: Tensor) -> list[Tensor]:
    """Put the numbers of the first good sample in the place of every failed one.

    What is computed from the result is finite, and the gradient of failed rows is
    exactly zero. If no sample is good, all rows are the finite part of the first.

    Args:
        tensors: each [B, ...].
        ok: which samples to keep, bool [B].
    """
    if ok.shape[0] == 0:
        return list(tensors)
    first = ok.to(torch.int8).argmax().reshape(1)
    return [_replace(tensor, ok, first) for tensor in tensors]


def without_failed(
    point: Tensor, inputs: Sequence[Tensor], ndims: Sequence[int], ok: Tensor
) -> list[Tensor]:
    """Points and inputs in which failed samples stand for a good one.

    Args:
        point: [B, n].
        inputs: each [*shape] (shared) or [B, *shape].
        ndims: axes of one sample of each input.
        ok: which samples to keep, bool [B].
    """
    rows = [
        one.expand(len(ok), *one.shape) if one.ndim == ndim else one
        for one, ndim in zip(inputs, ndims, strict=True)
    ]
    return replace_failed([point, *rows], ok)


def with_zero_gradient(value: Tensor, tensors: Sequence[Tensor]) -> Tensor:
    """Return `value` as a function of tensors that it does not depend on.

    Its derivatives of any order in each of them are exactly zero, whatever numbers they
    hold, so that a backward pass finds its way where nothing was solved.

    Args:
        value: of one axis or more, floating.
        tensors: of any shape, floating; those without derivative are left out.
    """
    for one in tensors:
        if one.requires_grad:
            nothing = torch.zeros_like(one, dtype=torch.bool)
            # Of no product: zero times NaN would be NaN. expm1 has all derivatives.
            value = value + torch.where(nothing, one, 0.0).expm1().sum().reshape(1).to(
                value
            )
    return value


def _replace(tensor: Tensor, ok: Tensor, first: Tensor) -> Tensor:
    good = tensor.detach().index_select(0, first).nan_to_num(0.0, 0.0, 0.0)
    return torch.where(ok.view(-1, *[1] * (tensor.ndim - 1)), tensor, good)
