"""Named sizes: given by the user, or read off the shapes of parameters."""

from collections.abc import Iterable, Mapping

import numpy as np

from optlayers.errors import DeclarationError, ShapeError, UnknownName
from optlayers.modeling.fields import Field


def check_sizes(
    name: str, dimension_names: Iterable[str], sizes: Mapping[str, int]
) -> dict[str, int]:
    """The sizes in order of declaration, all of them known.

    Raises:
        UnknownName: a size of no dimension.
        DeclarationError: a size is missing or is no count.
    """
    names = tuple(dimension_names)
    for given, size in sizes.items():
        if given not in names:
            raise UnknownName(
                f"{name} has no dimension {given!r}; there are "
                f"{', '.join(names) or 'none'}."
            )
        is_count = isinstance(size, int | np.integer) and not isinstance(size, bool)
        if not is_count or size < 0:
            raise DeclarationError(f"{name}: {given}={size!r} is no size.")
    missing = [one for one in names if one not in sizes]
    if missing:
        raise DeclarationError(
            f"{name}: the size of {', '.join(missing)} is not known; give it, as in "
            f"{name}.layer({missing[0]}=3)."
        )
    return {one: int(sizes[one]) for one in names}


def infer_sizes(
    name: str,
    fields: Mapping[str, Field],
    shapes: Mapping[str, tuple[int, ...]],
    known: Mapping[str, int],
) -> dict[str, int]:
    """The sizes that parameters of these shapes imply, with those known before.

    Args:
        name: the problem, for messages.
        fields: the declared fields.
        shapes: shape of each given parameter, [*batch, *declared].
        known: sizes given by name.

    Raises:
        ShapeError: shapes contradict the declaration, each other, or `known`.
    """
    sizes = dict(known)
    source = {one: f"{one}={size} was given" for one, size in known.items()}
    for parameter, shape in shapes.items():
        field = fields[parameter]
        declared = f"{parameter} was declared {field.text}, given {list(shape)}"
        dimensions = field.dimensions
        if len(shape) < len(dimensions):
            raise ShapeError(
                f"{name}: {declared}: it needs at least {len(dimensions)} dimensions, "
                f"[*batch, {', '.join(str(one) for one in dimensions)}]."
            )
        own = shape[len(shape) - len(dimensions) :]
        for dimension, length in zip(dimensions, own, strict=True):
            if dimension.name is None:
                if dimension.offset != length:
                    raise ShapeError(
                        f"{name}: {declared}: the last {_axes(len(dimensions))} must "
                        f"be [{_expected(field, sizes)}]."
                    )
                continue
            size = dimension.solve(length)
            if size is None:
                raise ShapeError(
                    f"{name}: {declared}: no size {dimension.name} makes {dimension} "
                    f"equal {length}."
                )
            before = sizes.setdefault(dimension.name, size)
            if before != size:
                raise ShapeError(
                    f"{name}: {declared}, so {dimension.name}={size}, but "
                    f"{source[dimension.name]}.\n  Its last {_axes(len(dimensions))} "
                    f"must be [{_expected(field, sizes)}]; batch dimensions come first."
                )
            source.setdefault(
                dimension.name,
                f"{parameter} ({field.text}, given {list(shape)}) makes it {size}",
            )
    return sizes


def _axes(count: int) -> str:
    return "axis" if count == 1 else f"{count} axes"


def _expected(field: Field, sizes: Mapping[str, int]) -> str:
    return ", ".join(
        str(one.size(sizes)) if one.name is None or one.name in sizes else str(one)
        for one in field.dimensions
    )
