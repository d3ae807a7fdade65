"""Where a search begins in one call: at given points, or at an earlier result.

Values are hints, not parameters: they carry no gradient, and where one is not finite
the search begins as declared.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor

from optlayers.compile.samples import Unknowns
from optlayers.errors import ParameterError, ShapeError, UnknownName
from optlayers.layers.given import tensor_of
from optlayers.layers.result import Result

# What marks a warm start among the tensors of a call; no field has a space.
PREFIX = "warm_start of "


def starts_of(
    subject: str, variables: tuple[str, ...], given: Any
) -> dict[str, Tensor] | None:
    """The values that a call's `warm_start` has for variables, by name.

    Args:
        subject: the name of the problem, for messages.
        variables: that it declares.
        given: the option: a `Result`, values by name, or None.

    Raises:
        UnknownName: a name that is no variable; a result that has none of them.
        ParameterError: neither a result nor a mapping; a value that is no tensor.
    """
    if given is None:
        return None
    if isinstance(given, Result):
        found = {name: given[name] for name in variables if name in given}
        if not found:
            raise UnknownName(
                f"{subject}: warm_start= is a result without any of "
                f"{', '.join(variables)}; give one of this problem, or values by name."
            )
    elif isinstance(given, Mapping):
        for name in given:
            if name not in variables:
                raise UnknownName(_unknown(subject, name, variables))
        found = {
            name: tensor_of(f"warm_start of {name}", given[name]) for name in given
        }
    else:
        raise ParameterError(
            f"{subject}: warm_start= is {type(given).__name__}; give the result of an "
            'earlier call, or values by name, such as {"' + variables[0] + '": tensor}.'
        )
    return {name: value.detach() for name, value in found.items()}


def with_starts(
    parameters: Mapping[str, Tensor],
    ndims: Mapping[str, int],
    starts: Mapping[str, Tensor] | None,
    unknowns: Unknowns,
) -> tuple[Mapping[str, Tensor], Mapping[str, int]]:
    """Parameters with warm starts beside them, for their batch axes to be aligned.

    Args:
        parameters: by name, each [*batch, *shape].
        ndims: axes of one sample of each parameter.
        starts: of variables by name, each [*batch, *shape], or None.
        unknowns: how variables stand in z.

    Raises:
        ShapeError: a start does not end in the shape of its variable.
    """
    if not starts:
        return parameters, ndims
    for name, value in starts.items():
        _check_shape(name, value, unknowns.value_shape(name))
    marked = {PREFIX + name: value for name, value in starts.items()}
    axes = {PREFIX + name: len(unknowns.value_shape(name)) for name in starts}
    return {**parameters, **marked}, {**ndims, **axes}


def take_starts(aligned: dict[str, Tensor]) -> dict[str, Tensor]:
    """The aligned warm starts, by name; they no longer stand among the parameters."""
    marked = [name for name in aligned if name.startswith(PREFIX)]
    return {name.removeprefix(PREFIX): aligned.pop(name) for name in marked}


def first_points(
    declared: Tensor, starts: Mapping[str, Tensor], unknowns: Unknowns, batch: int
) -> Tensor:
    """Where the search begins, [B, n].

    Args:
        declared: the start of the declaration, [n], of the dtype and device wanted.
        starts: of variables by name, each [*shape] or [B, *shape].
        unknowns: how variables stand in z.
        batch: the number of samples B.
    """
    if not starts:
        return declared.expand(batch, -1)
    parts = []
    for name, own in unknowns.split(declared).items():
        value = starts.get(name, own).to(own)
        value = torch.where(value.isfinite(), value, own)
        parts.append(unknowns.coordinates(name, value.expand(batch, *own.shape)))
    return torch.cat(parts, 1)


def _check_shape(name: str, value: Tensor, shape: tuple[int, ...]) -> None:
    first = value.ndim - len(shape)
    if first < 0 or tuple(value.shape[first:]) != shape:
        raise ShapeError(
            f"warm_start of {name} {list(value.shape)}: {name} is {list(shape)}; give "
            "its value in that shape, behind any batch axes."
        )


def _unknown(subject: str, name: object, variables: tuple[str, ...]) -> str:
    near = get_close_matches(str(name), variables, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return (
        f"{subject}: warm_start= has {name!r}, which is no variable; these are "
        f"{', '.join(variables)}.{hint}"
    )
