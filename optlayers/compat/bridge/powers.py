"""cvxpy's power, which lives on x >= 0 unless p is even, with atoms that say so."""

from typing import Any

import torch

from optlayers.modeling.expressions import Expression, apply, call_torch


def power(x: Expression, p: Expression, max_denom: int = 1024) -> Expression:
    """x ** p on cvxpy's domain.

    Args:
        x: the base, [*shape].
        p: the exponent, a scalar; a constant where x depends on variables.
        max_denom: largest denominator of the fraction that stands for p.
    """
    if p.name != "constant":
        if x.depends_on_variables:
            return x**p
        return call_torch(torch.pow, (x, p), {})
    exponent = p.options["value"].item()
    if x.depends_on_variables and not x.sign.is_nonneg:
        return _restricted(x, exponent, max_denom)
    return _plain(x, exponent, max_denom)


def _restricted(x: Expression, p: float, max_denom: int) -> Expression:
    if p < 0 and p != int(p):
        # Such a power lives on x > 0 here as well.
        return _plain(x, p, max_denom)
    if p < 0:
        reciprocal = apply("inv_pos", (x,))
        return reciprocal if p == -1 else _plain(reciprocal, -p, max_denom)
    if p == int(p) and p % 2 == 1 and p > 1:
        # x^p = (x^m)^2 / x, entry by entry, with p = 2m - 1.
        half = _restricted(x, (p + 1) / 2, max_denom)
        return _square_over(half, x)
    return _plain(x, p, max_denom)


def _square_over(half: Expression, x: Expression) -> Expression:
    if not x.shape:
        return apply("quad_over_lin", (half, x))
    flat, bottom = (apply("reshape", (one,), shape=(-1,)) for one in (half, x))
    entries = [
        apply("quad_over_lin", (flat[k], bottom[k])) for k in range(flat.shape[0])
    ]
    return apply("reshape", (apply("stack", entries),), shape=x.shape)


def _plain(x: Expression, p: float, max_denom: int) -> Expression:
    if p == 0.5:
        return apply("sqrt", (x,))
    options: dict[str, Any] = {} if max_denom == 1024 else {"max_denom": max_denom}
    exponent = int(p) if p == int(p) else p
    return apply("power", (x,), p=exponent, **options)
