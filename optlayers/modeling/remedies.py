"""The words of refusal: what Python meant, why it cannot be, what to write instead."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass

from optlayers.errors import DeclarationError
from optlayers.modeling.origin import Origin

_SAYINGS = {
    "strict": (
        "a strict {relation} has no closed feasible set.\n"
        "  For a constraint write {weak}; for a mask of parameters, or a switch in an "
        "equation or a rate, write {function}(...),\n  as in "
        "torch.where({function}(a, b), c, d)."
    ),
    "unequal": "!= describes no convex or closed set; constraints are ==, <= and >=.",
    "assignment": (
        "expressions cannot be assigned into.\n"
        "  Build the whole with torch.stack([...]) or torch.cat([...])."
    ),
    "membership": (
        "`in` asks for a value, and nothing has one while the problem is declared.\n"
        "  For bounds write ol.between(lower, x, upper)."
    ),
    "number": (
        "{type}() asks for a value, and nothing has one while the problem is declared."
        "\n  Keep the expression; torch functions take it as it is."
    ),
    "index": (
        "an expression cannot be an index or a count, it has no value while the "
        "problem is declared.\n  Index with numbers; for sizes use x.shape."
    ),
    "star": (
        "* with a scipy {type} is the matrix product to scipy and entry by entry "
        "here.\n  Write S @ x for the product; for entries make S a sparse array, as "
        "in sp.csr_array(S) * x."
    ),
    "array": (
        "an expression cannot become a numpy array, it has no value while the problem "
        "is declared.\n  Use operators, torch functions, or the atoms of optlayers."
    ),
    "ufunc": (
        "numpy's functions take numbers, and nothing has one while the problem is "
        "declared.\n  Write the function of optlayers or torch that does the same, as "
        "in ol.sin(x) or torch.sin(x) for np.sin(x)."
    ),
}


@dataclass(frozen=True)
class Remedy:
    """One refusal of the language.

    Attributes:
        what: which one.
        words: what its sentence leaves open.
    """

    what: str
    words: Mapping[str, str]

    def written_at(self, origin: Origin) -> str:
        """The whole message, beginning with file, line and source."""
        return f"{heading(origin)}: {_SAYINGS[self.what].format(**self.words)}"


def heading(origin: Origin) -> str:
    """How messages on a declaration begin: `planner.py:12: `inside=A @ x <= b``."""
    text = origin.context
    if len(text) > 100:
        text = origin.text
    if not text:
        return origin.place
    return f"{origin.place}: `{text if len(text) <= 200 else text[:197] + '...'}`"


def refused_ufunc(reason: TypeError) -> DeclarationError:
    """What is said where numpy refused an expression, written where the user is."""
    origin = Origin.of(reason.__traceback__)
    return DeclarationError(Remedy("ufunc", {}).written_at(origin))


def truth_remedy(origin: Origin, what: str) -> str:
    """Why `bool(...)` was asked of a constraint or expression, and what to write."""
    node = _asker(origin)
    if isinstance(node, ast.Compare) and len(node.ops) == 2:
        return _chained(origin, node)
    if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
        return Remedy("membership", {}).written_at(origin)
    if isinstance(node, ast.BoolOp):
        word = "and" if isinstance(node.op, ast.And) else "or"
        parts = [origin.source(value) for value in node.values]
        remedy = (
            f"give both: {', '.join(parts)}"
            if word == "and"
            else "a problem holds all of its constraints; split it into two problems"
        )
        return f"{_at(origin, node)}: `{word}` cannot join {what}s; {remedy}."
    if isinstance(node, ast.UnaryOp):
        return f"{_at(origin, node)}: `not` cannot negate {_a(what)}."
    return (
        f"{heading(origin)}: {_a(what)} is neither true nor false while the problem is "
        "declared.\n  Choose by value with torch.where(...) of parameters, or with "
        "ol.maximum, ol.pos, ol.abs; choose by size with x.shape."
    )


def _a(what: str) -> str:
    return f"an {what}" if what[0] in "aeiou" else f"a {what}"


def _chained(origin: Origin, node: ast.Compare) -> str:
    sides = [origin.source(one) for one in (node.left, *node.comparators)]
    start = f"{_at(origin, node)}: Python reads a chained comparison as `and`.\n  "
    rising = all(isinstance(op, ast.LtE | ast.Lt) for op in node.ops)
    falling = all(isinstance(op, ast.GtE | ast.Gt) for op in node.ops)
    if falling:
        sides.reverse()
    if rising or falling:
        return f"{start}Write ol.between({', '.join(sides)})."
    return f"{start}Write the two constraints one by one."


def _asker(origin: Origin) -> ast.AST | None:
    """The innermost chained comparison, `and`, `or` or `not` around the question."""
    for node in reversed(origin.enclosing()):
        if isinstance(node, ast.Compare) and len(node.ops) > 1:
            return node
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In):
            return node
        if isinstance(node, ast.BoolOp):
            return node
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return node
        if isinstance(node, ast.If | ast.While | ast.IfExp | ast.Assert | ast.Call):
            return None
    return None


def _at(origin: Origin, node: ast.expr) -> str:
    return f"{origin.file}:{node.lineno}: `{origin.source(node)}`"
