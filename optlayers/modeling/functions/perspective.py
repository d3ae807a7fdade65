"""The perspective of an expression, by the chain rule of perspectives.

With P f(x, s) = s f(x / s): P (h after g)(x, s) = P h (P g(x, s), s), P of a linear map
is the map itself, and P of a constant c is c s.
"""

from typing import Any

from optlayers.errors import DeclarationError
from optlayers.modeling.expressions import Expression, apply, as_expression
from optlayers.modeling.inference import describe, located, located_at
from optlayers.modeling.origin import Origin

# Linear or positively homogeneous in all arguments together: P h(y, s) = h(y).
_HOMOGENEOUS = frozenset(
    "add negate sum mean reshape transpose stack concatenate hstack vstack diag trace "
    "cumsum diff vec upper_tri vec_to_upper_tri triu tril broadcast_to partial_trace "
    "partial_transpose abs pos neg maximum minimum max min ptp std sum_largest "
    "sum_smallest cvar geo_mean harmonic_mean norm norm1 norm_inf pnorm mixed_norm "
    "quad_over_lin matrix_frac kl_div rel_entr tv cummax lambda_max lambda_min "
    "lambda_sum_largest lambda_sum_smallest sigma_max normNuc".split()
)
_STRUCTURAL = frozenset(("index", "next", "at", "stages", "total"))
# Linear in the one argument that depends on variables.
_BILINEAR = frozenset("multiply matmul vdot outer kron convolve einsum dotsort".split())
_DIVISIONS = frozenset(("divide", "scalene"))
_ATOMS = frozenset("square sum_squares power sqrt inv_pos log log1p entr".split())


def perspective(f: Any, s: Any, f_recession: Any = None) -> Any:
    """The perspective s f(x / s) of a function of the variables; convex where f is.

    Args:
        f: the expression f(x), of variables, parameters, whatever is linear or
            positively homogeneous (norms, maxima, ...), squares, powers 4, 8, ..., -1
            and between 0 and 1, sqrt, inv_pos, log, log1p and entr.
        s: a scalar, nonnegative by declaration, affine in the variables; positive at
            the solution.
        f_recession: cvxpy's value of the perspective at s = 0; None only.

    Raises:
        DeclarationError: f is no expression of variables or holds a function whose
            perspective is not known, s is not known to be nonnegative, or f_recession
            is given.
    """
    if f_recession is not None:
        raise _refusal("takes no f_recession; keep s away from 0 by a constraint")
    f, s = as_expression(f), as_expression(s)
    if not f.depends_on_variables:
        raise _refusal(f"needs a function of the variables, not {describe(f)}")
    if not s.sign.is_nonneg:
        raise _refusal(f"needs a nonnegative s; declare {describe(s)} with nonneg=True")
    return _perspective(f, s, {})


def _perspective(
    e: Expression, s: Expression, known: dict[Expression, Expression]
) -> Expression:
    if e not in known:
        known[e] = _of_node(e, s, known)
    return known[e]


def _of_node(
    e: Expression, s: Expression, known: dict[Expression, Expression]
) -> Expression:
    if not e.depends_on_variables:
        return apply("multiply", (s, e))
    if e.name == "field":
        return e
    if e.name in _BILINEAR | _DIVISIONS:
        return _of_product(e, s, known)
    arguments = tuple(_perspective(one, s, known) for one in e.arguments)
    if e.name in _STRUCTURAL:
        return Expression(
            e.name, arguments, e.options, e.shape, e.stages, e.sign, Origin.here()
        )
    if e.name in _HOMOGENEOUS or (e.name == "power" and e.options["p"] == 1):
        return apply(e.name, arguments, **e.options)
    if e.name not in _ATOMS:
        raise _unknown(e)
    name, options = e.name, dict(e.options)
    if name == "power" and options["p"] == 2:
        name, options = "square", {}
    return apply("perspective", (*arguments, s), of=name, **options)


def _of_product(
    e: Expression, s: Expression, known: dict[Expression, Expression]
) -> Expression:
    """Of a node that is linear in its only argument with variables."""
    moving = [one for one in e.arguments if one.depends_on_variables]
    if len(moving) > 1 and all(one is moving[0] for one in e.arguments):
        squares = {"multiply": "square", "matmul": "sum_squares", "vdot": "sum_squares"}
        if e.name in squares and (e.name == "multiply" or not e.shape):
            inner = _perspective(moving[0], s, known)
            return apply("perspective", (inner, s), of=squares[e.name])
    is_divisor = e.name in _DIVISIONS and any(
        one.depends_on_variables for one in e.arguments[1:]
    )
    if len(moving) > 1 or is_divisor:
        raise _unknown(e)
    arguments = (
        _perspective(one, s, known) if one.depends_on_variables else one
        for one in e.arguments
    )
    return apply(e.name, tuple(arguments), **e.options)


def _refusal(sentence: str) -> DeclarationError:
    reason = located(DeclarationError(f"ol.perspective {sentence}."))
    assert isinstance(reason, DeclarationError)
    return reason


def _unknown(e: Expression) -> DeclarationError:
    sentence = f"`{describe(e)}` has no perspective that is known."
    return DeclarationError(located_at(e, sentence))
