"""Named sizes: given by the user, or read off the shapes of parameters."""

from collections.abc import Iterable, Mapping

import numpy as np

from optlayers.errors import DeclarationError, ShapeError, UnknownName
from optlayers.modeling.dimensions import Dimension
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
    _take_patterns(name, fields, sizes, source)
    for parameter, shape in shapes.items():
        field = fields[parameter]
        if field.pattern is not None:
            continue
        declared = f"{name}: {parameter} was declared {field.text}, given {list(shape)}"
        count = len(field.dimensions)
        if len(shape) < count:
            raise ShapeError(
                f"{declared}: it needs at least {count} dimensions, "
                f"[*batch, {', '.join(str(one) for one in field.dimensions)}]."
            )
        for dimension, length in zip(
            field.dimensions, shape[len(shape) - count :], strict=True
        ):
            size = dimension.solve(length)
            if size is None:
                raise ShapeError(_unsolvable(declared, dimension, length, field, sizes))
            if dimension.name is None:
                continue
            before = sizes.setdefault(dimension.name, size)
            if before != size:
                raise ShapeError(
                    f"{declared}, so {dimension.name}={size}, but "
                    f"{source[dimension.name]}.\n  Its last {_axes(count)} must be "
                    f"[{_expected(field, sizes)}]; batch dimensions come first."
                )
            reason = f"{parameter} ({field.text}, given {list(shape)}) makes it {size}"
            source.setdefault(dimension.name, reason)
    return sizes


def _take_patterns(
    name: str,
    fields: Mapping[str, Field],
    sizes: dict[str, int],
    source: dict[str, str],
) -> None:
    """Add the sizes that patterns fix, and what they come from."""
    for parameter, field in fields.items():
        for dimension, size in field.pattern_sizes().items():
            if sizes.setdefault(dimension, size) != size:
                raise ShapeError(
                    f"{name}: the pattern of {parameter} = {field.text} makes "
                    f"{dimension}={size}, but {source[dimension]}."
                )
            reason = f"the pattern of {parameter} ({field.text}) makes it {size}"
            source.setdefault(dimension, reason)


def _unsolvable(
    declared: str,
    dimension: Dimension,
    length: int,
    field: Field,
    sizes: Mapping[str, int],
) -> str:
    if dimension.name is not None:
        return f"{declared}: no size {dimension.name} makes {dimension} equal {length}."
    return (
        f"{declared}: the last {_axes(len(field.dimensions))} must be "
        f"[{_expected(field, sizes)}]."
    )


def _axes(count: int) -> str:
    return "axis" if count == 1 else f"{count} axes"


def _expected(field: Field, sizes: Mapping[str, int]) -> str:
    return ", ".join(
        str(one.size(sizes)) if one.name is None or one.name in sizes else str(one)
        for one in field.dimensions
    )
