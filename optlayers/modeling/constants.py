"""Numbers, arrays and tensors of the user's, as constants of a declaration."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from optlayers.errors import DeclarationError
from optlayers.modeling.signs import Sign

_COMPLEX = (
    "a complex constant; every expression is real. Write real and imaginary parts "
    "apart."
)


class NoTerm(ABC):
    """Something of a declaration that is no number or tensor."""

    @property
    @abstractmethod
    def remedy(self) -> str:
        """What to write in the place of it."""


def constant_tensor(value: Any) -> Tensor:
    """A float64 copy of a number, array, tensor or nested list of numbers.

    Raises:
        DeclarationError: something that is none of these, with what to do about it.
    """
    if isinstance(value, NoTerm):
        raise DeclarationError(value.remedy)
    if isinstance(value, float | int) and value == value:
        return torch.tensor(float(value), dtype=torch.float64)
    if isinstance(value, Tensor):
        check_constant(value)
        return value.detach().to(device="cpu", dtype=torch.float64, copy=True)
    try:
        is_complex = np.iscomplexobj(value)
        array = np.array([] if is_complex else value, dtype=np.float64)
    except (TypeError, ValueError):
        raise DeclarationError(_refusal(value)) from None
    if is_complex:
        raise DeclarationError(_COMPLEX)
    if bool(np.isnan(array).any()):
        raise DeclarationError(_refusal(value))
    return torch.from_numpy(array)


def check_constant(value: Tensor) -> None:
    """Refuse tensors that a constant would silently cut off or cannot hold.

    Raises:
        DeclarationError: a tensor that requires a gradient, or a complex one.
    """
    if value.requires_grad:
        raise DeclarationError(
            "a tensor that requires grad would be frozen as a constant here.\n"
            "  Make it an nn.Parameter to learn it, declare it a Parameter to give it "
            "at every call, or detach() it."
        )
    if value.is_complex():
        raise DeclarationError(_COMPLEX)


def sign_of(value: Tensor) -> Sign:
    """The sign of every entry of a constant."""
    if value.numel() == 0:
        return Sign.ZERO
    least, most = (one.item() for one in torch.aminmax(value))
    if least == 0 and most == 0:
        return Sign.ZERO
    if least >= 0:
        return Sign.NONNEG
    return Sign.NONPOS if most <= 0 else Sign.UNKNOWN


def _refusal(value: Any) -> str:
    kind = type(value).__name__
    if isinstance(value, nn.Module):
        return f"the module {kind} is no term; call it, as in net(x)."
    if callable(value):
        shown = getattr(value, "__name__", kind)
        return f"the function {shown} is no term; call it, as in {shown}(x)."
    if value is NotImplemented:
        return "scipy's S.multiply(x) cannot take an expression; write S * x."
    if value is None:
        return "None is no term; did a function forget to return its result?"
    if isinstance(value, float | np.ndarray | np.number):
        return "NaN is no constant; a constraint or cost with NaN means nothing."
    return f"{value!r} ({kind}) is no number, array or tensor."
