"""What a call is given: any numbers, brought to tensors of one dtype and device."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from optlayers.errors import ParameterError

FLOATS = (torch.float32, torch.float64)


def tensor_of(name: str, value: Any) -> Tensor:
    """A tensor of a number, array or nested list; a tensor as it is.

    Raises:
        ParameterError: something that is none of these.
    """
    if isinstance(value, Tensor):
        return value
    try:
        tensor = torch.as_tensor(value)
        is_array = isinstance(value, np.ndarray) and tensor.is_floating_point()
        is_kept = is_array or tensor.is_complex()
        return tensor if is_kept else tensor.to(torch.get_default_dtype())
    except (TypeError, ValueError, RuntimeError) as reason:
        raise ParameterError(
            f"{name}: {type(value).__name__} is no tensor, array or number ({reason})."
        ) from None


def unified(
    subject: str,
    tensors: Mapping[str, Tensor],
    weak: Collection[str],
    arrays: Collection[str],
) -> dict[str, Tensor]:
    """The same tensors in the one dtype and device of those that were given as such.

    Args:
        subject: the problem's name, for messages.
        tensors: by name.
        weak: names of those that follow the others, for they were no tensors.
        arrays: names of those among `weak` whose dtype decides where no tensor does.

    Raises:
        ParameterError: tensors of several dtypes or devices, or of no float dtype.
    """
    strong = [name for name in tensors if name not in weak]
    first = next(iter([*strong, *sorted(arrays), *tensors]), None)
    if first is None:
        return dict(tensors)
    dtype, device = tensors[first].dtype, tensors[first].device
    found = {}
    for name, value in tensors.items():
        if name in weak:
            value = value.to(device=device, dtype=dtype)
        elif value.dtype != dtype or value.device != device:
            raise ParameterError(_mixture(subject, {n: tensors[n] for n in strong}))
        found[name] = value
    if dtype not in FLOATS:
        raise ParameterError(
            f"{subject}: {first} is {dtype}; give float32 or float64, for example with "
            ".float()."
        )
    return found


def _mixture(subject: str, tensors: Mapping[str, Tensor]) -> str:
    listed = ", ".join(
        f"{name} is {value.dtype} on {value.device}" for name, value in tensors.items()
    )
    return (
        f"{subject}: parameters must share one dtype and device: {listed}. Convert "
        "with .to(...)."
    )


def home_of(tensors: Sequence[Tensor], modules: Mapping[str, nn.Module]) -> Tensor:
    """A tensor whose dtype and device are those of the call.

    Args:
        tensors: what the call is made of.
        modules: whose parameters decide where there are no tensors.
    """
    parameters = (one for module in modules.values() for one in module.parameters())
    first = next(iter([*tensors, *parameters]), None)
    return torch.zeros((), dtype=torch.float64) if first is None else first
