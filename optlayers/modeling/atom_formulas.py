"""How atoms are written: juxtaposition, bars, superscripts; others by their name."""

from collections.abc import Mapping

from optlayers.modeling.expressions import Expression
from optlayers.modeling.formulas import Formulas, Rule
from optlayers.modeling.notation import Binding, Piece

# ---- arithmetic ----------------------------------------------------------------------


def _add(on: Formulas, e: Expression) -> Piece:
    left, right = (on.write(one) for one in e.arguments)
    minus = on.notation.minus
    if left.text == "0":
        return right
    if right.text.startswith(minus):
        rest = right.text.removeprefix(minus).lstrip()
        return Piece(f"{left.text} {minus} {rest}", Binding.SUM)
    return Piece(f"{left.text} + {right.text}", Binding.SUM)


def _negate(on: Formulas, e: Expression) -> Piece:
    inner = on.tight(e.arguments[0], Binding.QUOTIENT)
    return Piece(f"{on.notation.minus}{inner}", Binding.PREFIX)


def _multiply(on: Formulas, e: Expression) -> Piece:
    left, right = e.arguments
    if left.shape and right.shape:
        sides = (on.tight(one, Binding.ENTRYWISE) for one in (left, right))
        return Piece(f" {on.notation.entrywise} ".join(sides), Binding.ENTRYWISE)
    if right.name == "constant" and left.name != "constant":
        left, right = right, left
    return on.product(_factor(on, left), on.tight(right, Binding.PRODUCT))


def _factor(on: Formulas, e: Expression) -> str:
    """A first factor, which may carry the sign of the whole product."""
    piece = on.write(e)
    if e.name == "constant" and piece.binding is Binding.PREFIX:
        return piece.text
    return on.tight(e, Binding.PRODUCT)


def _divide(on: Formulas, e: Expression) -> Piece:
    above, below = (on.write(one) for one in e.arguments)
    return on.notation.quotient(above, below)


def _matmul(on: Formulas, e: Expression) -> Piece:
    left, right = e.arguments
    if left.ndim == 1:
        return on.product(on.transposed(left), on.tight(right, Binding.PRODUCT))
    sides = [on.tight(one, Binding.PRODUCT) for one in e.arguments]
    return on.product(*sides)


def _power(on: Formulas, e: Expression) -> Piece:
    (base,), p = e.arguments, e.options["p"]
    if p == 0.5:
        return on.notation.root(on.write(base))
    raised = on.notation.number(p)
    text = on.notation.superscript(on.tight(base, Binding.ATOM), raised)
    return Piece(text, Binding.SUPERSCRIPT)


def _square(on: Formulas, e: Expression) -> Piece:
    base = on.tight(e.arguments[0], Binding.ATOM)
    return Piece(on.notation.superscript(base, "2"), Binding.SUPERSCRIPT)


def _sqrt(on: Formulas, e: Expression) -> Piece:
    return on.notation.root(on.write(e.arguments[0]))


# ---- bars, sums, products ------------------------------------------------------------


def _abs(on: Formulas, e: Expression) -> Piece:
    return Piece(on.notation.fenced("|", on.write(e.arguments[0]).text, "|"))


def _sum(on: Formulas, e: Expression) -> Piece:
    (x,) = e.arguments
    if x.ndim != 1 or e.shape:
        return on.called(e)
    ones = on.notation.transposed(on.notation.ones())
    return on.product(ones, on.tight(x, Binding.PRODUCT))


def _norm(on: Formulas, e: Expression) -> Piece:
    (x,) = e.arguments
    if e.options.get("axis") is not None:
        return on.called(e)
    kind = _norm_kind(e, x)
    return Piece(on.notation.norm(on.write(x).text, kind))


def _norm_kind(e: Expression, x: Expression) -> str:
    fixed = {"norm1": "1", "norm_inf": "∞", "normNuc": "*", "sigma_max": "2"}
    if e.name in fixed:
        return fixed[e.name]
    p = e.options.get("p", 2)
    if e.name == "pnorm" and p == 2 and x.ndim == 2:
        return "F"
    word = str(p).lower()
    return {"fro": "F", "nuc": "*", "inf": "∞"}.get(word) or f"{float(p):g}"


def _sum_squares(on: Formulas, e: Expression) -> Piece:
    (x,) = e.arguments
    if e.options.get("axis") is not None:
        return on.called(e)
    if x.ndim == 0:
        return _square(on, e)
    bars = on.notation.norm(on.write(x).text, "F" if x.ndim == 2 else "2")
    return Piece(on.notation.superscript(bars, "2"), Binding.SUPERSCRIPT)


def _quad_over_lin(on: Formulas, e: Expression) -> Piece:
    x, y = e.arguments
    if e.options.get("axis") is not None:
        return on.called(e)
    bars = on.notation.norm(on.write(x).text, "F" if x.ndim == 2 else "2")
    squares = Piece(on.notation.superscript(bars, "2"), Binding.SUPERSCRIPT)
    return on.notation.quotient(squares, on.write(y))


def _quad_form(on: Formulas, e: Expression) -> Piece:
    x, P = e.arguments
    middle, right = on.tight(P, Binding.PRODUCT), on.tight(x, Binding.PRODUCT)
    return Piece(f"{on.transposed(x)} {middle} {right}", Binding.PRODUCT)


def _vdot(on: Formulas, e: Expression) -> Piece:
    inner = ", ".join(on.write(one).text for one in e.arguments)
    return Piece(on.notation.fenced("⟨", inner, "⟩"))


def _outer(on: Formulas, e: Expression) -> Piece:
    left, right = e.arguments
    return on.product(on.tight(left, Binding.PRODUCT), on.transposed(right))


def _kron(on: Formulas, e: Expression) -> Piece:
    sides = (on.tight(one, Binding.SUPERSCRIPT) for one in e.arguments)
    return Piece(f" {on.notation.kronecker} ".join(sides), Binding.ENTRYWISE)


def _transpose(on: Formulas, e: Expression) -> Piece:
    if e.ndim != 2:
        return on.called(e)
    return Piece(on.transposed(e.arguments[0]), Binding.SUPERSCRIPT)


def _part(sign: str) -> Rule:
    def rule(on: Formulas, e: Expression) -> Piece:
        inner = on.notation.grouped(on.write(e.arguments[0]).text)
        return Piece(on.notation.subscript(inner, sign))

    return rule


def _inv_pos(on: Formulas, e: Expression) -> Piece:
    return on.notation.quotient(Piece("1"), on.write(e.arguments[0]))


def _joined(separator: str) -> Rule:
    def rule(on: Formulas, e: Expression) -> Piece:
        inner = separator.join(on.write(one).text for one in e.arguments)
        return Piece(on.notation.fenced("[", inner, "]"))

    return rule


def _named(word: str) -> Rule:
    return lambda on, e: on.called(e, on.notation.word(word))


def _eigenvalue(which: str) -> Rule:
    def rule(on: Formulas, e: Expression) -> Piece:
        mark = on.notation.word(which)
        return on.called(e, on.notation.subscript(on.notation.eigenvalue, mark))

    return rule


ATOM_FORMULAS: Mapping[str, Rule] = {
    "add": _add,
    "negate": _negate,
    "multiply": _multiply,
    "divide": _divide,
    "matmul": _matmul,
    "power": _power,
    "square": _square,
    "sqrt": _sqrt,
    "abs": _abs,
    "sum": _sum,
    "sum_squares": _sum_squares,
    "quad_over_lin": _quad_over_lin,
    "quad_form": _quad_form,
    "vdot": _vdot,
    "outer": _outer,
    "kron": _kron,
    "transpose": _transpose,
    "pos": _part("+"),
    "neg": _part("-"),
    "inv_pos": _inv_pos,
    "hstack": _joined(", "),
    "concatenate": _joined(", "),
    "stack": _joined(", "),
    "vstack": _joined("; "),
    "maximum": _named("max"),
    "minimum": _named("min"),
    "trace": _named("tr"),
    "log_det": _named("log det"),
    "lambda_max": _eigenvalue("max"),
    "lambda_min": _eigenvalue("min"),
} | dict.fromkeys(("norm", "norm1", "norm_inf", "pnorm", "normNuc", "sigma_max"), _norm)
