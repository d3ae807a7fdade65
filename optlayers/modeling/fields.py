"""Fields as data: what the signature says, and the same with sizes known."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from optlayers.errors import DeclarationError, ShapeError
from optlayers.geometry.groups import Group
from optlayers.linalg.pattern import Pattern
from optlayers.modeling.dimensions import Dimension
from optlayers.modeling.origin import NOWHERE, Origin

# Options of layers, attributes of results, and the first argument of a method.
RESERVED = frozenset(
    (
        "self",
        *("solver", "gradient", "order", "on_failure", "tolerance", "warm_start"),
        *("starts", "all_starts"),
        *("steps", "dual", "objective", "status", "ok", "stats"),
    )
)


class Role(Enum):
    """What a field is to the problem."""

    VARIABLE = "Variable"
    PARAMETER = "Parameter"
    STATE = "State"
    CONTROL = "Control"
    TIME = "Time"

    @property
    def is_variable(self) -> bool:
        """Whether the solver chooses the value of such a field."""
        return self in (Role.VARIABLE, Role.STATE, Role.CONTROL)

    @property
    def is_staged(self) -> bool:
        """Whether such a field has a value at every stage."""
        return self in (Role.STATE, Role.CONTROL)


@dataclass(frozen=True, eq=False)
class Field:
    """One argument of a declaration, sizes still by name.

    Attributes:
        role: what it is to the problem.
        dimensions: its axes.
        nonneg: every entry is at least zero.
        nonpos: every entry is at most zero.
        symmetric: it is a symmetric matrix.
        psd: it is a symmetric positive semidefinite matrix.
        lower: lower bound, a number or tensor, or None.
        upper: upper bound, a number or tensor, or None.
        start: first guess, a number or tensor, or None.
        doc: the user's sentence on it.
        origin: where it was declared.
        pattern: where a sparse parameter has entries; bounds are then of its entries.
        group: whose elements it holds, as matrices on its last two axes; None for
            plain tensors.
    """

    role: Role
    dimensions: tuple[Dimension, ...] = ()
    nonneg: bool = False
    nonpos: bool = False
    symmetric: bool = False
    psd: bool = False
    lower: Any = None
    upper: Any = None
    start: Any = None
    doc: str = ""
    origin: Origin = NOWHERE
    pattern: Pattern | None = None
    group: Group | None = None

    def __post_init__(self) -> None:
        if self.pattern is not None:
            self._check_pattern(self.pattern)
        if self.nonneg and self.nonpos:
            raise self._refusal("nonneg and nonpos leave only zero; drop one")
        square = len(self.dimensions) == 2 and len(set(self.dimensions)) == 1
        if (self.symmetric or self.psd) and not square:
            word = "symmetric" if self.symmetric else "psd"
            raise self._refusal(f'{word}=True needs a square matrix, as in "n n"')
        if self.lower is not None and self.upper is not None:
            crossed = torch.as_tensor(self.lower) > torch.as_tensor(self.upper)
            if bool(crossed.any()):
                raise self._refusal("lower is above upper")

    @cached_property
    def text(self) -> str:
        """The declaration as it is written, e.g. `Variable("n", nonneg=True)`."""
        words = [f'"{self.dimension_text}"'] if self.dimension_text else []
        for name in ("nonneg", "nonpos", "symmetric", "psd"):
            words += [f"{name}=True"] if getattr(self, name) else []
        for name in ("lower", "upper", "start"):
            value = getattr(self, name)
            words += [f"{name}={_number_text(value)}"] if value is not None else []
        if self.pattern is not None:
            words.append(f"pattern={self.pattern.size} entries")
        return f"{self._word}({', '.join(words)})"

    @property
    def dimension_text(self) -> str:
        """The dimensions as they are written, e.g. `k n`."""
        written = self.dimensions if self.group is None else self.dimensions[:-2]
        return " ".join(str(dimension) for dimension in written)

    @property
    def dimension_names(self) -> tuple[str, ...]:
        """Names of the sizes it is declared with, in order."""
        names = (dimension.name for dimension in self.dimensions)
        return tuple(dict.fromkeys(name for name in names if name is not None))

    def bind(
        self, name: str, sizes: Mapping[str, int], steps: int | None
    ) -> "BoundField":
        """The field with its sizes known.

        Args:
            name: its name in the signature.
            sizes: size of every named dimension.
            steps: number of steps; None where nothing is staged, as in a differential
                equation.

        Raises:
            ShapeError: a bound or first guess does not fit the shape.
        """
        shape = tuple(dimension.size(sizes) for dimension in self.dimensions)
        if self.pattern is not None:
            shape = (self.pattern.size,)
        if min(shape, default=0) < 0:
            raise ShapeError(f"{name} = {self.text} would have shape {list(shape)}.")
        for attribute in ("lower", "upper", "start"):
            self._check_fit(name, attribute, shape, steps)
        knots = None
        if self.role.is_staged and steps is not None:
            knots = steps + 1 if self.role is Role.STATE else steps
        return BoundField(
            name=name,
            role=self.role,
            shape=shape,
            knots=knots,
            nonneg=self.nonneg,
            nonpos=self.nonpos,
            symmetric=self.symmetric,
            psd=self.psd,
            lower=self.lower,
            upper=self.upper,
            start=self.start,
            doc=self.doc,
            text=self.text,
            dimensions=self.dimensions,
            origin=self.origin,
            pattern=self.pattern,
            group=self.group,
        )

    @property
    def _word(self) -> str:
        if self.group is None:
            return self.role.value
        return self.group.name + ".parameter" * (self.role is Role.PARAMETER)

    def pattern_sizes(self) -> dict[str, int]:
        """The named sizes that the pattern fixes."""
        if self.pattern is None:
            return {}
        pairs = zip(self.dimensions, self.pattern.shape, strict=True)
        return {one.name: one.solve(size) or 0 for one, size in pairs if one.name}

    def _check_pattern(self, pattern: Pattern) -> None:
        shape = list(pattern.shape)
        if len(self.dimensions) != 2:
            raise self._refusal(
                f'a pattern {shape} is that of a matrix; declare two axes, as in "m n"'
            )
        sizes: dict[str, int] = {}
        for axis, size in zip(self.dimensions, shape, strict=True):
            own = axis.solve(size)
            if own is None or sizes.setdefault(axis.name or "", own) != own:
                raise self._refusal(f"the pattern is {shape}, which does not fit")
            if axis.name is None:
                sizes.pop("")
        if (self.symmetric or self.psd) and pattern.mirror is None:
            raise self._refusal(
                "the pattern is not symmetric; give the entries of both triangles, as "
                "in pattern=S + S.T"
            )

    def _check_fit(
        self, name: str, attribute: str, shape: tuple[int, ...], steps: int | None
    ) -> None:
        value = getattr(self, attribute)
        if not isinstance(value, Tensor):
            return
        allowed = [shape]
        if attribute == "start" and self.role.is_staged and steps is not None:
            knots = steps + 1 if self.role is Role.STATE else steps
            allowed.append((knots, *shape))
        if not any(_fits(tuple(value.shape), one) for one in allowed):
            raise ShapeError(
                f"{self.origin.place}: {name} = {self.text}: {attribute} has shape "
                f"{list(value.shape)}, {name} has {list(shape)}."
            )

    def _refusal(self, reason: str) -> DeclarationError:
        return DeclarationError(f"{self.origin.place}: {self.text}: {reason}.")


@dataclass(frozen=True, eq=False)
class BoundField:
    """A field whose sizes are known.

    Attributes:
        name: its name in the signature.
        role: what it is to the problem.
        shape: shape of one sample at one stage.
        knots: stages it has: steps + 1 for a State, steps for a Control; None for
            others, and for all in a differential equation.
        nonneg, nonpos, symmetric, psd: declared attributes.
        lower, upper, start: as declared: number, float64 tensor or None.
        doc: the user's sentence on it.
        pattern: where a sparse parameter has entries; its shape is then [nnz].
        group: whose elements it holds, as matrices; None for plain tensors.
        text: the declaration's source, e.g. `Variable("n", nonneg=True)`.
        dimensions: the axes as they were declared.
        origin: where it was declared.
    """

    name: str
    role: Role
    shape: tuple[int, ...]
    knots: int | None = None
    nonneg: bool = False
    nonpos: bool = False
    symmetric: bool = False
    psd: bool = False
    lower: Any = None
    upper: Any = None
    start: Any = None
    doc: str = ""
    text: str = ""
    dimensions: tuple[Dimension, ...] = ()
    origin: Origin = NOWHERE
    pattern: Pattern | None = None
    group: Group | None = None

    @property
    def coordinate_shape(self) -> tuple[int, ...]:
        """Shape of what is solved for: its entries, or the steps of poses."""
        if self.group is None:
            return self.shape
        return (*self.shape[:-2], self.group.degrees)

    @property
    def is_variable(self) -> bool:
        """Whether the solver finds its value; a Control without stages is given."""
        if self.role is Role.CONTROL:
            return self.knots is not None
        return self.role.is_variable

    @property
    def is_continuous(self) -> bool:
        """Whether it is the state of a differential equation, at the present time."""
        return self.role is Role.STATE and self.knots is None

    @property
    def stages(self) -> range | None:
        """The stages it has a value at; None if it is not staged."""
        return None if self.knots is None else range(self.knots)


def _number_text(value: float | Tensor) -> str:
    if not isinstance(value, Tensor):
        return f"{value:g}"
    if value.numel() > 4:
        return f"tensor of shape {list(value.shape)}"
    return str(_shorten(value.tolist()))


def _shorten(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_shorten(one) for one in value)
    return int(value) if value == int(value) else value


def _fits(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    try:
        return tuple(torch.broadcast_shapes(shape, target)) == target
    except RuntimeError:
        return False
