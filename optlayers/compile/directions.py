"""In which direction an argument moves the value of an expression, by sign rules.

What stands for a kinked atom may lie above it (below, where more is wanted), which
serves only where the whole can but lose by it. Source: S. Boyd, L. Vandenberghe,
Convex Optimization (2004), section 3.2.4.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from enum import IntEnum

from optlayers.modeling.expressions import Expression


class Want(IntEnum):
    """What is better of a value: less of it, more of it, or nothing that is known."""

    MORE = -1
    NEITHER = 0
    LESS = 1


class Kinked:
    """The expressions in which an atom with kinks depends on variables."""

    def __init__(self, roots: Iterable[Expression], names: Collection[str]) -> None:
        """Look through everything that these are built of.

        Args:
            roots: expressions.
            names: of the atoms with kinks.
        """
        self._found: dict[Expression, bool] = {}
        # A loop in the body nests deeper than Python recurses.
        pending = list(roots)
        while pending:
            one = pending[-1]
            missing = [each for each in one.arguments if each not in self._found]
            if one in self._found or not one.depends_on_variables:
                self._found.setdefault(one, False)
                pending.pop()
            elif missing:
                pending.extend(missing)
            else:
                inner = any(self._found[each] for each in one.arguments)
                self._found[one] = inner or one.name in names
                pending.pop()

    def __contains__(self, one: Expression) -> bool:
        return self._found[one]

    def __bool__(self) -> bool:
        return any(self._found.values())


def wants(one: Expression, want: Want, kinked: Kinked) -> tuple[Want, ...]:
    """What is better of each argument where less, or more, of the whole is better.

    Args:
        one: an expression.
        want: of its value.
        kinked: which arguments will move.
    """
    count = len(one.arguments)
    rule = _RULES.get(one.name)
    if rule is None or want is Want.NEITHER:
        return (Want.NEITHER,) * count
    return rule(one, want, kinked)


def _times(want: Want, sign: int) -> Want:
    return Want(want * sign)


def _sign(e: Expression) -> int:
    return 1 if e.sign.is_nonneg else -1 if e.sign.is_nonpos else 0


def _keeps_sign(e: Expression, want: Want, kinked: Kinked) -> bool:
    """Whether what stands for e has its sign: it is above e >= 0, or below e <= 0."""
    return e not in kinked or (_sign(e) != 0 and want == _sign(e))


def _increasing(e: Expression, want: Want, _: Kinked) -> tuple[Want, ...]:
    return (want,) * len(e.arguments)


def _decreasing(e: Expression, want: Want, _: Kinked) -> tuple[Want, ...]:
    return (_times(want, -1),) * len(e.arguments)


def _even(e: Expression, want: Want, kinked: Kinked) -> tuple[Want, ...]:
    """Growing with the magnitude of the first argument."""
    first, *others = e.arguments
    wanted = _times(want, _sign(first))
    if not _keeps_sign(first, wanted, kinked):
        wanted = Want.NEITHER
    return (wanted, *(Want.NEITHER for _ in others))


def _power(e: Expression, want: Want, kinked: Kinked) -> tuple[Want, ...]:
    p = e.options["p"]
    if isinstance(p, Expression):
        return (Want.NEITHER,)
    is_whole = p == int(p)
    if p > 0 and is_whole and int(p) % 2:
        return (want,)
    if not e.arguments[0].sign.is_nonneg and (p < 0 or not is_whole):
        return (Want.NEITHER,)
    return _even(e, want if p > 0 else _times(want, -1), kinked)


def _product(e: Expression, want: Want, kinked: Kinked) -> tuple[Want, ...]:
    first, second = e.arguments
    of_first, of_second = _times(want, _sign(second)), _times(want, _sign(first))
    if first in kinked and second in kinked:
        both = _sign(first) == _sign(second) == 1 and want is Want.LESS
        return (want, want) if both else (Want.NEITHER, Want.NEITHER)
    return (of_first, of_second)


def _quotient(e: Expression, want: Want, kinked: Kinked) -> tuple[Want, ...]:
    top, bottom = e.arguments
    of_top, of_bottom = _times(want, _sign(bottom)), _times(want, -_sign(top))
    is_safe = _keeps_sign(bottom, of_bottom, kinked) and _sign(bottom) != 0
    if bottom in kinked and (top in kinked or not is_safe):
        return (Want.NEITHER, Want.NEITHER)
    return (of_top, of_bottom)


_Rule = Callable[[Expression, Want, Kinked], tuple[Want, ...]]
_RULES: Mapping[str, _Rule] = {
    **dict.fromkeys(
        (
            *("add", "sum", "mean", "cumsum", "trace", "index", "broadcast_to"),
            *("reshape", "vec", "transpose", "concatenate", "stack", "hstack"),
            *("vstack", "diag", "upper_tri", "vec_to_upper_tri", "triu", "tril"),
            *("exp", "log", "log1p", "sqrt", "logistic", "log_sum_exp"),
            *("log_normcdf", "max", "maximum", "min", "minimum", "pos"),
        ),
        _increasing,
    ),
    **dict.fromkeys(("negate", "neg"), _decreasing),
    **dict.fromkeys(
        (
            *("square", "sum_squares", "huber", "abs", "norm1", "norm_inf"),
            *("norm", "pnorm"),
        ),
        _even,
    ),
    **dict.fromkeys(("multiply", "matmul", "vdot", "outer", "kron"), _product),
    "power": _power,
    "divide": _quotient,
}
