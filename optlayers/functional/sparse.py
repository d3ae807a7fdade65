"""Sparse matrices as arguments of a function: entries vary, their places do not.

The same places, call after call, are the same object, so that a plan made for them is
found again.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optlayers.errors import NotSupported, ParameterError, ShapeError
from optlayers.linalg.pattern import Pattern, PatternMatrix
from optlayers.programs.cone_program import Matrix, Positions

# Patterns that are remembered, with their plans.
REMEMBERED = 64


def split(
    given: Mapping[str, Any],
) -> tuple[dict[str, Tensor], dict[str, Positions]]:
    """The numbers of every argument, and the places of those of the sparse ones.

    Args:
        given: tensors, sparse tensors and `PatternMatrix`es by name.

    Returns:
        Dense tensors as they are, the entries [*batch, nnz] of sparse ones; and places.

    Raises:
        ParameterError: a sparse tensor with batch axes.
    """
    numbers, places = {}, {}
    for name, value in given.items():
        if isinstance(value, PatternMatrix):
            numbers[name] = value.values
            places[name] = positions(value.rows, value.cols, value.shape)
        elif isinstance(value, Tensor) and value.layout != torch.strided:
            numbers[name], places[name] = _entries(name, value)
        else:
            numbers[name] = value
    return numbers, places


def positions(rows: Tensor, cols: Tensor, shape: tuple[int, int]) -> Positions:
    """The places as one object, the same for equal places.

    Raises:
        NotSupported: inside `torch.compile`, which cannot compare them.
    """
    if torch.compiler.is_compiling():
        raise NotSupported(
            "sparse matrices of optlayers.functional cannot be compiled; declare the "
            "problem with Parameter(..., pattern=S), whose places are known."
        )
    first, second = (one.detach().cpu().numpy().tobytes() for one in (rows, cols))
    return _remembered(first, second, shape)


def check_triangles(name: str, place: Positions) -> None:
    """Refuse one triangle of a symmetric matrix.

    Raises:
        ShapeError: entries stand on one side of the diagonal only.
    """
    above, below = place.rows < place.cols, place.rows > place.cols
    if bool(above.any()) == bool(below.any()):
        return
    side = "above" if bool(above.any()) else "below"
    raise ShapeError(
        f"{name} has entries {side} its diagonal only; give both triangles of the "
        f"symmetric matrix, as in {name} + {name}.mT with the diagonal halved before."
    )


def matrix(numbers: Tensor, place: Positions | None) -> Matrix:
    """The matrix of these numbers."""
    if place is None:
        return numbers
    device = numbers.device
    rows, cols = place.rows, place.cols
    if device.type != "cpu":
        rows, cols = rows.to(device), cols.to(device)
    return PatternMatrix(numbers, rows, cols, place.shape)


def pattern_of(place: Positions | None) -> Pattern | None:
    """The places as a check reads them."""
    return None if place is None else Pattern(place.rows, place.cols, place.shape)


def all_places(shape: tuple[int, int]) -> Positions:
    """The places of every entry, row by row."""
    rows, cols = np.indices(shape).reshape(2, -1)
    return positions(torch.from_numpy(rows), torch.from_numpy(cols), shape)


def stacked_places(first: Positions, second: Positions) -> Positions:
    """The places of two matrices, one above the other."""
    height = first.shape[0]
    return positions(
        torch.cat([first.rows, second.rows + height]),
        torch.cat([first.cols, second.cols]),
        (height + second.shape[0], first.shape[1]),
    )


@lru_cache(maxsize=REMEMBERED)
def _remembered(rows: bytes, cols: bytes, shape: tuple[int, int]) -> Positions:
    row_of, col_of = (
        torch.from_numpy(np.frombuffer(one, dtype=np.int64).copy())
        for one in (rows, cols)
    )
    return Positions(row_of, col_of, shape)


def _entries(name: str, value: Tensor) -> tuple[Tensor, Positions]:
    if value.ndim != 2 or value.dense_dim():
        raise ParameterError(
            f"{name} is a sparse tensor {list(value.shape)} with batch or dense axes; "
            "give ol.PatternMatrix(values [B, nnz], rows, cols, shape)."
        )
    coordinates = value if value.layout == torch.sparse_coo else value.to_sparse_coo()
    coordinates = coordinates.coalesce()
    rows, cols = coordinates.indices()
    shape = (int(value.shape[0]), int(value.shape[1]))
    return coordinates.values(), positions(rows, cols, shape)
