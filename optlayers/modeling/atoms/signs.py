"""Sign rules: what is known of a result's sign from the signs of the arguments.

A rule holds wherever the torch function is finite, which makes some weaker than
cvxpy's: cvxpy takes x**3 to be defined for x >= 0 only.
"""

from functools import reduce
from operator import add, mul
from typing import Any

from optlayers.modeling.signs import Sign


def same(sign: Sign, **_: Any) -> Sign:
    """That of the argument."""
    return sign


def opposite(sign: Sign, **_: Any) -> Sign:
    """The negative of the argument's."""
    return -sign


def nonneg(*_: Sign, **__: Any) -> Sign:
    """At least zero."""
    return Sign.NONNEG


def nonpos(*_: Sign, **__: Any) -> Sign:
    """At most zero."""
    return Sign.NONPOS


def unknown(*_: Sign, **__: Any) -> Sign:
    """Nothing is known."""
    return Sign.UNKNOWN


def nonneg_if_nonneg(sign: Sign, **_: Any) -> Sign:
    """At least zero where the argument is."""
    return Sign.NONNEG if sign.is_nonneg else Sign.UNKNOWN


def magnitude(sign: Sign, **_: Any) -> Sign:
    """Zero where the argument is zero, else at least zero."""
    return Sign.ZERO if sign is Sign.ZERO else Sign.NONNEG


def positive_part(sign: Sign, **_: Any) -> Sign:
    """That of max(x, 0)."""
    return Sign.ZERO if sign.is_nonpos else Sign.NONNEG


def negative_part(sign: Sign, **_: Any) -> Sign:
    """That of max(-x, 0)."""
    return positive_part(-sign)


def of_sum(*signs: Sign, **_: Any) -> Sign:
    """That of a sum."""
    return reduce(add, signs)


def of_difference(sign: Sign, **_: Any) -> Sign:
    """That of differences between the entries."""
    return Sign.ZERO if sign is Sign.ZERO else Sign.UNKNOWN


def of_product(*signs: Sign, **_: Any) -> Sign:
    """That of a product, or of a sum of products."""
    return reduce(mul, signs)


def of_largest(*signs: Sign, **_: Any) -> Sign:
    """That of the largest argument."""
    if all(sign is Sign.ZERO for sign in signs):
        return Sign.ZERO
    if any(sign.is_nonneg for sign in signs):
        return Sign.NONNEG
    if all(sign.is_nonpos for sign in signs):
        return Sign.NONPOS
    return Sign.UNKNOWN


def of_smallest(*signs: Sign, **_: Any) -> Sign:
    """That of the smallest argument."""
    return -of_largest(*(-sign for sign in signs))


def of_joined(*signs: Sign, **_: Any) -> Sign:
    """That of entries taken from several arguments."""
    if all(sign is signs[0] for sign in signs):
        return signs[0]
    if all(sign.is_nonneg for sign in signs):
        return Sign.NONNEG
    if all(sign.is_nonpos for sign in signs):
        return Sign.NONPOS
    return Sign.UNKNOWN


def of_slopes(x: Sign, alpha: Sign, beta: Sign, **_: Any) -> Sign:
    """That of alpha max(x, 0) + beta max(-x, 0)."""
    return positive_part(x) * alpha + negative_part(x) * beta


def of_power(sign: Sign, p: float = 1, **_: Any) -> Sign:
    """That of x ** p."""
    if p == int(p) and int(p) % 2:
        return sign
    return Sign.NONNEG


def of_quad_form(x: Sign, P: Sign, assume_PSD: bool = False, **_: Any) -> Sign:
    """That of x' P x; whether P is positive semidefinite is not told by its entries."""
    if Sign.ZERO in (x, P):
        return Sign.ZERO
    if assume_PSD:
        return Sign.NONNEG
    return Sign.UNKNOWN if x is Sign.UNKNOWN else x * P * x
