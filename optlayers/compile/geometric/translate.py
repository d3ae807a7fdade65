"""From expressions of positive variables to their logarithms, node by node."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch

from optlayers.compile.geometric.auxiliary import Auxiliaries
from optlayers.compile.geometric.curvature import Curvature, NotGeometric
from optlayers.compile.geometric.nodes import reshaped
from optlayers.compile.geometric.parameters import logarithm
from optlayers.compile.geometric.posynomial import Posynomial, added
from optlayers.compile.geometric.rules import ARRANGEMENTS, EXPONENTS, RULES, arranged
from optlayers.compile.geometric.terms import Terms, signed_terms
from optlayers.compile.parametric import Parametrics
from optlayers.errors import NotConvex
from optlayers.modeling.expressions import Expression
from optlayers.modeling.fields import BoundField
from optlayers.modeling.inference import describe, quoted
from optlayers.modeling.signs import Sign


class Translator:
    """Translates the expressions of one declaration, each once.

    Attributes:
        fields: the logarithms of the declared variables, and the parameters.
        auxiliaries: the unknowns and constraints that some atoms add.
    """

    def __init__(self, fields: Mapping[str, BoundField]) -> None:
        self.parametrics = Parametrics()
        self.fields = {name: _in_logs(field) for name, field in fields.items()}
        self.auxiliaries = Auxiliaries()
        self._known: dict[Expression, Posynomial] = {}

    def __call__(self, e: Expression) -> Posynomial:
        """One expression as a posynomial.

        Raises:
            NotConvex: it breaks a rule of geometric programs; names the innermost
                subexpression that does.
        """
        known = self._known.get(e)
        if known is None:
            try:
                known = self._known[e] = self._translated(e)
            except NotGeometric as reason:
                raise NotConvex(f"{quoted(e)} {reason}") from None
        return known

    def terms(self, e: Expression) -> Terms:
        """The terms of a sum, by sign."""
        return signed_terms(e, self.parametrics)

    def total(self, terms: tuple[Expression, ...], e: Expression) -> Posynomial:
        """The sum of terms, of which there is one at least; `e` is blamed for it."""
        parts = [self(one) for one in terms]
        try:
            return parts[0] if len(parts) == 1 else added(parts, e.origin)
        except NotGeometric as reason:
            raise NotConvex(f"{quoted(e)} {reason}") from None

    # ---- one node --------------------------------------------------------------------

    def _translated(self, e: Expression) -> Posynomial:
        if not e.depends_on_variables:
            return logarithm(e, self.parametrics)
        structural = _STRUCTURAL.get(e.name)
        if e.name == "field":
            return self._variable(e)
        if structural is not None:
            return structural(e, self(e.arguments[0]))
        if e.name in ("add", "negate"):
            return self._sum(e)
        if e.name in ARRANGEMENTS:
            return arranged(e, *map(self, e.arguments))
        name = "pow" if _is_power(e) else e.name
        rule = RULES.get(name)
        if rule is None:
            raise NotGeometric(_no_rule(e))
        exponent = EXPONENTS.get(name)
        if exponent is not None and e.arguments[exponent].depends_on_variables:
            raise NotGeometric("has variables in its exponent; write ol.exp(...).")
        arguments = [
            one if place == exponent else self(one)
            for place, one in enumerate(e.arguments)
        ]
        return rule(self.auxiliaries, e, *arguments)

    def _variable(self, e: Expression) -> Posynomial:
        field = self.fields[e.options["field"].name]
        logs = Expression(
            "field", (), {"field": field}, e.shape, e.stages, Sign.UNKNOWN, e.origin
        )
        return Posynomial.of_logs(logs, Curvature.AFFINE)

    def _sum(self, e: Expression) -> Posynomial:
        terms = self.terms(e)
        if terms.minus:
            raise NotGeometric(
                f"subtracts `{describe(terms.minus[0])}`, and terms of geometric "
                "programs are positive. Move it to the other side of a constraint, or "
                "write ol.diff_pos(a, b) or ol.one_minus_pos(b) where it is bounded "
                "below or maximized."
            )
        if not terms.plus:
            raise NotGeometric(
                "is zero; what stands in a geometric program is positive."
            )
        found = self.total(terms.plus, e)
        return found.broadcast(e.shape)


def _in_logs(field: BoundField) -> BoundField:
    """The unknown log x of a variable x; a parameter as it is."""
    if not field.is_variable:
        return field
    start = field.start
    if start is not None:
        start = torch.as_tensor(start, dtype=torch.float64).log()
    return replace(
        field, nonneg=False, nonpos=False, lower=None, upper=None, start=start
    )


def _is_power(e: Expression) -> bool:
    return e.name == "torch" and e.options["function"] is torch.pow


def _no_rule(e: Expression) -> str:
    if e.name == "module":
        return "calls a module on variables, of which nothing is known."
    name = getattr(e.options.get("function"), "__name__", e.name)
    return (
        f"applies {name} to variables, which has no form in their logarithms; "
        "products, powers, sums, maxima and what is made of them have."
    )


# ---- structure -----------------------------------------------------------------------


def _index(e: Expression, x: Posynomial) -> Posynomial:
    return x.take(np.asarray(x.numbers[e.options["index"]]).reshape(e.shape))


def _moved(e: Expression, x: Posynomial) -> Posynomial:
    """Other stages of the same terms."""
    logs = Expression(
        e.name, (x.logs,), e.options, x.logs.shape, e.stages, x.logs.sign, e.origin
    )
    return replace(x, logs=logs)


def _stages(e: Expression, x: Posynomial) -> Posynomial:
    """The terms of some stages, one stage after the other."""
    return _written_out(x, e.options["index"], e.shape[0], e)


def _total(e: Expression, x: Posynomial) -> Posynomial:
    assert e.arguments[0].stages is not None
    length = len(e.arguments[0].stages)
    whole = _written_out(x, slice(0, length, 1), length, e)
    return whole.summed(np.tile(np.arange(x.size), length), x.shape)


def _written_out(x: Posynomial, index: object, length: int, e: Expression):
    count = len(x.owner)
    rows = Expression(
        "stages", (x.logs,), {"index": index}, (length, count), None, x.logs.sign,
        e.origin,
    )  # fmt: skip
    owner = (np.arange(length)[:, None] * x.size + x.owner).ravel()
    logs = reshaped(rows, (length * count,))
    return Posynomial(logs, owner, (length, *x.shape), x.bend)


_STRUCTURAL: Mapping[str, Callable[[Expression, Posynomial], Posynomial]] = {
    "index": _index,
    "next": _moved,
    "at": _moved,
    "stages": _stages,
    "total": _total,
}
