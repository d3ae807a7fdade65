"""What a layer returns: its variables, multipliers and objective by name."""

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, ClassVar, NoReturn, TypeVar

from torch import Tensor
from torch.utils import _pytree

from optlayers.solution import Status

T = TypeVar("T")


class Named(Mapping[str, T]):
    """Values by name, as attributes and as items.

    Names with a dot, and those of a mapping's methods ("keys", "items", "values",
    "get"), are items only.

    Attributes:
        what: what a name stands for, for messages.
    """

    what: ClassVar[str] = "value"

    def __init__(self, values: dict[str, T]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> T:
        if name in self._values:
            return self._values[name]
        raise KeyError(_no_such(self.what, name, self._values))

    def __getattr__(self, name: str) -> T:
        values = self.__dict__.get("_values", {})
        if name in values:
            return values[name]
        raise AttributeError(_no_such(self.what, name, values))

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._values]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({shapes_text(self._values)})"


class Multipliers(Named[Tensor]):
    """Lagrange multipliers by constraint name.

    `out.dual.dynamics` and `out.dual["dynamics"]` are the same tensor; names with a
    dot, such as "x.lower", and those of a mapping's methods ("keys", "items", "values",
    "get") need the second form.
    """

    what = "constraint"


class Result:
    """The outcome of one call, every tensor with the call's leading batch dimensions.

    Attributes:
        dual: multipliers by constraint name, `Multipliers`.
        objective: optimal value in the declared sense, [*batch]; None where nothing is
            optimized.
        status: a `Status` per sample, int8 [*batch].
        stats: numbers per sample ("steps", "residual", ...), each [*batch].

    Each declared variable is an attribute of its own name: `out.x`.
    """

    def __init__(
        self,
        values: dict[str, Tensor],
        dual: dict[str, Tensor],
        objective: Tensor | None,
        status: Tensor,
        stats: dict[str, Tensor],
    ) -> None:
        self._values = values
        self.dual = Multipliers(dual)
        self.objective = objective
        self.status = status
        self.stats = stats

    @property
    def ok(self) -> Tensor:
        """Whether each sample was solved, bool [*batch]."""
        return self.status == int(Status.SOLVED)

    def __getattr__(self, name: str) -> Tensor:
        values = self.__dict__.get("_values", {})
        if name in values:
            return values[name]
        raise AttributeError(_no_such("variable", name, values))

    def __getitem__(self, name: str) -> Tensor:
        """The variable of that name, as `out[name]`."""
        if name in self._values:
            return self._values[name]
        raise KeyError(_no_such("variable", name, self._values))

    def __contains__(self, name: object) -> bool:
        """Whether there is a variable of that name."""
        return name in self._values

    def __iter__(self) -> NoReturn:
        """Refused, as which of its tensors would come first is nowhere said."""
        names = ", ".join(f"out.{name}" for name in self._values)
        raise TypeError(
            f"a {type(self).__name__} is read by name, not in order: {names}, or "
            'out["name"].'
        )

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._values]

    def __repr__(self) -> str:
        total = self.status.numel()
        solved = int(self.ok.sum())
        shapes = shapes_text(self._values)
        return f"{type(self).__name__}({shapes}; {solved} of {total} solved)"


def _no_such(what: str, name: object, known: Mapping[str, Any]) -> str:
    near = get_close_matches(str(name), list(known), n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"no {what} {name!r}; there are {', '.join(known) or 'none'}.{hint}"


def shapes_text(values: Mapping[str, Any]) -> str:
    """Names with the shapes of their tensors, or what else they are."""
    return ", ".join(f"{name}={_shape(value)}" for name, value in values.items())


def _shape(value: Any) -> str:
    return str(list(value.shape)) if isinstance(value, Tensor) else repr(value)


def _flatten(result: Result) -> tuple[list[Tensor], tuple[tuple[str, ...], ...]]:
    dual, stats = dict(result.dual), result.stats
    leaves = [*result._values.values(), *dual.values(), *stats.values()]
    names = (tuple(result._values), tuple(dual), tuple(stats))
    objective = [] if result.objective is None else [result.objective]
    return [*leaves, result.status, *objective], names


def _unflatten(leaves: Iterable[Any], names: Any) -> Result:
    rest = iter(leaves)
    values, dual, stats = ({name: next(rest) for name in group} for group in names)
    status = next(rest)
    return Result(values, dual, next(rest, None), status, stats)


# A pytree, so that torch.func.vmap(layer) may return a whole Result.
_pytree.register_pytree_node(Result, _flatten, _unflatten)
