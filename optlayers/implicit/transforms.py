"""Whether `torch.func`, `torch.compile` or forward mode is at work around a call."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch._C import _functorch  # pyright: ignore[reportAttributeAccessIssue]
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.autograd import forward_ad


def hides_values() -> bool:
    """Whether tensors may have no numbers to look at: mapped, traced or compiled."""
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()


def is_transformed() -> bool:
    """Whether anything but reverse mode may ask for a derivative."""
    return hides_values() or forward_ad._current_level >= 0


@contextmanager
def outside_transforms() -> Iterator[None]:
    """Where tensors that no `torch.func` transform is about have their numbers."""
    with temporarily_clear_interpreter_stack():
        yield


def maps_nothing(tensors: Sequence[Tensor]) -> bool:
    """Whether `torch.func.vmap` maps an axis of no entries of one of these.

    Torch (2.13) then fails at sums of numbers and vectors; see `vmap(lambda w: v - w)`.
    """
    if torch.compiler.is_compiling():
        return False
    return any(_unwrapped(one).numel() == 0 for one in tensors)


def _unwrapped(tensor: Tensor) -> Tensor:
    while _functorch.is_functorch_wrapped_tensor(tensor):
        tensor = _functorch.get_unwrapped(tensor)
    return tensor
