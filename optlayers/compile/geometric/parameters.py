"""Parameters in log space: logarithms taken in torch of what is asserted positive."""

import math

import numpy as np
import torch

from optlayers.compile.geometric.curvature import Curvature, NotGeometric
from optlayers.compile.geometric.nodes import gathered, node, number, reshaped
from optlayers.compile.geometric.posynomial import Posynomial
from optlayers.compile.geometric.rules import ARRANGEMENTS
from optlayers.compile.parametric import Parametrics
from optlayers.modeling.atoms import ATOMS
from optlayers.modeling.expressions import Expression
from optlayers.modeling.signs import Sign


def logarithm(e: Expression, parametrics: Parametrics) -> Posynomial:
    """An expression of parameters and constants, each positive or zero by structure.

    Raises:
        NotGeometric: some entries are known not to be positive.
    """
    size = math.prod(e.shape)
    if parametrics.is_constant(e):
        value = parametrics.array(e)
        if not np.isfinite(value).all() or (value < 0).any():
            worst = value[~(value >= 0)].flat[0]
            raise NotGeometric(
                f"is {worst:g}, and every number in a geometric program is positive. "
                "Terms with a minus belong on the other side of the constraint."
            )
        owner = np.flatnonzero(value)
        logs = number(np.log(value.ravel()[owner]), e.origin)
        return Posynomial(logs, owner, e.shape, Curvature.AFFINE)
    if e.sign in (Sign.NONPOS, Sign.ZERO):
        raise NotGeometric("is never positive, by the signs declared for it.")
    is_zero = _zeros(e, parametrics)
    owner = np.flatnonzero(~is_zero)
    inside = e
    if is_zero.any():
        # One stands where zero is known to be, so that all others can be asserted.
        ones = number(is_zero.astype(float), e.origin)
        inside = node("add", e, ones, origin=e.origin)
    asserted = Expression(
        "assert", (inside,), {"attribute": "pos"}, e.shape, None, Sign.NONNEG, e.origin
    )
    logs = reshaped(node("log", asserted, origin=e.origin), (size,))
    return Posynomial(gathered(logs, owner), owner, e.shape, Curvature.AFFINE)


def _zeros(e: Expression, parametrics: Parametrics) -> np.ndarray:
    """Which entries are zero whatever the parameters are, bool [*shape]."""
    if parametrics.is_constant(e):
        return parametrics.array(e) == 0
    known = [_zeros(one, parametrics) for one in e.arguments] if _mixes(e) else []
    if e.name in ("multiply", "divide"):
        first, second = known
        other = second if e.name == "multiply" else np.zeros_like(second)
        return np.broadcast_to(first | other, e.shape)
    if e.name in ARRANGEMENTS:
        present = [torch.from_numpy((~one).astype(float)) for one in known]
        moved = ATOMS[e.name].torch_function(*present, **e.options)
        return moved.numpy().reshape(e.shape) == 0
    if e.name == "index":
        return np.asarray(known[0][e.options["index"]]).reshape(e.shape)
    return np.zeros(e.shape, dtype=bool)


def _mixes(e: Expression) -> bool:
    return e.name in ("multiply", "divide", "index") or e.name in ARRANGEMENTS
