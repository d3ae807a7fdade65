"""Options of atoms are plain values: one compiled problem serves all parameters."""

from typing import Any

import numpy as np
from torch import Tensor, nn

from optlayers.errors import DeclarationError
from optlayers.modeling.algebra import Algebra
from optlayers.modeling.inference import located


def static_option(name: str, key: str, value: Any) -> Any:
    """An option as a plain number, string or tuple.

    Raises:
        DeclarationError: it depends on a field or on a learned parameter.
    """
    if isinstance(value, int | float | str) or value is None:
        return value
    if isinstance(value, Algebra):
        number = _constant_number(value)
        if number is None:
            raise located(not_static(name, key, value))
        return number
    if isinstance(value, nn.Parameter):
        raise located(_refusal(name, key, "is an nn.Parameter"))
    if isinstance(value, Tensor | np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return tuple(static_option(name, key, one) for one in value)
    return value


def not_static(name: str, key: str, value: Any) -> DeclarationError:
    """The refusal of an option that depends on fields, by their names."""
    names = " and ".join(sorted(value.field_names)) or "a learned parameter"
    return _refusal(name, key, f"depends on {names}")


def is_unknown(value: Any) -> bool:
    """Whether a value, or something within it, is known only when a layer is called."""
    if isinstance(value, list | tuple):
        return any(is_unknown(one) for one in value)
    return isinstance(value, Algebra | nn.Parameter)


def _constant_number(value: Any) -> float | None:
    if value.name == "constant" and not value.shape:
        return value.options["value"].item()
    return None


def _refusal(name: str, key: str, how: str) -> DeclarationError:
    what = {"p": "the exponent"}.get(key, f"{key}=") if name == "power" else f"{key}="
    return DeclarationError(
        f"{what} of {name} {how}; it must be a plain number, since one compiled "
        "problem serves all values of parameters."
    )
