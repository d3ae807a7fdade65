"""Nodes of expressions that the compiler builds and takes apart."""

from typing import NamedTuple

from optlayers.modeling.expressions import Expression, Sign
from optlayers.modeling.origin import Origin


class Place(NamedTuple):
    """What a product must look like: its shape, its stages, where it was written."""

    shape: tuple[int, ...]
    stages: range | None
    origin: Origin


Where = Expression | Place


def with_arguments(
    e: Expression, arguments: tuple[Expression, ...], sign: Sign | None = None
) -> Expression:
    """The same operation on other arguments."""
    unchanged = all(a is b for a, b in zip(arguments, e.arguments, strict=True))
    if unchanged and sign is None:
        return e
    return Expression(
        e.name, arguments, e.options, e.shape, e.stages, sign or e.sign, e.origin
    )


def product(
    name: str, first: Expression, second: Expression, whole: Where
) -> Expression:
    """A product node in the place of `whole`."""
    sign = first.sign * second.sign
    return Expression(
        name, (first, second), {}, whole.shape, whole.stages, sign, whole.origin
    )


def parameter_first(e: Expression) -> tuple[Expression | None, Expression]:
    """The factors of a product, the one without variables first; None if none is."""
    first, second = e.arguments
    if not first.depends_on_variables:
        return first, second
    if not second.depends_on_variables:
        return second, first
    return None, e
