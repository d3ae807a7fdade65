"""What follows from an operation: shape and stages, or an error that teaches.

Rules of shape belong to the atoms; this file asks them and words their refusals.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from optlayers.errors import DeclarationError, OptlayersError, ShapeError
from optlayers.modeling.fields import BoundField
from optlayers.modeling.origin import Origin
from optlayers.modeling.remedies import heading
from optlayers.modeling.stages import intersection, window_text

if TYPE_CHECKING:
    from optlayers.modeling.constraints import Constraint
    from optlayers.modeling.expressions import Expression

Shape = tuple[int, ...]
ShapeRule = Callable[[tuple[Shape, ...], Mapping[str, Any]], Shape]

_SENTENCES = {
    "matmul": "cannot multiply {0} by {1}",
    "multiply": "cannot multiply {0} and {1} entry by entry",
    "divide": "cannot divide {0} by {1}",
    "add": "cannot add {0} and {1}",
    "subtract": "cannot subtract {1} from {0}",
    "==": "cannot compare {0} with {1}",
    "<=": "cannot compare {0} with {1}",
}


def infer_shape(
    name: str,
    rule: ShapeRule,
    arguments: Sequence["Expression"],
    options: Mapping[str, Any],
) -> Shape:
    """Ask the atom for the shape of its value.

    Raises:
        ShapeError: the shapes do not fit; names the file, the source, the shapes and
            how the fields were declared.
    """
    try:
        return tuple(rule(tuple(one.shape for one in arguments), options))
    except DeclarationError as reason:
        raise located(reason) from None
    except (ValueError, TypeError, IndexError, RuntimeError, OptlayersError) as reason:
        raise shape_error(name, arguments, str(reason)) from None


def infer_stages(name: str, arguments: Sequence["Expression"]) -> range | None:
    """The stages that the arguments share; None if none of them is staged.

    Raises:
        DeclarationError: staged terms that share no stage, or a trajectory written out
            over its stages that meets a staged term.
    """
    windows = [one.stages for one in arguments]
    stages = intersection(windows)
    if stages is None:
        return None
    if not stages:
        listed = ", ".join(
            f"{describe(one)} lives on {window_text(one.stages)}"
            for one in arguments
            if one.stages is not None
        )
        raise DeclarationError(
            f"{heading(Origin.here())}: the terms share no stage: {listed}."
        )
    if None in windows:
        for one in arguments:
            if one.stages is None and one.arguments and one.leads_with_stages:
                raise DeclarationError(_mixture(arguments, one))
            if one.stages is None and one.shape and name in _SENTENCES:
                _check_written_out(name, arguments, one, len(stages))
    return stages


def _check_written_out(
    name: str, arguments: Sequence["Expression"], plain: "Expression", length: int
) -> None:
    """Refuse a parameter with an axis of stages where a term per stage is meant."""
    if name == "matmul" or plain.shape[0] not in (length, length + 1):
        return
    for one in arguments:
        if one.stages is not None and plain.shape[1:] == one.shape:
            raise DeclarationError(_mixture(arguments, plain))


def _mixture(arguments: Sequence["Expression"], plain: "Expression") -> str:
    staged = next(one for one in arguments if one.stages is not None)
    if plain.name == "negate":
        (plain,) = plain.arguments
    names = [one.name for one in fields_of((staged,)) if one.knots is not None]
    whole = ", ".join(f"{name}[:]" for name in names[:3])
    return (
        f"{heading(Origin.here())}: {described(staged)} is a term per stage, but "
        f"{described(plain)} has the stages as its first axis.\n"
        f"  Write the whole trajectory ({whole}) on both sides, or a term per stage "
        "(.next, .first, .at(k)) on both."
    )


def shape_error(
    name: str, arguments: Sequence["Expression"], reason: str = ""
) -> ShapeError:
    """The error of shapes that do not fit, written where the user is."""
    shown = list(arguments)
    if name == "add" and len(shown) == 2 and shown[1].name == "negate":
        name, shown[1] = "subtract", shown[1].arguments[0]
    sentence = _SENTENCES.get(name)
    if sentence is not None and len(shown) == 2:
        what = sentence.format(*(described(one) for one in shown)) + "."
    else:
        listed = ", ".join(described(one) for one in shown)
        what = f"{name} does not take {listed}: {_sentence(reason)}"
    lines = [f"{heading(Origin.here())}: {what}"]
    lines += _declared(shown, name)
    return ShapeError("\n  ".join(lines))


def located(reason: OptlayersError) -> OptlayersError:
    """The same error, beginning with file, line and source."""
    text, start = str(reason), heading(Origin.here())
    return type(reason)(text if text.startswith(start) else f"{start}: {text}")


def located_at(subject: "Expression | Constraint", sentence: str) -> str:
    """A sentence about something, beginning with where it was written."""
    return f"{heading(subject.origin)}: {sentence}"


def describe(expression: "Expression") -> str:
    """A short name in messages: a field's name, a number, or the source."""
    if expression.name == "field":
        return expression.options["field"].name
    if expression.name == "learned":
        return expression.options["name"]
    if expression.name == "pattern" and expression.arguments[0].name == "field":
        return describe(expression.arguments[0])
    if expression.name == "constant" and not expression.shape:
        return f"{expression.options['value'].item():g}"
    if expression.name == "negate":
        return f"-{describe(expression.arguments[0])}"
    text = expression.origin.text
    return text if 0 < len(text) <= 40 else f"the {expression.name}"


def quoted(expression: "Expression") -> str:
    """Where it was written, and its short name, e.g. "planner.py:12: `A @ x`"."""
    return f"{expression.origin.place}: `{describe(expression)}`"


def described(expression: "Expression") -> str:
    """The short name with its shape, e.g. `A [5, 3]`."""
    return f"{describe(expression)} {list(expression.shape)}"


def fields_of(expressions: Sequence["Expression"]) -> list[BoundField]:
    """The fields that expressions are built from, first met first, each once."""
    found: dict[str, BoundField] = {}
    seen: set[int] = set()
    pending = list(reversed(expressions))
    while pending:
        one = pending.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if one.name == "field":
            found.setdefault(one.options["field"].name, one.options["field"])
        pending.extend(reversed(one.arguments))
    return list(found.values())


def _sentence(reason: str) -> str:
    first = reason.strip().splitlines()[0] if reason.strip() else "wrong shapes"
    return first.rstrip(".") + "."


def _declared(arguments: Sequence["Expression"], name: str) -> list[str]:
    """How the fields were declared, and the declaration that would have fitted."""
    fields = fields_of(list(reversed(arguments)))[:4]
    if not fields:
        return []
    words = [f"{one.name} {one.text}" for one in fields]
    words[0] = f"{fields[0].name} was declared {fields[0].text}"
    fitting = _fitting(arguments, name)
    if fitting is None:
        return [", ".join(words) + "."]
    return [", ".join(words) + f": did you mean {fitting}?"]


def _fitting(arguments: Sequence["Expression"], name: str) -> str | None:
    """The last argument, declared so that it fits the first."""
    if len(arguments) != 2 or any(one.name != "field" for one in arguments):
        return None
    left, right = (one.options["field"] for one in arguments)
    if not left.dimensions or not right.dimensions:
        return None
    dimensions = list(right.dimensions)
    if name == "matmul":
        dimensions[-2 if len(dimensions) > 1 else 0] = left.dimensions[-1]
    elif len(dimensions) == len(left.dimensions):
        dimensions = list(left.dimensions)
    else:
        return None
    written = " ".join(str(one) for one in dimensions)
    return f'{right.role.value}("{written}")'


def broadcast(left: Shape, right: Shape) -> Shape:
    """The shape both broadcast to, by numpy's and torch's rules.

    Raises:
        ValueError: two lengths differ and neither is one.
    """
    if left == right or not right:
        return left
    if not left:
        return right
    longer = max(len(left), len(right))
    padded = zip(
        (1,) * (longer - len(left)) + left,
        (1,) * (longer - len(right)) + right,
        strict=True,
    )
    found = []
    for one, other in padded:
        if one != other and 1 not in (one, other):
            raise ValueError(f"shapes {list(left)} and {list(right)} do not broadcast")
        found.append(other if one == 1 else one)
    return tuple(found)
