"""The cones of `ol.in_cone`: which one is meant, and whether the shape fits.

K_exp = cl{(x, y, z): y > 0, y exp(x/y) <= z}
K_pow(a) = {(x, y, z): x^a y^(1-a) >= |z|, x, y >= 0}
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np

from optlayers.errors import DeclarationError, ShapeError

ConeName = Literal["zero", "nonneg", "soc", "psd", "exp", "power"]
CONE_NAMES: tuple[ConeName, ...] = get_args(ConeName)

# What the rest of the world calls them.
_ALIASES = {
    "zeros": "zero",
    "equality": "zero",
    "nonnegative": "nonneg",
    "positive": "nonneg",
    "lorentz": "soc",
    "second_order": "soc",
    "second-order": "soc",
    "semidefinite": "psd",
    "sdp": "psd",
    "exponential": "exp",
    "expcone": "exp",
    "pow": "power",
    "powcone": "power",
}


@runtime_checkable
class StackedRows(Protocol):
    """What `ol.Cones` tells of rows stacked in the order zero, nonneg, ..., power."""

    zero: int
    nonneg: int
    soc: tuple[int, ...]
    psd: tuple[int, ...]
    exp: int
    power: tuple[float, ...]


@dataclass(frozen=True)
class Cone:
    """Cones of one kind.

    Attributes:
        name: which kind.
        size: entries of one cone along the last axis; for matrices their order.
        exponents: of power cones one each, in C order of the leading axes.
    """

    name: ConeName
    size: int
    exponents: tuple[float, ...] = ()

    @property
    def rows(self) -> int:
        """Length of the last axis that one cone takes in a stack."""
        return self.size * (self.size + 1) // 2 if self.name == "psd" else self.size


@dataclass(frozen=True)
class Stack:
    """Cones of any kinds, one after another along the last axis.

    Semidefinite rows are the upper triangle column by column, off-diagonal entries
    times sqrt 2.

    Attributes:
        cones: each once, power cones with one exponent.
    """

    cones: tuple[Cone, ...]

    @property
    def rows(self) -> int:
        """Length of the last axis."""
        return sum(one.rows for one in self.cones)


def cone_names(cone: Cone | Stack) -> set[ConeName]:
    """The kinds of cones in it."""
    return {one.name for one in cone.cones} if isinstance(cone, Stack) else {cone.name}


def cone_of(cone: Any, shape: tuple[int, ...], exponent: Any) -> Cone | Stack:
    """The cones that an expression of this shape is to lie in.

    Args:
        cone: a name, or `ol.Cones`.
        shape: of the expression, at one stage.
        exponent: of power cones, a number or one for each of the leading axes.

    Raises:
        DeclarationError: an unknown cone, or an exponent that is missing, superfluous
            or not between 0 and 1.
        ShapeError: the cone does not take the shape.
    """
    if isinstance(cone, StackedRows):
        _refuse_exponent(exponent, "ol.Cones holds the exponents, as power=(0.3,)")
        return _stack_of(cone, shape)
    name = _known_name(cone)
    if name == "power":
        _check_shape(name, shape)
        return Cone(name, 3, _exponents(exponent, shape[:-1]))
    _refuse_exponent(exponent, f'only "power" has one, not "{name}"')
    _check_shape(name, shape)
    return Cone(name, shape[-1] if shape else 1)


def _known_name(cone: Any) -> ConeName:
    for name in CONE_NAMES:
        if isinstance(cone, str) and cone == name:
            return name
    listed = ", ".join(f'"{name}"' for name in CONE_NAMES)
    hint = ""
    if isinstance(cone, str):
        word = cone.lower()
        near = get_close_matches(word, [*CONE_NAMES, *_ALIASES], n=1)
        if near:
            hint = f' Did you mean "{_ALIASES.get(near[0], near[0])}"?'
    raise DeclarationError(
        f"there is no cone {cone!r}; there are {listed}, or an ol.Cones for stacked "
        f"rows.{hint}"
    )


def _check_shape(name: ConeName, shape: tuple[int, ...]) -> None:
    needs = {
        "soc": "(t, u) with |u| <= t along its last axis, one entry at least",
        "psd": "square matrices, [n, n]",
        "exp": "three entries (x, y, z) along its last axis",
        "power": "three entries (x, y, z) along its last axis",
    }
    fits = {
        "soc": bool(shape) and shape[-1] > 0,
        "psd": len(shape) >= 2 and shape[-1] == shape[-2],
        "exp": shape[-1:] == (3,),
        "power": shape[-1:] == (3,),
    }
    if fits.get(name, True):
        return
    hint = ""
    if shape[:1] == (3,) and name in ("exp", "power"):
        hint = "; write ol.stack([x, y, z], axis=-1), or the transpose of this"
    raise ShapeError(f'"{name}" needs {needs[name]}{hint}')


def _exponents(exponent: Any, lead: tuple[int, ...]) -> tuple[float, ...]:
    """One exponent per cone, in C order."""
    if exponent is None:
        raise DeclarationError(
            'the cone "power" needs an exponent between 0 and 1: x^a y^(1-a) >= |z| is '
            'ol.in_cone(..., "power", exponent=a).'
        )
    try:
        values = np.asarray(exponent, dtype=np.float64)
        spread = np.broadcast_to(values, lead)
    except (TypeError, ValueError, RuntimeError, DeclarationError):
        raise DeclarationError(
            f"exponent={exponent!r} is no number, nor one for each of the leading axes "
            f"{list(lead)}; an exponent is fixed, it cannot be a Parameter."
        ) from None
    for one in values.ravel().tolist():
        if not (math.isfinite(one) and 0 < one < 1):
            raise DeclarationError(
                f"exponent={one:g}: exponents of power cones lie strictly between 0 "
                "and 1; x^a y^(1-a) >= |z| with a = 1 is x >= |z|, with a = 0 y >= |z|."
            )
    return tuple(spread.ravel().tolist())


def _refuse_exponent(exponent: Any, reason: str) -> None:
    if exponent is not None:
        raise DeclarationError(f"exponent={exponent!r}: {reason}; drop it.")


def _stack_of(cones: StackedRows, shape: tuple[int, ...]) -> Stack:
    found = Stack(tuple(_cones_in(cones)))
    if shape[-1:] != (found.rows,):
        raise ShapeError(
            f"{cones} has {found.rows} rows, so the last axis needs {found.rows} "
            "entries"
        )
    return found


def _cones_in(cones: StackedRows) -> Iterator[Cone]:
    counts: Sequence[tuple[ConeName, Sequence[int]]] = (
        ("zero", (cones.zero,) if cones.zero else ()),
        ("nonneg", (cones.nonneg,) if cones.nonneg else ()),
        ("soc", cones.soc),
        ("psd", cones.psd),
        ("exp", (3,) * cones.exp),
    )
    for name, sizes in counts:
        yield from (Cone(name, size) for size in sizes)
    yield from (Cone("power", 3, (exponent,)) for exponent in cones.power)
