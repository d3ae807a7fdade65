"""What an index does to a shape; stages and components of a trajectory told apart."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from optlayers.errors import DeclarationError, ShapeError

Shape = tuple[int, ...]


class Step(NamedTuple):
    """One structural node to build on an expression."""

    name: str
    options: Mapping[str, Any]
    shape: Shape
    stages: range | None


class Staged(Protocol):
    """What indexing reads of an expression."""

    @property
    def name(self) -> str:
        """The operation."""
        ...

    @property
    def options(self) -> Mapping[str, Any]:
        """Its static options."""
        ...

    @property
    def shape(self) -> Shape:
        """Shape of one sample at one stage."""
        ...

    @property
    def stages(self) -> range | None:
        """The stages it lives on; None if not staged."""
        ...


def select(expression: Staged, index: Any) -> list[Step]:
    """The nodes of `expression[index]`, in the order they are applied.

    A trajectory (a State or Control itself) takes a slice of stages first, like numpy
    on [knots, *shape]; an Ellipsis first means components at every stage.

    Raises:
        DeclarationError: an index that could mean a stage or a component.
        ShapeError: an index outside the shape.
    """
    entries = _normalized(index if isinstance(index, tuple) else (index,))
    if not entries:
        return []
    is_trajectory = expression.name == "field" and expression.stages is not None
    if is_trajectory and entries[0] is not Ellipsis:
        return _select_stages(expression, entries)
    return [_component(expression.shape, expression.stages, entries)]


def _select_stages(expression: Staged, entries: tuple[Any, ...]) -> list[Step]:
    first, *rest = entries
    shape, stages = expression.shape, expression.stages
    assert stages is not None
    if first is None:
        raise DeclarationError(
            "None cannot stand before the stages; take them first, as in x[:][None]."
        )
    if not isinstance(first, slice) and not _names_a_stage(entries, len(shape)):
        raise DeclarationError(_ambiguous(expression.options["field"].name, first))
    if isinstance(first, int):
        steps = [Step("at", {"stage": stage_of(stages, first)}, shape, None)]
        return steps + ([_component(shape, None, tuple(rest))] if rest else [])
    chosen, length = _stage_choice(first, stages)
    steps = [Step("stages", {"index": chosen}, (length, *shape), None)]
    if rest:
        steps.append(_component(steps[0].shape, None, (slice(None), *rest)))
    return steps


def _names_a_stage(entries: tuple[Any, ...], ndim: int) -> bool:
    """Whether the first index can only be a stage, as in x[k, i] of a vector."""
    counted = sum(one is not None and one is not Ellipsis for one in entries)
    return ndim == 0 or counted > ndim


def _ambiguous(name: str, first: Any) -> str:
    shown = first if isinstance(first, int) else list(np.asarray(first).tolist())
    stage = f"{name}.at({shown})" if isinstance(first, int) else f"{name}[:][{shown}]"
    if first == 0 if isinstance(first, int) else False:
        stage += f" or {name}.first"
    return (
        f"{name}[{shown}] could be a stage or a component of {name}.\n"
        f"  Write {stage} for the stage, {name}[..., {shown}] for the component at "
        "every stage."
    )


def _stage_choice(first: Any, stages: range) -> tuple[slice | tuple[int, ...], int]:
    if isinstance(first, slice):
        start, stop, step = first.indices(len(stages))
        chosen = range(start, stop, step)
        if step > 0:
            return slice(start, max(stop, start), step), len(chosen)
        return tuple(chosen), len(chosen)
    array = np.asarray(first)
    if array.dtype == bool:
        if array.shape != (len(stages),):
            raise ShapeError(
                f"a mask over stages needs shape [{len(stages)}], it has "
                f"{list(array.shape)}."
            )
        array = np.flatnonzero(array)
    if array.ndim != 1:
        raise DeclarationError("stages are chosen by a slice, a number or a flat list.")
    chosen = tuple(stage_of(stages, int(one)) for one in array)
    return chosen, len(chosen)


def stage_of(stages: range, stage: int) -> int:
    """The stage a user means, negative ones counted from the end of the window.

    Raises:
        DeclarationError: a stage outside the window.
    """
    found = stages.stop + stage if stage < 0 else stage
    if found not in stages:
        raise DeclarationError(
            f"stage {stage} is outside the stages {stages.start} to "
            f"{stages.stop - 1} that there are."
        )
    return found


def _component(shape: Shape, stages: range | None, entries: tuple[Any, ...]) -> Step:
    return Step("index", {"index": entries}, indexed_shape(shape, entries), stages)


def indexed_shape(shape: Shape, entries: tuple[Any, ...]) -> Shape:
    """Shape of `tensor[entries]`, by numpy's and torch's rules.

    Raises:
        ShapeError: an index outside the shape, or too many of them.
    """
    first = entries[0] if len(entries) == 1 and shape else None
    if isinstance(first, int) and -shape[0] <= first < shape[0]:
        return shape[1:]
    # A view of one number has any shape at no cost, and torch's own rules with it.
    probe = torch.zeros(()).expand(shape)
    try:
        return tuple(probe[tuple(_for_torch(one) for one in entries)].shape)
    except (IndexError, RuntimeError, TypeError, ValueError) as reason:
        sentence = str(reason).splitlines()[0].rstrip(".")
        raise ShapeError(
            f"index [{_index_text(entries)}] does not fit shape {list(shape)}: "
            f"{sentence}."
        ) from None


def _for_torch(entry: Any) -> Any:
    return torch.as_tensor(entry) if isinstance(entry, np.ndarray) else entry


def _normalized(entries: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(_normalized_entry(entry) for entry in entries)


def _normalized_entry(entry: Any) -> Any:
    if isinstance(entry, bool | np.bool_):
        raise DeclarationError("True and False are no indices; use a mask of the axis.")
    if entry is None or entry is Ellipsis or isinstance(entry, slice | int):
        return _checked_slice(entry) if isinstance(entry, slice) else entry
    if isinstance(entry, np.integer):
        return int(entry)
    if isinstance(entry, Tensor):
        entry = entry.detach().cpu().numpy()
    array = np.asarray(list(entry) if isinstance(entry, range) else entry)
    if array.size == 0:
        array = array.astype(np.int64)
    if array.dtype != bool and not np.issubdtype(array.dtype, np.integer):
        raise DeclarationError(
            f"{entry!r} is no index; use integers, slices, lists of integers or masks."
        )
    return int(array) if array.ndim == 0 and array.dtype != bool else array


def _checked_slice(entry: slice) -> slice:
    bounds = (entry.start, entry.stop, entry.step)
    if not all(one is None or isinstance(one, int | np.integer) for one in bounds):
        raise DeclarationError(f"{entry!r}: the bounds of a slice are integers.")
    return slice(*(None if one is None else int(one) for one in bounds))


def index_entries(index: Any) -> tuple[Any, ...]:
    """Everything an index is made of, bounds of slices and entries of lists."""
    found: list[Any] = []
    for one in index if isinstance(index, tuple) else (index,):
        if isinstance(one, slice):
            found += [one.start, one.stop, one.step]
        elif isinstance(one, list):
            found += one
        else:
            found.append(one)
    return tuple(found)


def _index_text(entries: tuple[Any, ...]) -> str:
    def one(entry: Any) -> str:
        if entry is Ellipsis:
            return "..."
        if isinstance(entry, slice):
            bounds = ("" if b is None else str(b) for b in (entry.start, entry.stop))
            step = "" if entry.step is None else f":{entry.step}"
            return ":".join(bounds) + step
        return str(entry.tolist() if isinstance(entry, np.ndarray) else entry)

    return ", ".join(one(entry) for entry in entries)
