"""The cvxpy twin of the perspective of an atom, s f(x / s).

Written with atoms where there is a formula, else with cvxpy's own perspective, which
takes variables only: the lifting puts an auxiliary variable in the place of any other
argument.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import cvxpy as cp

Twins = Mapping[str, Callable[..., cp.Expression]]


def perspective(
    twins: Twins, *arguments: cp.Expression, of: str, **options: Any
) -> cp.Expression:
    """Perspective of the atom `of`.

    Args:
        twins: the other twins by name.
        *arguments: those of the atom, and the scalar s.
        of: name of the atom.
        **options: its options.

    Raises:
        NotImplementedError: an argument is no variable where cvxpy needs one.
    """
    *inner, s = arguments
    s = s if s.ndim == 0 else cp.reshape(s, (), order="C")
    written = FORMULAS.get(of)
    if written is not None:
        return written(*inner, s, **options)
    if all(one.is_constant() for one in arguments):
        return s * twins[of](*(one / s for one in inner), **options)
    if not all(isinstance(one, cp.Variable) for one in (*inner, s)):
        raise NotImplementedError("its perspective is taken of variables only")
    value = twins[of](*inner, **options)
    if value.ndim == 0:
        return cp.perspective(value, s)
    flat = cp.reshape(value, (value.size,), order="C")
    pieces = [cp.perspective(flat[k], s) for k in range(value.size)]
    return cp.reshape(cp.hstack(pieces), value.shape, order="C")


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
    flat = cp.reshape(x, (x.size,), order="C")
    pieces = [cp.geo_mean(cp.hstack([flat[k], s])) for k in range(x.size)]
    return cp.reshape(cp.hstack(pieces), x.shape, order="C")


def _log(x: cp.Expression, s: cp.Expression) -> cp.Expression:
    return -cp.rel_entr(_filled(s, x), x)


def _log1p(x: cp.Expression, s: cp.Expression) -> cp.Expression:
    return -cp.rel_entr(_filled(s, x), x + s)


def _entr(x: cp.Expression, s: cp.Expression) -> cp.Expression:
    return -cp.rel_entr(x, _filled(s, x))


def _filled(s: cp.Expression, x: cp.Expression) -> cp.Expression:
    return s if math.prod(x.shape) == 1 and not x.ndim else cp.broadcast_to(s, x.shape)


# Those of which the perspective is an expression of cvxpy's atoms.
FORMULAS: Mapping[str, Callable[..., cp.Expression]] = {
    "square": _square,
    "sum_squares": _sum_squares,
    "inv_pos": _inv_pos,
    "sqrt": _sqrt,
    "log": _log,
    "log1p": _log1p,
    "entr": _entr,
}
