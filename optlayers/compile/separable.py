"""Sums of functions of affine expressions, entry by entry: generalized linear models.

objective = sum_k phi_k(u_k) with u = U x + c has the Hessian U' diag(phi'') U.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from optlayers.compile.nodes import with_arguments
from optlayers.compile.parametric import same
from optlayers.modeling.atoms.table import ATOMS
from optlayers.modeling.expressions import Expression
from optlayers.modeling.fields import BoundField, Role
from optlayers.modeling.signs import Sign

# Entries of the result are sums of, or the same as, entries of the arguments.
_LINEAR = frozenset(
    (
        *("add", "negate", "sum", "mean", "trace", "index", "reshape", "vec", "diff"),
        *("transpose", "concatenate", "stack", "hstack", "vstack", "diag", "cumsum"),
        *("broadcast_to", "upper_tri", "vec_to_upper_tri", "triu", "tril", "total"),
    )
)
# Linear in each of two arguments.
_BILINEAR = frozenset(("multiply", "matmul", "vdot", "outer", "kron", "convolve"))


class Separable(NamedTuple):
    """An objective read as a function of affine expressions.

    Attributes:
        arguments: the affine expressions u_k.
        placeholders: a variable of the shape of each.
        value: the objective with these in their place.
    """

    arguments: tuple[Expression, ...]
    placeholders: tuple[Expression, ...]
    value: Expression


class _Form(NamedTuple):
    """What an expression that depends on variables was found to be.

    Attributes:
        is_affine: whether it is affine in the variables.
        argument: the affine expression of the same shape that each entry is a function
            of, that entry alone; None if there is none.
    """

    is_affine: bool
    argument: Expression | None


def separable_form(objective: Expression) -> Separable | None:
    """The affine expressions and the rest of an objective, if it is such a sum.

    Args:
        objective: scalar, of no stages.
    """
    order = _arguments_first(objective)
    forms: dict[Expression, _Form] = {}
    for one in order:
        form = _form(one, forms)
        if form is None:
            return None
        forms[one] = form
    if objective not in forms or forms[objective].is_affine:
        return None
    return _taken_apart(objective, order, forms)


def _arguments_first(objective: Expression) -> list[Expression]:
    """Every expression that depends on variables, once, after its arguments."""
    order: list[Expression] = []
    seen: set[Expression] = set()
    pending = [(objective, False)]
    # A loop in the body nests deeper than Python recurses.
    while pending:
        one, is_ready = pending.pop()
        if is_ready:
            order.append(one)
        elif one.depends_on_variables and one not in seen:
            seen.add(one)
            pending.append((one, True))
            pending.extend((argument, False) for argument in one.arguments)
    return order


def _form(e: Expression, forms: Mapping[Expression, _Form]) -> _Form | None:
    """The form of e, given those of its arguments; None where it has none."""
    if e.name == "field":
        field = e.options["field"]
        # What a pose's entries are is no affine function of its coordinates.
        is_plain = field.shape == field.coordinate_shape
        return _Form(True, e) if is_plain else None
    varying = [one for one in e.arguments if one.depends_on_variables]
    if any(isinstance(one, Expression) for one in e.options.values()):
        return None
    is_linear = e.name in _LINEAR or (
        len(varying) == 1
        and (
            e.name in _BILINEAR or (e.name == "divide" and varying[0] is e.arguments[0])
        )
    )
    if is_linear and all(forms[one].is_affine for one in varying):
        # Shifts and multiples are functions of what they shift and multiply.
        inner = _common(e, varying, forms) if _is_elementwise(e) else None
        return _Form(True, e if inner is None or len(varying) > 1 else inner)
    argument = _common(e, varying, forms)
    if _is_elementwise(e) and argument is not None:
        return _Form(False, argument)
    if is_linear or _is_sum_of_squares(e, varying, forms):
        return _Form(False, None)
    return None


def _is_elementwise(e: Expression) -> bool:
    return e.name in ATOMS and ATOMS[e.name].elementwise


def _common(
    e: Expression, varying: Sequence[Expression], forms: Mapping[Expression, _Form]
) -> Expression | None:
    """The affine expression that all arguments are functions of, of the shape of e."""
    first = forms[varying[0]].argument
    if first is None or first.shape != e.shape:
        return None
    for one in varying[1:]:
        other = forms[one].argument
        if other is None or not (other is first or same(other, first)):
            return None
    return first


def _is_sum_of_squares(
    e: Expression, varying: Sequence[Expression], forms: Mapping[Expression, _Form]
) -> bool:
    """Whether e is the sum over squares, or products, of the same entries."""
    if forms[varying[0]].argument is None:
        return False
    if e.name == "sum_squares":
        return True
    is_product = e.name in ("matmul", "vdot") and e.shape == () and len(varying) == 2
    first = e.arguments[0]
    return is_product and _common(first, varying, forms) is not None


def _taken_apart(
    objective: Expression,
    order: Sequence[Expression],
    forms: Mapping[Expression, _Form],
) -> Separable:
    roots = _roots(objective, forms)
    arguments: list[Expression] = []
    placeholders: list[Expression] = []
    made: dict[Expression, Expression] = {}
    for one in order:
        if one not in roots:
            continue
        argument = forms[one].argument
        assert argument is not None
        placeholder = _placeholder(f"u{len(arguments)}", argument)
        arguments.append(argument)
        placeholders.append(placeholder)
        made[one] = _replaced(one, placeholder, forms)
    for one in order:
        if one not in made and forms[one].argument is None:
            made[one] = with_arguments(
                one, tuple(made.get(each, each) for each in one.arguments)
            )
    return Separable(tuple(arguments), tuple(placeholders), made[objective])


def _roots(objective: Expression, forms: Mapping[Expression, _Form]) -> set[Expression]:
    """The largest expressions whose entries are functions of single entries."""
    roots: set[Expression] = set()
    seen: set[Expression] = set()
    pending = [objective]
    while pending:
        one = pending.pop()
        if one in seen or not one.depends_on_variables:
            continue
        seen.add(one)
        if forms[one].argument is not None:
            roots.add(one)
        else:
            pending.extend(one.arguments)
    return roots


def _replaced(
    e: Expression, placeholder: Expression, forms: Mapping[Expression, _Form]
) -> Expression:
    if not e.depends_on_variables:
        return e
    if forms[e].argument is e:
        return placeholder
    arguments = (_replaced(one, placeholder, forms) for one in e.arguments)
    return with_arguments(e, tuple(arguments))


def _placeholder(name: str, argument: Expression) -> Expression:
    """A variable in place of an affine expression."""
    field = BoundField(name, Role.VARIABLE, argument.shape)
    return Expression(
        "field", (), {"field": field}, argument.shape, None, Sign.UNKNOWN,
        argument.origin,
    )  # fmt: skip
