"""The one file that knows *batch: many leading axes outside, exactly one inside.

Nothing here depends on the values of a tensor, so it traces, compiles and vmaps.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from optlayers.errors import ShapeError


def align(
    values: Mapping[str, Tensor], sample_ndims: Mapping[str, int]
) -> tuple[dict[str, Tensor], torch.Size]:
    """Flatten the leading axes of every tensor that has some into one axis B.

    Leading axes broadcast as in torch. A tensor without any is shared by all samples
    and stays as it is, so its gradient is the sum over the batch.

    Args:
        values: tensors by name, each [*batch, *sample] or [*sample].
        sample_ndims: the number of axes of one sample, by the same names.

    Returns:
        The tensors, each [B, *sample] or [*sample], and the batch shape, with
        B = prod(batch shape); () and B = 1 if no tensor has leading axes.

    Raises:
        ShapeError: a tensor has too few axes, or leading axes do not broadcast.
    """
    leading = {
        name: _leading_shape(name, value, sample_ndims[name])
        for name, value in values.items()
    }
    batch_shape = _broadcast(values, leading)
    count = math.prod(batch_shape)
    aligned = {}
    for name, value in values.items():
        if leading[name]:
            sample = value.shape[len(leading[name]) :]
            if leading[name] != batch_shape:
                value = value.expand(batch_shape + sample)
            if len(batch_shape) != 1:
                value = value.reshape((count, *sample))
        aligned[name] = value
    return aligned, batch_shape


def restore(value: Tensor, batch_shape: torch.Size | tuple[int, ...]) -> Tensor:
    """Unfold the batch axis: [B, *sample] -> [*batch, *sample]."""
    if len(batch_shape) == 1:
        return value
    return value.reshape(tuple(batch_shape) + tuple(value.shape[1:]))


def position(sample: int, batch_shape: tuple[int, ...]) -> str:
    """Where sample number `sample` stands in the user's batch: "3" or "[1, 0]"."""
    if len(batch_shape) <= 1:
        return str(sample)
    index = []
    for size in reversed(batch_shape):
        index.append(sample % size)
        sample //= size
    return str(index[::-1])


def _leading_shape(name: str, value: Tensor, sample_ndim: int) -> torch.Size:
    if value.ndim < sample_ndim:
        raise ShapeError(
            f"{name} {list(value.shape)} has {value.ndim} axes, but one sample of it "
            f"has {sample_ndim}; batch axes come before those, none are needed."
        )
    return value.shape[: value.ndim - sample_ndim]


def _broadcast(
    values: Mapping[str, Tensor], leading: Mapping[str, torch.Size]
) -> torch.Size:
    longest = max([0, *[len(shape) for shape in leading.values()]])
    result = [1] * longest
    for name, shape in leading.items():
        offset = longest - len(shape)
        for axis, size in enumerate(shape, offset):
            if size == 1 or result[axis] == size:
                continue
            if result[axis] != 1:
                raise ShapeError(_clash(values, leading, name))
            result[axis] = size
    return torch.Size(result)


def _clash(
    values: Mapping[str, Tensor], leading: Mapping[str, torch.Size], culprit: str
) -> str:
    lines = "\n".join(
        f"  {name} {list(values[name].shape)}: batch {list(shape)}"
        for name, shape in leading.items()
        if shape
    )
    return (
        f"the batch axes of {culprit} do not fit those before it.\n{lines}\n"
        "  Leading axes must be equal or 1; a tensor without any is shared by all."
    )
