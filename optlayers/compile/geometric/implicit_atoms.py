"""Atoms of geometric programs that only constraints on new unknowns can express.

Source: Agrawal, Diamond, Boyd, Disciplined geometric programming (2019), section 4.
"""

import numpy as np

from optlayers.compile.geometric.auxiliary import Auxiliaries
from optlayers.compile.geometric.curvature import Curvature, NotGeometric
from optlayers.compile.geometric.nodes import joined, node, number, reshaped
from optlayers.compile.geometric.posynomial import Posynomial, added
from optlayers.modeling.expressions import Expression


def one_minus_pos(new: Auxiliaries, e: Expression, x: Posynomial) -> Posynomial:
    """t = 1 - x: the largest t with t + x <= 1."""
    _check_convex(x, "is one less what is")
    t = Posynomial.of_logs(new.unknown(x.shape, e), Curvature.AFFINE)
    whole = added([t, x], e.origin).log()
    new.require(whole, number(np.zeros(x.shape), e.origin), e)
    return Posynomial(t.logs, t.owner, t.shape, Curvature.CONCAVE)


def diff_pos(
    new: Auxiliaries, e: Expression, x: Posynomial, y: Posynomial
) -> Posynomial:
    """x - y = x (1 - y / x)."""
    ratio = y.times(x.power(-1)).broadcast(e.shape)
    return x.broadcast(e.shape).times(one_minus_pos(new, e, ratio))


def eye_minus_inv(new: Auxiliaries, e: Expression, x: Posynomial) -> Posynomial:
    """Y = (I - X)^-1: the least Y with I + Y X <= Y, entry by entry."""
    _check_convex(x, "is an inverse of one less what is")
    n = x.shape[0]
    logs = new.unknown((n, n), e)
    y = Posynomial.of_logs(logs, Curvature.AFFINE)
    places = y.numbers[:, :, None], x.numbers[None, :, :]
    products = y.take(places[0]).times(x.take(places[1]))
    into = np.broadcast_to(y.numbers[:, None, :], (n, n, n))
    product = products.summed(into, (n, n))
    one = Posynomial(
        number(np.zeros(n), e.origin), np.diagonal(y.numbers), (n, n), Curvature.AFFINE
    )
    new.require(added([product, one], e.origin).log(), logs, e)
    return Posynomial(y.logs, y.owner, y.shape, Curvature.CONVEX)


def resolvent(
    new: Auxiliaries, e: Expression, x: Posynomial, s: Posynomial
) -> Posynomial:
    """(s I - X)^-1 = (I - X / s)^-1 / s."""
    inverse = s.take(s.numbers.reshape(())).power(-1)
    return eye_minus_inv(new, e, x.times(inverse)).times(inverse)


def pf_eigenvalue(new: Auxiliaries, e: Expression, x: Posynomial) -> Posynomial:
    """The least r with X v <= r v for some positive v, whose first entry is one."""
    _check_convex(x, "is the eigenvalue of what is")
    n = x.shape[0]
    r = Posynomial.of_logs(new.unknown((), e), Curvature.AFFINE)
    first = number(np.zeros(1), e.origin)
    logs = first if n == 1 else joined([first, new.unknown((n - 1,), e)], e.origin)
    v = Posynomial.of_logs(logs, Curvature.AFFINE)
    products = x.times(v.take(np.broadcast_to(v.numbers, (n, n))))
    into = np.broadcast_to(v.numbers[:, None], (n, n))
    left = products.summed(into, (n,)).log()
    right = node("add", reshaped(r.logs, (1,)), logs, origin=e.origin)
    new.require(left, right, e)
    return Posynomial(r.logs, r.owner, (), Curvature.CONVEX)


def _check_convex(x: Posynomial, words: str) -> None:
    if not x.curvature.is_convex:
        raise NotGeometric(f"{words} log-log concave.")
