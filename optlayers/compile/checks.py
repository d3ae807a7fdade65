"""What a declaration promises of its parameters, to be checked before every solve."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from optlayers.compile.leaves import LeafTable
from optlayers.compile.template import LeafCheck
from optlayers.modeling.declaration import Declaration
from optlayers.modeling.expressions import Expression
from optlayers.modeling.fields import BoundField, Field
from optlayers.modeling.inference import describe
from optlayers.solvers.checks import Attribute, Check

PROMISES = {
    "nonneg": "ol.nonneg({})",
    "nonpos": "ol.nonpos({})",
    "psd": "ol.psd_matrix({})",
    "pos": "positive by geometric=True",
}


def asserted_leaves(leaves: LeafTable) -> list[tuple[Expression, int]]:
    """The assertions that the leaves rest on, each with the leaf it speaks of.

    What an assertion speaks of becomes a leaf of its own, so that its value is there to
    be checked.
    """
    found: dict[Expression, int] = {}
    for leaf in list(leaves.leaves):
        for one in assertions(leaf.expression):
            if one not in found:
                found[one] = leaves.position(one.arguments[0])
    return list(found.items())


def leaf_checks(
    declaration: Declaration, asserted: Sequence[tuple[Expression, int]]
) -> tuple[LeafCheck, ...]:
    """Checks of every parameter and of every assertion."""
    checks = [
        LeafCheck(check, name)
        for name, field in declaration.fields.items()
        if not field.is_variable
        for check in field_checks(name, field, len(field.shape))
    ]
    for one, position in asserted:
        attribute, text = one.options["attribute"], describe(one.arguments[0])
        promise = PROMISES[attribute].format(text)
        check = Check(text, attribute, promise, one.ndim)
        checks.append(LeafCheck(check, position))
    return tuple(_with_patterns(declaration, checks))


def field_checks(name: str, field: Field | BoundField, ndim: int) -> Iterator[Check]:
    """What the attributes of a field promise; each implies that all are finite.

    Args:
        name: its name in the signature.
        field: the declaration, of a parameter.
        ndim: number of axes of one sample.
    """
    promises: list[tuple[Attribute, object]] = []
    if field.nonneg:
        promises.append(("nonneg", None))
    if field.nonpos:
        promises.append(("nonpos", None))
    if field.symmetric or field.psd:
        promises.append(("psd" if field.psd else "symmetric", None))
    if field.group is not None:
        promises.append(("pose", field.group))
    if field.lower is not None:
        promises.append(("lower", field.lower))
    if field.upper is not None:
        promises.append(("upper", field.upper))
    for attribute, bound in promises or [("finite", None)]:
        yield Check(name, attribute, field.text, ndim, bound)


def assertions(e: Expression) -> Iterator[Expression]:
    """The promises made within an expression, such as `ol.nonneg(...)`."""
    # A loop in the body nests deeper than Python recurses, and shares its terms.
    pending, seen = [e], {e}
    while pending:
        one = pending.pop()
        if one.name == "assert":
            yield one
        new = [arg for arg in reversed(one.arguments) if arg not in seen]
        seen.update(new)
        pending.extend(new)


def outside(name: str) -> str:
    """The name under which the largest entry off a parameter's pattern is given."""
    return f"{name} outside its pattern"


def _with_patterns(
    declaration: Declaration, checks: Sequence[LeafCheck]
) -> Iterator[LeafCheck]:
    """The checks, told where sparse parameters have entries; and that they do not."""
    patterns = {n: one.pattern for n, one in declaration.fields.items() if one.pattern}
    for one in checks:
        pattern = patterns.get(str(one.subject))
        yield replace(one, check=replace(one.check, pattern=pattern))
    for name in patterns:
        text = declaration.fields[name].text
        yield LeafCheck(Check(outside(name), "nonpos", text, 0), outside(name))


def checked_ndims(
    shapes: Mapping[str, tuple[int, ...]], checks: Sequence[LeafCheck]
) -> dict[str, int]:
    """Axes of one sample of every tensor that a call is made of, by name.

    Beside the parameters these are what else is checked: the largest entry off the
    pattern of a sparse parameter.

    Args:
        shapes: shape of one sample of each parameter.
        checks: what must hold before a solve.
    """
    found = {name: len(shape) for name, shape in shapes.items()}
    for one in checks:
        if isinstance(one.subject, str):
            found.setdefault(one.subject, one.check.sample_ndim)
    return found
