"""Whether `torch.func`, `torch.compile` or forward mode is at work around a call."""

import torch
from torch.autograd import forward_ad


def hides_values() -> bool:
    """Whether tensors may have no numbers to look at: mapped, traced or compiled."""
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()


def is_transformed() -> bool:
    """Whether anything but reverse mode may ask for a derivative."""
    return hides_values() or forward_ad._current_level >= 0
