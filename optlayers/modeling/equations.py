"""Equations of a `solve(...)`: as many as unknowns, over variables to be found."""

import math
from collections.abc import Mapping, Sequence

from optlayers.errors import DeclarationError, ShapeError
from optlayers.modeling.constraints import Constraint
from optlayers.modeling.fields import BoundField
from optlayers.modeling.stages import window_text
from optlayers.modeling.wording import counted


def check_equations(
    name: str, equations: Sequence[Constraint], fields: Mapping[str, BoundField]
) -> None:
    """Refuse what no root finder can solve for.

    Args:
        name: of the declaration, for messages.
        equations: all of relation "==".
        fields: the bound fields of the declaration.

    Raises:
        DeclarationError: a symmetric variable, or one that enters no equation.
        ShapeError: more or fewer equations than unknowns.
    """
    unknowns = [one for one in fields.values() if one.is_variable]
    met = frozenset[str]().union(*map(_names, equations))
    for one in unknowns:
        where = f"{one.origin.place}: {one.name} = {one.text}"
        if one.symmetric or one.psd:
            word = "psd" if one.psd else "symmetric"
            raise DeclarationError(
                f"{where}: solve finds every entry from the equations; leave out "
                f"{word}=True, a symmetric system has a symmetric solution."
            )
        if one.name not in met:
            raise DeclarationError(
                f"{where} enters no equation of {name}, so nothing determines it; "
                "declare it a Parameter, or add its equation."
            )
    given = sum(math.prod(_whole_shape(one)) for one in equations)
    wanted = sum(math.prod(_whole_shape(one)) for one in unknowns)
    if given != wanted:
        raise ShapeError(_not_square(name, equations, unknowns, given, wanted))


def _whole_shape(one: Constraint | BoundField) -> tuple[int, ...]:
    """The shape with the stages in front, where there are any."""
    shape = one.shape if isinstance(one, Constraint) else one.coordinate_shape
    return shape if one.stages is None else (len(one.stages), *shape)


def _names(equation: Constraint) -> frozenset[str]:
    return equation.left.field_names | equation.right.field_names


def _not_square(
    name: str,
    equations: Sequence[Constraint],
    unknowns: Sequence[BoundField],
    given: int,
    wanted: int,
) -> str:
    lines = [
        f"{equations[0].origin.place}: {name} has {counted(given, 'equation')} for "
        f"{counted(wanted, 'unknown')}; solve needs as many."
    ]
    for one in equations:
        shape = list(_whole_shape(one))
        where = f" at {window_text(one.stages)}" if one.stages is not None else ""
        lines.append(f"  {one.name} {shape}{where}: `{one.origin.text}`")
    shapes = ", ".join(f"{one.name} {list(_whole_shape(one))}" for one in unknowns)
    lines.append(f"  unknowns: {shapes}")
    lines.append(
        "  Where there are more equations than unknowns, minimize "
        "ol.sum_squares(...) of their difference."
        if given > wanted
        else "  Add the equations that determine the rest, or declare some unknowns "
        "as Parameters."
    )
    return "\n".join(lines)
