"""cvxpy's atoms in our words: the inverse of `optlayers.compile.atoms`, a line each."""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import cvxpy as cp
import numpy as np
import torch
from cvxpy.atoms.affine import wraps
from cvxpy.atoms.affine.add_expr import AddExpression
from cvxpy.atoms.affine.binary_operators import DivExpression, MulExpression
from cvxpy.atoms.affine.broadcast_to import broadcast_to
from cvxpy.atoms.affine.concatenate import Concatenate
from cvxpy.atoms.affine.conv import conv
from cvxpy.atoms.affine.diag import diag_mat, diag_vec
from cvxpy.atoms.affine.hstack import Hstack
from cvxpy.atoms.affine.index import index, special_index
from cvxpy.atoms.affine.promote import Promote
from cvxpy.atoms.affine.sum import Sum
from cvxpy.atoms.affine.trace import Trace
from cvxpy.atoms.affine.unary_operators import NegExpression
from cvxpy.atoms.affine.vstack import Vstack
from cvxpy.atoms.elementwise.power import Power
from cvxpy.atoms.geo_mean import GeoMean
from cvxpy.atoms.matrix_frac import MatrixFrac
from cvxpy.atoms.pnorm import Pnorm
from cvxpy.atoms.prod import Prod
from cvxpy.atoms.quad_form import QuadForm

from optlayers.compat.bridge.powers import power
from optlayers.errors import NotSupported
from optlayers.modeling.expressions import Expression, apply, call_torch
from optlayers.modeling.inference import broadcast
from optlayers.modeling.language import nonneg, nonpos, psd_matrix

Rule = Callable[[Any, Sequence[Expression]], Expression]


def rule_for(kind: type) -> Rule | None:
    """The rule of a class of atoms, or of the class that it is a variant of."""
    for one in kind.__mro__:
        if one in RULES:
            return RULES[one]
    return None


def _same(name: str, *options: str) -> Rule:
    """An atom of the same arguments, and of options that cvxpy keeps by name."""

    def rule(node: Any, arguments: Sequence[Expression]) -> Expression:
        chosen = {option: getattr(node, option) for option in options}
        return apply(name, arguments, **chosen)

    return rule


def _elementwise(name: str) -> Rule:
    """An atom that broadcasts by itself what cvxpy was told to broadcast."""

    def rule(node: Any, arguments: Sequence[Expression]) -> Expression:
        return apply(name, _loosened(node, arguments))

    return rule


def _computed(function: Callable[..., Any]) -> Rule:
    """A function that is neither convex nor concave: of parameters alone."""

    def rule(node: Any, arguments: Sequence[Expression]) -> Expression:
        return call_torch(function, tuple(arguments), {})

    return rule


def _loosened(node: Any, arguments: Sequence[Expression]) -> Sequence[Expression]:
    """The arguments before cvxpy promoted them, if they broadcast to the same shape."""
    loose = [
        _before_promotion(one) if isinstance(of, Promote | broadcast_to) else one
        for of, one in zip(node.args, arguments, strict=True)
    ]
    try:
        shape = reduce(broadcast, (one.shape for one in loose))
    except ValueError:
        return arguments
    return loose if shape == node.shape else arguments


def _before_promotion(e: Expression) -> Expression:
    return e.arguments[0] if e.name == "broadcast_to" else e


def _promoted(node: Any, arguments: Sequence[Expression]) -> Expression:
    (scalar,) = arguments
    if scalar.shape:
        scalar = apply("reshape", (scalar,), shape=())
    return apply("broadcast_to", (scalar,), shape=node.shape)


def _add(node: Any, arguments: Sequence[Expression]) -> Expression:
    terms = _loosened(node, arguments)
    return reduce(lambda left, right: apply("add", (left, right)), terms)


def _index(node: Any, arguments: Sequence[Expression]) -> Expression:
    key = node._orig_key
    entries = key if isinstance(key, tuple) else (key,)
    steps = (one.step for one in entries if isinstance(one, slice))
    if any(step is not None and step < 0 for step in steps):
        return _selected(arguments[0], key)
    return arguments[0][key]


def _special_index(node: Any, arguments: Sequence[Expression]) -> Expression:
    return _selected(arguments[0], node.key)


def _selected(whole: Expression, key: Any) -> Expression:
    """Entries by number, so that lists, masks and mixtures mean what numpy says."""
    size = int(np.prod(whole.shape, dtype=int))
    places = np.arange(size).reshape(whole.shape)[key]
    if len(whole.shape) == 1:
        return whole[places]
    flat = apply("reshape", (whole,), shape=(-1,))
    return apply("reshape", (flat[places.ravel()],), shape=places.shape)


def _reshape(node: Any, arguments: Sequence[Expression]) -> Expression:
    order = {} if node.order == "C" or len(node.shape) == 0 else {"order": node.order}
    if len(node.shape) < 2 and len(arguments[0].shape) < 2:
        order = {}
    return apply("reshape", arguments, shape=node.shape, **order)


def _transpose(node: Any, arguments: Sequence[Expression]) -> Expression:
    axes = node.axes
    if axes is None or list(axes) == list(range(len(node.shape)))[::-1]:
        return apply("transpose", arguments)
    return apply("transpose", arguments, axes=tuple(int(one) for one in axes))


def _quad_over_lin(node: Any, arguments: Sequence[Expression]) -> Expression:
    square, bottom = arguments
    options = _axis_options(node)
    if bottom.name != "constant":
        return apply("quad_over_lin", arguments, **options)
    total = apply("sum_squares", (square,), **options)
    number = bottom.options["value"].item()
    return total if number == 1 else total / number


def _quad_form(node: Any, arguments: Sequence[Expression]) -> Expression:
    vector, matrix = arguments
    if len(vector.shape) == 2:
        vector = apply("reshape", (vector,), shape=(-1,))
    P = node.args[1]
    is_known = not P.parameters()
    if P.is_nsd() and not P.is_psd() and not is_known:
        negative = psd_matrix(apply("negate", (_bare(matrix),)))
        return apply("negate", (apply("quad_form", (vector, negative)),))
    if P.is_psd() and not is_known and matrix.name not in ("field", "assert"):
        # cvxpy knows it, of sums and nonnegative multiples of such matrices for one.
        matrix = psd_matrix(matrix)
    return apply("quad_form", (vector, matrix))


def _bare(matrix: Expression) -> Expression:
    """P itself of -ol.psd_matrix(-P)."""
    if matrix.name == "negate" and matrix.arguments[0].name == "assert":
        (negative,) = matrix.arguments[0].arguments
        if negative.name == "negate":
            return negative.arguments[0]
    return matrix


def _pnorm(node: Any, arguments: Sequence[Expression]) -> Expression:
    exponent, options = float(node.original_p), _axis_options(node)
    if exponent == 2:
        return apply("norm", _entrywise(arguments, options), **options)
    if exponent != int(exponent):
        options["max_denom"] = node.max_denom
    return apply("pnorm", arguments, p=node.original_p, **options)


def _entrywise(
    arguments: Sequence[Expression], options: Mapping[str, Any]
) -> Sequence[Expression]:
    """A matrix as one vector where all of it is meant: ol.norm takes sigma_max."""
    (x,) = arguments
    if options.get("axis") is None and len(x.shape) == 2:
        return (apply("reshape", arguments, shape=(-1,)),)
    if options.get("axis") is None and x.name == "reshape":
        inner = x.arguments[0]
        return (inner,) if len(inner.shape) < 2 else arguments
    return arguments


def _axis_options(node: Any) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if node.axis is not None:
        axis = node.axis
        options["axis"] = int(axis) if np.ndim(axis) == 0 else tuple(map(int, axis))
    if node.keepdims:
        options["keepdims"] = True
    return options


def _reduction(name: str, *others: str) -> Rule:
    def rule(node: Any, arguments: Sequence[Expression]) -> Expression:
        chosen = {option: getattr(node, option) for option in others}
        return apply(name, arguments, **chosen, **_axis_options(node))

    return rule


def _geo_mean(node: Any, arguments: Sequence[Expression]) -> Expression:
    options = _axis_options(node)
    # cvxpy sets entries without weight aside (private, verified on 1.9).
    weights = [0.0] * len(node._keep)
    for place, weight in zip(np.flatnonzero(node._keep), node.p, strict=True):
        weights[place] = float(weight)
    if len(set(weights)) > 1:
        options["p"] = weights
    if node.max_denom != 1024:
        options["max_denom"] = node.max_denom
    return apply("geo_mean", arguments, **options)


def _huber(node: Any, arguments: Sequence[Expression]) -> Expression:
    x, M = arguments
    if M.name == "constant":
        return apply("huber", (x,), M=M.options["value"].item())
    # M^2 huber(x / M) turns linear at M.
    scale = nonneg(M)
    return scale**2 * apply("huber", (x / scale,), M=1.0)


def _power(node: Any, arguments: Sequence[Expression]) -> Expression:
    x, p = arguments
    return power(x, p, node.max_denom)


def _wrapped(node: Any, arguments: Sequence[Expression]) -> Expression:
    (inside,) = arguments
    if isinstance(node, wraps.nonneg_wrap) and inside.depends_on_variables:
        return _spread(inside)
    if inside.depends_on_variables:
        # cvxpy's word on what depends on variables; ours is taken of parameters only.
        return inside
    if isinstance(node, wraps.nonneg_wrap):
        return nonneg(inside)
    if isinstance(node, wraps.nonpos_wrap):
        return nonpos(inside)
    if isinstance(node, wraps.psd_wrap):
        return psd_matrix(inside)
    if isinstance(node, wraps.nsd_wrap):
        return apply("negate", (psd_matrix(apply("negate", (inside,))),))
    return inside


def _spread(e: Expression) -> Expression:
    """cvxpy's ptp is nonneg_wrap(max(x) - min(x)); anything else keeps its own sign."""
    if e.name == "add" and e.arguments[1].name == "negate":
        largest, (smallest,) = e.arguments[0], e.arguments[1].arguments
        is_pair = (largest.name, smallest.name) == ("max", "min")
        if is_pair and largest.arguments[0] is smallest.arguments[0]:
            return apply("ptp", largest.arguments, **largest.options)
    return e


def _cumulative(name: str) -> Rule:
    def rule(node: Any, arguments: Sequence[Expression]) -> Expression:
        return apply(name, arguments, axis=node.axis)

    return rule


def _gmatmul(node: Any, arguments: Sequence[Expression]) -> Expression:
    X, A = arguments
    return apply("gmatmul", (A, X))


def _perspective(node: Any, arguments: Sequence[Expression]) -> Expression:
    """s f(x / s) of one atom f applied to variables."""
    s, *rest = arguments
    f = rest[-1]
    is_plain = bool(f.arguments) and all(one.name == "field" for one in f.arguments)
    if node.f_recession is not None or not is_plain:
        raise NotSupported(
            f"cvxpy problem: `{node.f}` in a perspective is not one atom of variables "
            "alone; write s f(x / s) with quad_over_lin, rel_entr or kl_div."
        )
    return apply("perspective", (*f.arguments, s), of=f.name, **f.options)


def _constant_parts(*names: str) -> Callable[[Any], list[cp.Expression]]:
    return lambda node: [getattr(node, name) for name in names]


# Expressions that cvxpy keeps beside the arguments of an atom.
OTHER_ARGUMENTS: Mapping[type, Callable[[Any], list[cp.Expression]]] = {
    cp.huber: _constant_parts("M"),
    Power: _constant_parts("p"),
    **{kind: _constant_parts("p") for kind in Power.__subclasses__()},
    cp.gmatmul: _constant_parts("A"),
    cp.perspective: _constant_parts("f"),
}

# Atoms with the argument that cvxpy makes symmetric; of log_det and tr_inv it takes the
# symmetric part instead.
SYMMETRIC_ARGUMENTS: Mapping[type, int] = {
    cp.lambda_max: 0,
    cp.lambda_sum_largest: 0,
    cp.von_neumann_entr: 0,
    MatrixFrac: 1,
}

# Neither convex nor concave, so of parameters alone.
OF_PARAMETERS: Mapping[type, Callable[..., Any]] = {
    cp.ceil: torch.ceil,
    cp.floor: torch.floor,
}

RULES: Mapping[type, Rule] = {
    AddExpression: _add,
    NegExpression: _same("negate"),
    cp.multiply: _elementwise("multiply"),
    DivExpression: _elementwise("divide"),
    MulExpression: _same("matmul"),
    Power: _power,
    cp.abs: _same("abs"),
    cp.exp: _same("exp"),
    cp.log: _same("log"),
    cp.log1p: _same("log1p"),
    cp.logistic: _same("logistic"),
    cp.entr: _same("entr"),
    cp.xexp: _same("xexp"),
    cp.huber: _huber,
    cp.kl_div: _elementwise("kl_div"),
    cp.rel_entr: _elementwise("rel_entr"),
    cp.maximum: _elementwise("maximum"),
    cp.minimum: _elementwise("minimum"),
    Sum: _reduction("sum"),
    cp.max: _reduction("max"),
    cp.min: _reduction("min"),
    cp.log_sum_exp: _reduction("log_sum_exp"),
    cp.sum_largest: _reduction("sum_largest", "k"),
    GeoMean: _geo_mean,
    Pnorm: _pnorm,
    cp.norm1: _reduction("norm1"),
    cp.norm_inf: _reduction("norm_inf"),
    cp.quad_over_lin: _quad_over_lin,
    QuadForm: _quad_form,
    MatrixFrac: _same("matrix_frac"),
    cp.dotsort: _same("dotsort"),
    cp.kron: _same("kron"),
    cp.convolve: _same("convolve"),
    conv: _same("convolve"),
    Trace: _same("trace"),
    cp.lambda_max: _same("lambda_max"),
    cp.lambda_sum_largest: _same("lambda_sum_largest", "k"),
    cp.log_det: _same("log_det"),
    cp.von_neumann_entr: _same("von_neumann_entr"),
    cp.tr_inv: _same("tr_inv"),
    cp.sigma_max: _same("sigma_max"),
    cp.normNuc: _same("normNuc"),
    cp.perspective: _perspective,
    index: _index,
    special_index: _special_index,
    cp.reshape: _reshape,
    cp.transpose: _transpose,
    broadcast_to: _same("broadcast_to", "shape"),
    Promote: _promoted,
    Hstack: _same("hstack"),
    Vstack: _same("vstack"),
    Concatenate: _same("concatenate", "axis"),
    diag_vec: _same("diag", "k"),
    diag_mat: _same("diag", "k"),
    cp.upper_tri: _same("upper_tri"),
    cp.cumsum: _cumulative("cumsum"),
    cp.cummax: _cumulative("cummax"),
    wraps.Wrap: _wrapped,
    cp.conj: lambda node, arguments: arguments[0],
    cp.real: lambda node, arguments: arguments[0],
    # Of geometric programs.
    Prod: _reduction("prod"),
    cp.cumprod: _cumulative("cumprod"),
    cp.one_minus_pos: _same("one_minus_pos"),
    cp.eye_minus_inv: _same("eye_minus_inv"),
    cp.pf_eigenvalue: _same("pf_eigenvalue"),
    cp.gmatmul: _gmatmul,
    **{kind: _computed(function) for kind, function in OF_PARAMETERS.items()},
}
