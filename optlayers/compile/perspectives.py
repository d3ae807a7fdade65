"""The cvxpy twin of the perspective of an atom, s f(x / s), written with atoms.

cvxpy's own perspective (1.9.3) is not used: it reads second-order and exponential cones
in another order than it wrote them, and gives 10.3 for 1.2^4 / 0.8^3 = 4.05.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import cvxpy as cp


def perspective(*arguments: cp.Expression, of: str, **options: Any) -> cp.Expression:
    """Perspective of the atom `of`.

    Args:
        *arguments: those of the atom, and the scalar s.
        of: name of the atom.
        **options: its options.

    Raises:
        NotImplementedError: there is no formula for it.
    """
    *inner, s = arguments
    s = s if s.ndim == 0 else cp.reshape(s, (), order="C")
    if of not in _FORMULAS:
        raise NotImplementedError(f"the perspective of {of} has no formula here")
    return _FORMULAS[of](*inner, s, **options)


def _square(x: cp.Expression, s: cp.Expression) -> cp.Expression:
    flat = cp.reshape(x, (x.size, 1), order="C")
    return cp.reshape(cp.quad_over_lin(flat, s, axis=1), x.shape, order="C")


def _sum_squares(x: cp.Expression, s: cp.Expression, **axes: Any) -> cp.Expression:
    return cp.quad_over_lin(x, s, **axes)


def _inv_pos(x: cp.Expression, s: cp.Expression) -> cp.Expression:
    flat = cp.reshape(x, (x.size,), order="C")
    pieces = [cp.quad_over_lin(s, flat[k]) for k in range(x.size)]
    return cp.reshape(cp.hstack(pieces), x.shape, order="C")


def _sqrt(x: cp.Expression, s: cp.Expression) -> cp.Expression:
    return _power(x, s, 0.5)


def _power(x: cp.Expression, s: cp.Expression, p: float) -> cp.Expression:
    if 0 < p < 1:
        flat = cp.reshape(x, (x.size,), order="C")
        pairs = [cp.hstack([flat[k], s]) for k in range(x.size)]
        pieces = [cp.geo_mean(pair, [p, 1 - p]) for pair in pairs]
        return cp.reshape(cp.hstack(pieces), x.shape, order="C")
    if p == -1:
        return _inv_pos(x, s)
    if p >= 2 and math.log2(p).is_integer():
        # x^4 / s^3 = (x^2 / s)^2 / s, convex and increasing in x^2 / s.
        for _ in range(int(math.log2(p))):
            x = _square(x, s)
        return x
    raise NotImplementedError(f"the perspective of the power {p:g} has no formula here")


def _log(x: cp.Expression, s: cp.Expression) -> cp.Expression:
    return -cp.rel_entr(_filled(s, x), x)


def _log1p(x: cp.Expression, s: cp.Expression) -> cp.Expression:
    return -cp.rel_entr(_filled(s, x), x + s)


def _entr(x: cp.Expression, s: cp.Expression) -> cp.Expression:
    return -cp.rel_entr(x, _filled(s, x))


def _filled(s: cp.Expression, x: cp.Expression) -> cp.Expression:
    return s if math.prod(x.shape) == 1 and not x.ndim else cp.broadcast_to(s, x.shape)


_FORMULAS: Mapping[str, Callable[..., cp.Expression]] = {
    "square": _square,
    "sum_squares": _sum_squares,
    "inv_pos": _inv_pos,
    "sqrt": _sqrt,
    "power": _power,
    "log": _log,
    "log1p": _log1p,
    "entr": _entr,
}
