"""Functions that act entry by entry. Names and arguments are cvxpy's."""

from typing import Any

from optlayers.modeling.functions.calling import call
from optlayers.modeling.options import is_unknown


def abs(x: Any) -> Any:
    """Absolute value of every entry; convex.

    Args:
        x: [*shape].
    """
    return call("abs", x)


def square(x: Any) -> Any:
    """Square of every entry; convex.

    Args:
        x: [*shape].
    """
    return call("square", x)


def sqrt(x: Any) -> Any:
    """Square root of every entry; concave, for x >= 0.

    Args:
        x: [*shape].
    """
    return call("sqrt", x)


def power(x: Any, p: float, max_denom: int = 1024, approx: bool = True) -> Any:
    """Every entry to the power p.

    Convex for even p; for other p > 1 and for p < 0 of nonnegative x; concave for
    0 < p < 1 of nonnegative x.

    Args:
        x: [*shape].
        p: exponent; a plain number where x depends on variables.
        max_denom: largest denominator of the fraction that stands for p.
        approx: whether second-order cones may stand for it, where two or three of them
            say it exactly; power cones always do otherwise.

    Raises:
        DeclarationError: p depends on a parameter and x on a variable.
    """
    if is_unknown(p):
        return x**p
    chosen = {"max_denom": max_denom, "approx": approx}
    defaults = {"max_denom": 1024, "approx": True}
    other = {key: one for key, one in chosen.items() if one != defaults[key]}
    return call("power", x, p=p, **other)


def pos(x: Any) -> Any:
    """Positive part max(x, 0) of every entry; convex.

    Args:
        x: [*shape].
    """
    return call("pos", x)


def neg(x: Any) -> Any:
    """Negative part max(-x, 0) of every entry; convex. For the negative write -x.

    Args:
        x: [*shape].
    """
    return call("neg", x)


def inv_pos(x: Any) -> Any:
    """Reciprocal of every entry; convex, for x > 0.

    Args:
        x: [*shape].
    """
    return call("inv_pos", x)


def exp(x: Any) -> Any:
    """Exponential of every entry; convex.

    Args:
        x: [*shape].
    """
    return call("exp", x)


def log(x: Any) -> Any:
    """Natural logarithm of every entry; concave, for x > 0.

    Args:
        x: [*shape].
    """
    return call("log", x)


def log1p(x: Any) -> Any:
    """Logarithm of 1 + x, entry by entry; concave, for x > -1.

    Args:
        x: [*shape].
    """
    return call("log1p", x)


def logistic(x: Any) -> Any:
    """log(1 + exp(x)) of every entry; convex.

    Args:
        x: [*shape].
    """
    return call("logistic", x)


def entr(x: Any) -> Any:
    """Entropy -x log x of every entry; concave, for x >= 0.

    Args:
        x: [*shape].
    """
    return call("entr", x)


def huber(x: Any, M: float = 1) -> Any:
    """Huber function of every entry: x^2 up to M, 2 M |x| - M^2 beyond; convex.

    Args:
        x: [*shape].
        M: where it turns linear, a positive number.
    """
    return call("huber", x, M=M)


def kl_div(x: Any, y: Any) -> Any:
    """Divergence x log(x/y) - x + y, entry by entry; convex in both.

    Args:
        x: [*shape], nonnegative.
        y: [*shape], positive; the shapes broadcast.
    """
    return call("kl_div", x, y)


def rel_entr(x: Any, y: Any) -> Any:
    """Relative entropy x log(x/y), entry by entry; convex in both.

    Args:
        x: [*shape], nonnegative.
        y: [*shape], positive; the shapes broadcast.
    """
    return call("rel_entr", x, y)


def maximum(arg1: Any, arg2: Any, *args: Any) -> Any:
    """Largest of the arguments, entry by entry; convex.

    Args:
        arg1: [*shape].
        arg2: [*shape]; the shapes broadcast.
        *args: more of them.
    """
    return call("maximum", arg1, arg2, *args)


def minimum(arg1: Any, arg2: Any, *args: Any) -> Any:
    """Smallest of the arguments, entry by entry; concave.

    Args:
        arg1: [*shape].
        arg2: [*shape]; the shapes broadcast.
        *args: more of them.
    """
    return call("minimum", arg1, arg2, *args)


def multiply(lh_expr: Any, rh_expr: Any) -> Any:
    """Product, entry by entry, as `*`.

    Args:
        lh_expr: [*shape].
        rh_expr: [*shape]; the shapes broadcast.
    """
    return call("multiply", lh_expr, rh_expr)


def xexp(x: Any) -> Any:
    """x exp(x) of every entry; convex, for x >= 0.

    Args:
        x: [*shape].
    """
    return call("xexp", x)


def scalene(x: Any, alpha: Any, beta: Any) -> Any:
    """alpha max(x, 0) + beta max(-x, 0) of every entry; convex for slopes >= 0.

    Args:
        x: [*shape].
        alpha: slope above zero, of parameters only.
        beta: slope below zero, of parameters only.
    """
    return call("scalene", x, alpha, beta)


def loggamma(x: Any) -> Any:
    """Logarithm of the gamma function of every entry; convex, for x > 0.

    cvxpy's approximation by ten convex functions, also on tensors, so that a solution
    and its objective agree; the exact function of a parameter is torch.lgamma.

    Args:
        x: [*shape].
    """
    return call("loggamma", x)


def log_normcdf(x: Any) -> Any:
    """Logarithm of the normal distribution function of every entry; concave.

    cvxpy's approximation by seven squares, of modest accuracy on [-4, 4], also on
    tensors; the exact function of a parameter is torch.special.log_ndtr.

    Args:
        x: [*shape].
    """
    return call("log_normcdf", x)
