"""The options every layer and every function takes, checked once, hashable.

solver, gradient, order, on_failure, tolerance, warm_start, starts, all_starts.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from numbers import Real
from typing import Any, get_args

from optlayers.errors import NotSupported, ParameterError, UnknownOption
from optlayers.implicit.linearizations import APPROXIMATE, LINEARIZATIONS
from optlayers.implicit.smoothed import Smoothed
from optlayers.interfaces import Kind, Solver
from optlayers.solvers.plan import OnFailure

# Which ways of differentiating each kind has; "exact" is everybody's.
GRADIENTS: Mapping[Kind, tuple[str, ...]] = {
    Kind.CONVEX: ("exact", "diffcp"),
    Kind.ROOT: (*LINEARIZATIONS, "unrolled"),
    Kind.ODE: (
        "exact",
        "direct",
        "sweep",
        "checkpoint",
        "backsolve",
        "steady_state",
    ),
    Kind.MINIMIZE: ("exact", "least_squares", "smoothed"),
}
# Those that can be differentiated once only, and what else is to be said of them.
FIRST_ORDER: Mapping[str, str] = {
    "diffcp": "",
    "sweep": "",
    "backsolve": "is approximate and ",
    **dict.fromkeys(APPROXIMATE, "is approximate and "),
}
# Whose search may begin where the caller says.
WARM = (Kind.ROOT, Kind.MINIMIZE)
ON_FAILURE = get_args(OnFailure)
_KINDS = frozenset(one.value for one in Kind)


@dataclass(frozen=True, kw_only=True)
class SolveOptions:
    """How to solve, how to differentiate, and what to do when a sample fails.

    Attributes:
        solver: a registered name, also behind that of its kind ("minimize.newton"),
            "auto", or a solver instance.
        gradient: "exact" (implicit function theorem), or another of the kind's:
            "diffcp" (a parity reference) of convex programs; "dense", "gmres",
            "bicgstab", "normal_cg", "least_squares", "neumann", "one_step", "unrolled"
            of roots; "least_squares" of minima also, and "smoothed" or a `Smoothed`.
        order: how often the outputs may be differentiated, at least 1.
        on_failure: "raise" (name the samples), "nan" (NaN rows with zero gradient) or
            "keep" (best iterate with zero gradient).
        tolerance: residual that counts as solved, relative for convex programs; None
            takes the default of the kind.
        warm_start: where the search begins, values of variables by name, each
            [*batch, *shape]; None for the start of the declaration. Only roots and
            minima have one.
        starts: how many starts of each sample are tried, or what they are: values of
            variables by name, each [S, *shape]; None for one. Only minima have several.
        all_starts: whether every start is a sample of the result, on an axis S behind
            its batch axes, instead of the best alone.
        asked: the kind of problem that `solver` names, not an option of its own; None
            if it names none.

    Raises:
        ParameterError: a value outside its range, with the values that exist.
    """

    solver: Any = "auto"
    gradient: Any = "exact"
    order: int = 1
    on_failure: OnFailure = "raise"
    tolerance: float | None = None
    # A hint for one call: options that differ in nothing else share their plans.
    warm_start: Any = field(default=None, compare=False, repr=False)
    starts: Any = field(default=None, compare=False, repr=False)
    all_starts: bool = field(default=False, compare=False)
    asked: Kind | None = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "asked", kind_asked(self.solver))
        if _name_of(self.gradient) not in tuple(_all_gradients()):
            raise ParameterError(_no_gradient(self.gradient))
        _one_of("on_failure", self.on_failure, ON_FAILURE)
        if isinstance(self.order, bool) or not isinstance(self.order, int):
            raise ParameterError(f"order={self.order!r}: give an integer, 1 or more.")
        if self.order < 1:
            raise ParameterError(f"order={self.order}: give 1 or more.")
        if self.gradient in FIRST_ORDER and self.order != 1:
            raise ParameterError(
                f'gradient="{self.gradient}" {FIRST_ORDER[self.gradient]}has no '
                f'derivative of order {self.order}; use gradient="exact".'
            )
        is_number = isinstance(self.tolerance, Real)
        if self.tolerance is not None and not (is_number and 0 < self.tolerance < 1):
            raise ParameterError(
                f"tolerance={self.tolerance!r}: give a number between 0 and 1, "
                "such as 1e-8; it bounds the residual."
            )
        check_starts(self.starts)
        if self.all_starts and self.starts is None:
            raise ParameterError("all_starts=True: say how many, as in starts=8.")

    def check_kind(self, kind: Kind) -> None:
        """Refuse what problems of this kind do not know.

        Raises:
            ParameterError: a gradient of another kind, with those that exist.
            NotSupported: a warm start of a kind that begins where it must.
        """
        check_gradient(self.gradient, kind)
        if self.warm_start is not None and kind not in WARM:
            raise NotSupported(
                f"warm_start= was given, and problems of kind {kind.value} take none; "
                f"those of kind {' and '.join(one.value for one in WARM)} do."
            )
        if self.starts is not None and kind is not Kind.MINIMIZE:
            raise NotSupported(
                f"starts= was given, and problems of kind {kind.value} are solved from "
                "one; those of kind minimize, which may have several minima, from many."
            )

    @property
    def cold(self) -> "SolveOptions":
        """The same options without what says where the search begins, to be kept."""
        if not self.is_hinted:
            return self
        return self.replace(warm_start=None, starts=None, all_starts=False)

    @property
    def is_hinted(self) -> bool:
        """Whether it is said where the search begins."""
        return self.warm_start is not None or self.starts is not None

    def replace(self, **changes: Any) -> "SolveOptions":
        """The same options with some changed; unknown names raise."""
        if not changes:
            return self
        unknown = [name for name in changes if name not in OPTION_NAMES]
        if unknown:
            raise UnknownOption(unknown_option(unknown[0]))
        present = {name: getattr(self, name) for name in OPTION_NAMES}
        return SolveOptions(**(present | changes))


OPTION_NAMES = tuple(one.name for one in fields(SolveOptions) if one.init)


def kind_asked(solver: object) -> Kind | None:
    """The kind of problem that a choice of solver names, or None.

    Args:
        solver: the option: a name, "kind.name" or an instance.
    """
    if isinstance(solver, str):
        kind, dot, _ = solver.partition(".")
        return Kind(kind) if dot and kind in _KINDS else None
    return solver.kind if isinstance(solver, Solver) else None


def check_starts(starts: Any) -> None:
    """Refuse numbers of starts below one.

    Args:
        starts: a number, or what they are.

    Raises:
        ParameterError: with what is right.
    """
    if isinstance(starts, int) and not isinstance(starts, bool) and starts >= 1:
        return
    if isinstance(starts, Real):
        raise ParameterError(f"starts={starts!r}: give an integer, 1 or more.")


def check_gradient(gradient: object, kind: Kind) -> None:
    """Refuse a way of differentiating that problems of this kind do not have.

    Raises:
        ParameterError: lists those they have.
    """
    _one_of("gradient", _name_of(gradient), GRADIENTS[kind])


def unknown_option(name: str) -> str:
    """The sentence that answers an option nobody knows."""
    near = get_close_matches(name, OPTION_NAMES, n=1)
    hint = f" Did you mean {near[0]}=?" if near else ""
    return f"unknown option {name}=. Options are {', '.join(OPTION_NAMES)}.{hint}"


def _name_of(gradient: object) -> object:
    return "smoothed" if isinstance(gradient, Smoothed) else gradient


def _all_gradients() -> Iterator[str]:
    yield from dict.fromkeys(one for known in GRADIENTS.values() for one in known)


def _no_gradient(gradient: object) -> str:
    """Of every kind its own choices, as no kind is known yet."""
    near = get_close_matches(str(gradient), list(_all_gradients()), n=1)
    hint = f' Did you mean "{near[0]}"?' if near else ""
    lines = [f"\n  {kind.value}: {', '.join(GRADIENTS[kind])}" for kind in GRADIENTS]
    return (
        f"gradient={gradient!r} is none that there is, by kind:{''.join(lines)}{hint}"
    )


def _one_of(name: str, value: object, known: tuple[str, ...]) -> None:
    if value in known:
        return
    near = get_close_matches(str(value), known, n=1)
    hint = f' Did you mean "{near[0]}"?' if near else ""
    raise ParameterError(f"{name}={value!r}: one of {', '.join(known)}.{hint}")
