"""What methods for smooth functions cannot take, refused by name with the remedy."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from optlayers.modeling.cones import cone_names
from optlayers.modeling.constraints import Constraint
from optlayers.modeling.declaration import Declaration
from optlayers.modeling.expressions import Expression
from optlayers.modeling.inference import located_at, quoted

_PIECES = (
    "Where it is to be small, write its epigraph: a Variable t in its place, and "
    "constraints {} for its pieces"
)
_ABOVE = _PIECES.format("t >= ...") + "."
_BELOW = "Where it is to be large, write its hypograph: a Variable t in its place, and "
_BELOW += "constraints t <= ... for its pieces."
_ABSOLUTE = _PIECES.format("t >= e and t >= -e") + "."
_SQUARED = (
    "It has a kink at zero. Write its square, which is smooth: ol.sum_squares(e), and "
    "as a bound ol.sum_squares(e) <= r**2."
)
_SPECTRAL = (
    "Leave it to a convex problem, or write it with matrices of variables, such as "
    "X == L @ L.T, and smooth functions of these."
)

_NORMS = ("norm", "pnorm")

# Atoms with kinks, and what to write instead; e is what the atom is applied to.
KINKS: Mapping[str, str] = {
    **dict.fromkeys(("abs", "norm1", "norm_inf", "tv"), _ABSOLUTE),
    **dict.fromkeys(
        ("pos", "neg", "max", "maximum", "cummax", "ptp", "scalene", "sum_largest"),
        _ABOVE,
    ),
    **dict.fromkeys(("cvar", "dotsort"), _ABOVE),
    **dict.fromkeys(("min", "minimum", "sum_smallest"), _BELOW),
    **dict.fromkeys(("norm", "pnorm", "mixed_norm", "std"), _SQUARED),
    **dict.fromkeys(
        (
            *("lambda_max", "lambda_min", "lambda_sum_largest"),
            *("lambda_sum_smallest", "normNuc", "sigma_max", "pf_eigenvalue"),
        ),
        _SPECTRAL,
    ),
}
# What says the same as a cone without one, where something does.
_WITHOUT_CONE: Mapping[str, str] = {
    "zero": "Write left == 0.",
    "nonneg": "Write left >= 0.",
    "soc": "Write its square: ol.sum_squares(e) <= t**2, t >= 0.",
    "psd": "Write the matrix as a product, such as X == L @ L.T with a Variable L.",
    "exp": "Write y * ol.exp(x / y) <= z, y >= 0.",
    "power": "Write it with powers, x**a * y**(1 - a) >= z.",
}


def roughness(declaration: Declaration) -> str:
    """What its fields and constraints have that is not smooth, with the remedy.

    Args:
        declaration: a problem that is not convex.

    Returns:
        One sentence on the first such thing; empty if there is none.
    """
    return next(_faults(declaration), "")


def kink(expressions: Sequence[Expression]) -> str:
    """The first atom with kinks that depends on variables, with the remedy.

    Args:
        expressions: objective and sides of constraints.

    Returns:
        One sentence; empty if there is none.
    """
    return next(_kinks(expressions), "")


def _faults(declaration: Declaration) -> Iterator[str]:
    for field in declaration.fields.values():
        if field.is_variable and field.symmetric:
            yield (
                f"{field.origin.place}: {field.name} = {field.text} is declared "
                "symmetric. Declare a plain matrix L and write (L + L.T) / 2 in its "
                "place."
            )
    for one in declaration.constraints:
        if one.cone is not None:
            yield _of_cone(one)


def _kinks(roots: Iterable[Expression]) -> Iterator[str]:
    """What stands in these expressions, depends on variables and has kinks."""
    # A loop in the body nests deeper than Python recurses, and shares its terms.
    pending = list(roots)
    seen = set(pending)
    while pending:
        one = pending.pop()
        if not one.depends_on_variables:
            continue
        if one.name in KINKS:
            yield (
                f"{quoted(one)} ({one.name}) is not smooth{_direction(one)}. "
                f"{_remedy(one)}"
            )
        new = [arg for arg in reversed(one.arguments) if arg not in seen]
        seen.update(new)
        pending.extend(new)


def _direction(one: Expression) -> str:
    """Why no variable was put in its place, of atoms for which one would do."""
    if one.name in ("min", "minimum"):
        return ", and nothing says that more of it is better"
    has_form = one.name in ("abs", "pos", "neg", "max", "maximum", "norm1", "norm_inf")
    return ", and nothing says that less of it is better" * (
        has_form or one.name in _NORMS
    )


def _remedy(one: Expression) -> str:
    is_round = one.options.get("p", 2) in (2, "fro", None)
    return _ABSOLUTE if one.name in _NORMS and not is_round else KINKS[one.name]


def _of_cone(one: Constraint) -> str:
    assert one.cone is not None
    names = sorted(cone_names(one.cone))
    remedies = " ".join(_WITHOUT_CONE[name] for name in names)
    return located_at(
        one, f"{one.name} is a constraint by cone ({', '.join(names)}). {remedies}"
    )
