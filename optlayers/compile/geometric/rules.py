"""What each atom does to posynomials: the rules of disciplined geometric programming.

A rule takes the auxiliary unknowns, the node, and its arguments in log space.
Arrangement needs no rules: it is read off the atoms, applied to entries' numbers.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from optlayers.compile.geometric import implicit_atoms
from optlayers.compile.geometric.auxiliary import Auxiliaries
from optlayers.compile.geometric.curvature import Curvature, NotGeometric
from optlayers.compile.geometric.nodes import node, number, scaled
from optlayers.compile.geometric.posynomial import Posynomial, stacked
from optlayers.modeling.atoms import ATOMS
from optlayers.modeling.atoms.shapes import reduced_axes
from optlayers.modeling.expressions import Expression

Rule = Callable[..., Posynomial]

# Atoms that move entries about, and put zeros between them.
ARRANGEMENTS = frozenset(
    "reshape vec transpose concatenate stack hstack vstack diag upper_tri "
    "vec_to_upper_tri triu tril broadcast_to partial_transpose".split()
)


def arranged(e: Expression, *arguments: Posynomial) -> Posynomial:
    """The result of an arrangement of entries."""
    last, sources = 0, []
    for one in arguments:
        sources.append(torch.from_numpy(one.numbers + last + 1).double())
        last += one.size
    places = ATOMS[e.name].torch_function(*sources, **e.options).numpy()
    whole = arguments[0] if len(arguments) == 1 else stacked(arguments, e.origin)
    flat = whole.summed(np.arange(whole.size), (whole.size,))
    return flat.take(places.astype(np.int64).reshape(e.shape) - 1)


def monomial(value: Any, like: Expression) -> Posynomial:
    """A positive constant."""
    logs = number(np.log(np.asarray(value, dtype=float)), like.origin)
    return Posynomial.of_logs(logs, Curvature.AFFINE)


# ---- sums ----------------------------------------------------------------------------


def reduce_sum(x: Posynomial, axis: Any = None, keepdims: bool = False) -> Posynomial:
    """Entries added over axes."""
    axes = reduced_axes(len(x.shape), axis)
    kept = tuple(1 if k in axes else n for k, n in enumerate(x.shape))
    rows = np.arange(math.prod(kept)).reshape(kept)
    into = np.broadcast_to(rows, x.shape)
    left = tuple(n for k, n in enumerate(x.shape) if k not in axes)
    return x.summed(into, kept if keepdims else left)


def _sum(_: Auxiliaries, e: Expression, x: Posynomial) -> Posynomial:
    return reduce_sum(x, **e.options)


def _mean(_: Auxiliaries, e: Expression, x: Posynomial) -> Posynomial:
    total = reduce_sum(x, **e.options)
    return total.times(monomial(total.size / max(x.size, 1), e))


def _sum_squares(_: Auxiliaries, e: Expression, x: Posynomial) -> Posynomial:
    return reduce_sum(x.power(2), **e.options)


def _trace(_: Auxiliaries, e: Expression, x: Posynomial) -> Posynomial:
    return reduce_sum(x.take(np.diagonal(x.numbers)))


def _cumsum(_: Auxiliaries, e: Expression, x: Posynomial) -> Posynomial:
    axis = e.options.get("axis", 0)
    places = np.moveaxis(x.numbers, axis, -1)
    upto, each = np.tril_indices(places.shape[-1])
    return x.take(places[..., each]).summed(places[..., upto], x.shape)


# ---- products ------------------------------------------------------------------------


def _multiply(_: Auxiliaries, e: Expression, x: Posynomial, y: Posynomial):
    return x.times(y)


def _divide(_: Auxiliaries, e: Expression, x: Posynomial, y: Posynomial):
    return x.times(y.power(-1))


def _matmul(_: Auxiliaries, e: Expression, x: Posynomial, y: Posynomial):
    rows, columns = x.numbers, y.numbers
    rows = rows[None] if rows.ndim == 1 else rows
    columns = columns[:, None] if columns.ndim == 1 else columns
    left = x.take(rows[..., :, :, None])
    right = y.take(columns[..., None, :, :])
    total = reduce_sum(left.times(right), axis=-2)
    return total.summed(np.arange(total.size), e.shape)


def _vdot(_: Auxiliaries, e: Expression, x: Posynomial, y: Posynomial) -> Posynomial:
    return reduce_sum(x.take(x.numbers.ravel()).times(y.take(y.numbers.ravel())))


def _outer(_: Auxiliaries, e: Expression, x: Posynomial, y: Posynomial) -> Posynomial:
    return x.take(x.numbers.reshape(-1, 1)).times(y.take(y.numbers.reshape(1, -1)))


def _kron(_: Auxiliaries, e: Expression, x: Posynomial, y: Posynomial) -> Posynomial:
    left = np.kron(x.numbers, np.ones(y.shape, dtype=np.int64))
    right = np.kron(np.ones(x.shape, dtype=np.int64), y.numbers)
    return x.take(left).times(y.take(right))


def _convolve(_: Auxiliaries, e: Expression, x: Posynomial, y: Posynomial):
    pairs = x.take(x.numbers.reshape(-1, 1)).times(y.take(y.numbers.reshape(1, -1)))
    into = np.arange(x.size)[:, None] + np.arange(y.size)
    return pairs.summed(into, e.shape)


def _quad_form(_: Auxiliaries, e: Expression, x: Posynomial, P: Posynomial):
    rows, columns = x.numbers.reshape(-1, 1), x.numbers.reshape(1, -1)
    return reduce_sum(x.take(rows).times(x.take(columns)).times(P))


def _quad_over_lin(_: Auxiliaries, e: Expression, x: Posynomial, y: Posynomial):
    return reduce_sum(x.power(2), **e.options).times(y.power(-1))


def _gmatmul(_: Auxiliaries, e: Expression, A: Expression, x: Posynomial):
    if x.curvature is not Curvature.AFFINE:
        raise NotGeometric("takes products of powers of what is no monomial.")
    return Posynomial.of_logs(node("matmul", A, x.log(), origin=e.origin), x.bend)


def _pow(_: Auxiliaries, e: Expression, x: Posynomial, exponent: Expression):
    return x.power(exponent)


def _prod(_: Auxiliaries, e: Expression, x: Posynomial) -> Posynomial:
    logs = node("sum", x.log(), origin=e.origin, **e.options)
    return Posynomial.of_logs(logs, x.curvature)


def _cumprod(_: Auxiliaries, e: Expression, x: Posynomial) -> Posynomial:
    logs = node("cumsum", x.log(), origin=e.origin, **e.options)
    return Posynomial.of_logs(logs, x.curvature)


def _inv_prod(_: Auxiliaries, e: Expression, x: Posynomial) -> Posynomial:
    logs = node("sum", x.log(), origin=e.origin)
    return Posynomial.of_logs(scaled(-1, logs), -x.curvature)


# ---- powers and means ----------------------------------------------------------------


def raised(x: Posynomial, p: float, e: Expression) -> Posynomial:
    """x to a plain power, one included and zero."""
    if p == 0:
        return monomial(np.ones(x.shape), e)
    return x if p == 1 else x.power(p)


def _power(_: Auxiliaries, e: Expression, x: Posynomial) -> Posynomial:
    return raised(x, float(e.options.get("p", 1)), e)


def _with_power(p: float) -> Rule:
    return lambda _, e, x: x.power(p)


def _same(_: Auxiliaries, e: Expression, x: Posynomial) -> Posynomial:
    return x


def _pnorm(x: Posynomial, p: Any, e: Expression, **axes: Any) -> Posynomial:
    exponent = float(p)
    if math.isinf(exponent):
        return extremum("max", x, e, **axes)
    return raised(reduce_sum(raised(x, exponent, e), **axes), 1 / exponent, e)


def _axes(e: Expression) -> dict[str, Any]:
    return {key: e.options[key] for key in ("axis", "keepdims") if key in e.options}


def _norm_of_entries(_: Auxiliaries, e: Expression, x: Posynomial) -> Posynomial:
    return _pnorm(x, e.options.get("p", 2), e, **_axes(e))


def _norm(_: Auxiliaries, e: Expression, x: Posynomial) -> Posynomial:
    word = str(e.options.get("p", 2)).lower()
    if len(x.shape) == 2 and e.options.get("axis") is None:
        if word in ("1", "inf"):
            sums = reduce_sum(x, axis=0 if word == "1" else 1)
            return extremum("max", sums, e)
        if word in ("2", "nuc") and min(x.shape) > 1:
            raise NotGeometric(
                "is a norm of singular values, which has no form in logarithms. Use "
                'p="fro", 1 or "inf".'
            )
    return _pnorm(x, 2 if word in ("fro", "nuc") else word, e, **_axes(e))


def _norm_inf(_: Auxiliaries, e: Expression, x: Posynomial) -> Posynomial:
    return extremum("max", x, e, **e.options)


def _mixed_norm(_: Auxiliaries, e: Expression, x: Posynomial) -> Posynomial:
    p, q = e.options.get("p", 2), e.options.get("q", 1)
    return _pnorm(_pnorm(x, p, e, axis=1), q, e)


def _geo_mean(_: Auxiliaries, e: Expression, x: Posynomial) -> Posynomial:
    axes = reduced_axes(len(x.shape), e.options.get("axis"))
    count = math.prod(x.shape[k] for k in axes)
    p = e.options.get("p")
    weights = np.ones(count) if p is None else np.asarray(p, dtype=float)
    shape = [n if k in axes else 1 for k, n in enumerate(x.shape)]
    weights = (weights / weights.sum()).reshape(shape)
    weighted = scaled(number(np.broadcast_to(weights, x.shape), e.origin), x.log())
    logs = node("sum", weighted, origin=e.origin, **_axes(e))
    return Posynomial.of_logs(logs, x.curvature)


def _harmonic_mean(_: Auxiliaries, e: Expression, x: Posynomial) -> Posynomial:
    return reduce_sum(x.power(-1)).power(-1).times(monomial(float(x.size), e))


# ---- extrema -------------------------------------------------------------------------


def extremum(word: str, x: Posynomial, e: Expression, **axes: Any) -> Posynomial:
    """The largest or the smallest entry over axes."""
    bend = _bend_of_extremum(word, x.curvature)
    return Posynomial.of_logs(node(word, x.log(), origin=e.origin, **axes), bend)


def _bend_of_extremum(word: str, inside: Curvature) -> Curvature:
    if word.startswith("max"):
        if not inside.is_convex:
            raise NotGeometric(
                "is the largest of expressions of which one is log-log concave."
            )
        return Curvature.CONVEX
    if not inside.is_concave:
        raise NotGeometric(
            "is the smallest of expressions of which one is log-log convex, such as a "
            "posynomial."
        )
    return Curvature.CONCAVE


def _extremum(_: Auxiliaries, e: Expression, x: Posynomial) -> Posynomial:
    return extremum(e.name, x, e, **e.options)


def _elementwise_extremum(_: Auxiliaries, e: Expression, *several: Posynomial):
    bend = several[0].curvature
    for one in several[1:]:
        bend = bend + one.curvature
    bend = _bend_of_extremum(e.name, bend)
    logs = node(e.name, *(one.log() for one in several), origin=e.origin)
    return Posynomial.of_logs(logs, bend)


# ---- exponentials --------------------------------------------------------------------


def _exp(_: Auxiliaries, e: Expression, x: Posynomial) -> Posynomial:
    if not x.curvature.is_convex:
        raise NotGeometric("is the exponential of what is log-log concave.")
    return Posynomial.of_logs(node("exp", x.log(), origin=e.origin), Curvature.CONVEX)


def _log(_: Auxiliaries, e: Expression, x: Posynomial) -> Posynomial:
    if not x.curvature.is_concave:
        raise NotGeometric(
            "is the logarithm of what is log-log convex, such as a posynomial; only "
            "that of a monomial or of what is log-log concave can be taken. Introduce "
            "a variable for it."
        )
    return Posynomial.of_logs(node("log", x.log(), origin=e.origin), Curvature.CONCAVE)


def _xexp(_: Auxiliaries, e: Expression, x: Posynomial) -> Posynomial:
    return x.times(_exp(_, e, x))


def _entr(_: Auxiliaries, e: Expression, x: Posynomial) -> Posynomial:
    if x.curvature is not Curvature.AFFINE:
        raise NotGeometric("is the entropy of what is no monomial.")
    inside = node("log", scaled(-1, x.log()), origin=e.origin)
    return x.times(Posynomial.of_logs(inside, Curvature.CONCAVE))


RULES: Mapping[str, Rule] = {
    "sum": _sum,
    "mean": _mean,
    "sum_squares": _sum_squares,
    "trace": _trace,
    "cumsum": _cumsum,
    "multiply": _multiply,
    "divide": _divide,
    "matmul": _matmul,
    "vdot": _vdot,
    "outer": _outer,
    "kron": _kron,
    "convolve": _convolve,
    "quad_form": _quad_form,
    "quad_over_lin": _quad_over_lin,
    "gmatmul": _gmatmul,
    "prod": _prod,
    "cumprod": _cumprod,
    "inv_prod": _inv_prod,
    "power": _power,
    "pow": _pow,
    "square": _with_power(2.0),
    "sqrt": _with_power(0.5),
    "inv_pos": _with_power(-1.0),
    "abs": _same,
    "pos": _same,
    "assert": _same,
    "pnorm": _norm_of_entries,
    "norm": _norm,
    "norm1": _sum,
    "norm_inf": _norm_inf,
    "mixed_norm": _mixed_norm,
    "geo_mean": _geo_mean,
    "harmonic_mean": _harmonic_mean,
    "max": _extremum,
    "min": _extremum,
    "maximum": _elementwise_extremum,
    "minimum": _elementwise_extremum,
    "exp": _exp,
    "log": _log,
    "xexp": _xexp,
    "entr": _entr,
    "one_minus_pos": implicit_atoms.one_minus_pos,
    "diff_pos": implicit_atoms.diff_pos,
    "eye_minus_inv": implicit_atoms.eye_minus_inv,
    "resolvent": implicit_atoms.resolvent,
    "pf_eigenvalue": implicit_atoms.pf_eigenvalue,
}

# Arguments that are exponents, of any sign, and have no logarithm.
EXPONENTS: Mapping[str, int] = {"gmatmul": 0, "pow": 1}
