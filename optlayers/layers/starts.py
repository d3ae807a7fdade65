"""Several starts of one call: read from the option, and laid out as points."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from optlayers.compile.boxes import Box
from optlayers.compile.samples import Unknowns
from optlayers.errors import ParameterError, ShapeError, UnknownName
from optlayers.layers.given import tensor_of
from optlayers.solvers.minimize.plan import MinimizePlan
from optlayers.solvers.minimize.starts import drawn, repeated


def named_starts(subject: str, variables: tuple[str, ...], given: Any) -> Any:
    """The option `starts` as a number, as values of variables by name, or None.

    Args:
        subject: the name of the problem, for messages.
        variables: that it declares.
        given: a number of starts; values by name, each [S, *shape]; of a problem with
            one variable also these values alone; or None.

    Raises:
        UnknownName: a name that is no variable.
        ParameterError: none of these, or no start at all.
        ShapeError: values of different numbers of starts.
    """
    if given is None or isinstance(given, int | float):
        return given
    if isinstance(given, Tensor) and len(variables) == 1:
        given = {variables[0]: given}
    if not isinstance(given, Mapping) or not given:
        raise ParameterError(
            f"{subject}: starts= is {type(given).__name__}; give their number, or "
            f"values by name, such as {{{variables[0]!r}: tensor}} with one row each."
        )
    for name in given:
        if name not in variables:
            raise UnknownName(
                f"{subject}: starts= has {name!r}, which is no variable; these are "
                f"{', '.join(variables)}."
            )
    named = {n: tensor_of(f"starts of {n}", one).detach() for n, one in given.items()}
    if len({len(one) if one.ndim else None for one in named.values()}) > 1:
        shapes = ", ".join(f"{n} {list(one.shape)}" for n, one in named.items())
        raise ShapeError(
            f"{subject}: starts= has values of different numbers of starts: {shapes}; "
            "each is [S, *shape] with one S."
        )
    for name, one in named.items():
        if one.ndim and not len(one):
            raise ParameterError(
                f"{subject}: starts= has {name} {list(one.shape)}, which holds no "
                "start; give at least one, or leave starts= out."
            )
    return named


def search_points(first: Tensor, starts: Any, unknowns: Unknowns, box: Box) -> Tensor:
    """Where the search begins, [B, n], or [B, S, n] with several starts.

    Args:
        first: where it begins without them, [B, n].
        starts: a number, or values of variables by name, each [S, *shape], or None.
        unknowns: how variables stand in z.
        box: the declared bounds.

    Raises:
        ShapeError: values that do not fit their variable.
    """
    if starts is None:
        return first
    if not isinstance(starts, Mapping):
        return drawn(first, box.lower, box.upper, starts)
    parts = []
    for name, own in unknowns.split(first.unsqueeze(1)).items():
        value = starts.get(name, own)
        shape = unknowns.value_shape(name)
        if name in starts and (not value.ndim or tuple(value.shape[1:]) != shape):
            raise ShapeError(
                f"starts= has {name} {list(value.shape)}, and {name} is {list(shape)}: "
                "give [S, *shape]."
            )
        value = torch.where(value.to(own).isfinite(), value.to(own), own)
        parts.append(unknowns.coordinates(name, value))
    count = max(part.shape[1] for part in parts)
    return torch.cat([part.expand(-1, count, -1) for part in parts], 2)


def each_start(
    plan: MinimizePlan,
    inputs: Sequence[Tensor],
    checked: Sequence[Tensor],
    points: Tensor,
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Inputs, checked tensors and starts of a batch in which every start is a sample.

    Args:
        plan: of the problem.
        inputs: each [*shape] (shared) or [B, *shape].
        checked: likewise.
        points: [B, S, n].
    """
    count = points.shape[1]
    ndims = [one.sample_ndim for one in plan.checks]
    return (
        repeated(inputs, plan.input_ndims, count),
        repeated(checked, ndims, count),
        points.flatten(0, 1),
    )
