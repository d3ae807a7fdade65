"""Sums as signed terms, so that what is subtracted can change sides."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from optlayers.compile.geometric.nodes import negated, node, number
from optlayers.compile.parametric import Parametrics
from optlayers.modeling.expressions import Expression
from optlayers.modeling.signs import Sign

Signed = tuple[Expression, int]


class Terms(NamedTuple):
    """A sum: what is added, and what is subtracted without its minus."""

    plus: tuple[Expression, ...]
    minus: tuple[Expression, ...]


def signed_terms(e: Expression, parametrics: Parametrics) -> Terms:
    """The terms of a sum of sums; those of parameters alone are one term each way.

    Zeros have no terms, and numbers of both signs are split.
    """
    found: tuple[list[Expression], list[Expression]] = ([], [])
    pending: list[Signed] = [(e, 0)]
    while pending:
        one, sign = pending.pop()
        if one.sign is Sign.ZERO:
            continue
        parts = list(_parts(one, parametrics))
        if not parts:
            found[sign].append(one)
        pending.extend((part, sign ^ own) for part, own in reversed(parts))
    return Terms(gathered_terms(found[0]), gathered_terms(found[1]))


def gathered_terms(terms: Sequence[Expression]) -> tuple[Expression, ...]:
    """Terms of parameters alone, added up in torch, after the others."""
    own = [one for one in terms if not one.depends_on_variables]
    rest = [one for one in terms if one.depends_on_variables]
    if not own:
        return tuple(rest)
    whole = own[0]
    for one in own[1:]:
        whole = node("add", whole, one, origin=one.origin)
    return (*rest, whole)


def _parts(e: Expression, parametrics: Parametrics) -> Iterator[Signed]:
    """What e is the signed sum of; nothing if it is one positive term."""
    if e.name == "add":
        yield from ((one, 0) for one in e.arguments)
    elif e.name == "negate":
        yield e.arguments[0], 1
    elif not e.depends_on_variables:
        if parametrics.is_constant(e):
            yield from _split(e, parametrics)
        elif e.sign is Sign.NONPOS:
            yield negated(e), 1
    elif e.name in ("multiply", "divide", "matmul"):
        for place, one in enumerate(e.arguments):
            if one.depends_on_variables and one.name != "negate":
                continue
            parts = [] if one.name == "add" else list(_parts(one, parametrics))
            if parts:
                yield from ((_with(e, place, part), own) for part, own in parts)
                return


def _split(e: Expression, parametrics: Parametrics) -> Iterator[Signed]:
    value = parametrics.array(e)
    if not (value < 0).any():
        return
    for own, part in enumerate((value.clip(min=0), (-value).clip(min=0))):
        if part.any() or not np.isfinite(part).all():
            yield number(part, e.origin), own


def _with(e: Expression, place: int, part: Expression) -> Expression:
    arguments = tuple(part if k == place else a for k, a in enumerate(e.arguments))
    return Expression(
        e.name, arguments, e.options, e.shape, e.stages, Sign.UNKNOWN, e.origin
    )
