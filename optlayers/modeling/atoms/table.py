"""The atoms, a line each: torch function, shape rule, sign rule.

Names, arguments and meaning are cvxpy's; `add`, `negate` and `divide` are Python's
operators. To add an atom, add a line here and its twin in `optlayers.compile.atoms`.
"""

from collections.abc import Mapping
from types import MappingProxyType

import torch

from optlayers.modeling.atoms import (
    arrangement,
    arrangement_shapes,
    elementwise,
    geometric,
    products,
    reductions,
    shapes,
    signs,
)
from optlayers.modeling.atoms.atom import Atom
from optlayers.modeling.atoms.perspective import perspective_of

_ARITHMETIC = (
    Atom("add", torch.add, shapes.broadcast, signs.of_sum, True),
    Atom("negate", torch.neg, shapes.same, signs.opposite, True),
    Atom("multiply", torch.mul, shapes.broadcast, signs.of_product, True),
    Atom("divide", torch.true_divide, shapes.broadcast, signs.of_product, True),
    Atom("matmul", torch.matmul, shapes.matmul, signs.of_product),
    Atom("power", elementwise.power, shapes.same, signs.of_power, True),
)

_ELEMENTWISE = (
    Atom("abs", torch.abs, shapes.same, signs.magnitude, True),
    Atom("square", torch.square, shapes.same, signs.magnitude, True),
    Atom("sqrt", torch.sqrt, shapes.same, signs.magnitude, True),
    Atom("pos", elementwise.pos, shapes.same, signs.positive_part, True),
    Atom("neg", elementwise.neg, shapes.same, signs.negative_part, True),
    Atom("inv_pos", elementwise.inv_pos, shapes.same, signs.nonneg, True),
    Atom("exp", torch.exp, shapes.same, signs.nonneg, True),
    Atom("log", torch.log, shapes.same, signs.unknown, True),
    Atom("log1p", torch.log1p, shapes.same, signs.same, True),
    Atom("logistic", elementwise.logistic, shapes.same, signs.nonneg, True),
    Atom("entr", elementwise.entr, shapes.same, signs.unknown, True),
    Atom("huber", elementwise.huber, shapes.same, signs.magnitude, True),
    Atom("xexp", elementwise.xexp, shapes.same, signs.same, True),
    Atom("scalene", elementwise.scalene, shapes.scalene, signs.of_slopes, True),
    Atom("loggamma", elementwise.loggamma, shapes.same, signs.unknown, True),
    Atom("log_normcdf", elementwise.log_normcdf, shapes.same, signs.nonpos, True),
    Atom("kl_div", elementwise.kl_div, shapes.broadcast, signs.nonneg, True),
    Atom("rel_entr", elementwise.rel_entr, shapes.broadcast, signs.unknown, True),
    Atom("maximum", elementwise.maximum, shapes.broadcast, signs.of_largest, True),
    Atom("minimum", elementwise.minimum, shapes.broadcast, signs.of_smallest, True),
)

_REDUCTIONS = (
    Atom("sum", reductions.total, shapes.reduction, signs.same),
    Atom("mean", reductions.mean, shapes.extremum, signs.same),
    Atom("var", reductions.var, shapes.extremum, signs.nonneg),
    Atom("std", reductions.std, shapes.extremum, signs.nonneg),
    Atom("max", reductions.largest, shapes.extremum, signs.same),
    Atom("min", reductions.smallest, shapes.extremum, signs.same),
    Atom("ptp", reductions.ptp, shapes.extremum, signs.nonneg),
    Atom("sum_squares", reductions.sum_squares, shapes.reduction, signs.magnitude),
    Atom("sum_largest", reductions.sum_largest, shapes.sum_of_ranked, signs.same),
    Atom("sum_smallest", reductions.sum_smallest, shapes.sum_of_ranked, signs.same),
    Atom(
        "log_sum_exp", reductions.log_sum_exp, shapes.extremum, signs.nonneg_if_nonneg
    ),
    Atom("cvar", reductions.cvar, shapes.cvar, signs.same),
    Atom("geo_mean", reductions.geo_mean, shapes.geo_mean, signs.nonneg),
    Atom("harmonic_mean", reductions.harmonic_mean, shapes.scalar, signs.nonneg),
    Atom("inv_prod", reductions.inv_prod, shapes.scalar, signs.nonneg),
    Atom("norm", reductions.norm, shapes.norm, signs.magnitude),
    Atom("norm1", reductions.norm1, shapes.reduction, signs.magnitude),
    Atom("norm_inf", reductions.norm_inf, shapes.extremum, signs.magnitude),
    Atom("pnorm", reductions.pnorm, shapes.pnorm, signs.magnitude),
    Atom("mixed_norm", reductions.mixed_norm, shapes.matrix, signs.magnitude),
)

_PRODUCTS = (
    Atom("quad_form", products.quad_form, shapes.quad_form, signs.of_quad_form),
    Atom("quad_over_lin", products.quad_over_lin, shapes.quad_over_lin, signs.nonneg),
    Atom("matrix_frac", products.matrix_frac, shapes.matrix_frac, signs.nonneg),
    Atom("vdot", products.vdot, shapes.vdot, signs.of_product),
    Atom("dotsort", products.dotsort, shapes.dotsort, signs.of_product),
    Atom("outer", products.outer, shapes.outer, signs.of_product),
    Atom("kron", torch.kron, shapes.kron, signs.of_product),
    Atom("convolve", products.convolve, shapes.convolve, signs.of_product),
    Atom("einsum", products.einsum, shapes.einsum, signs.of_product),
    Atom("tv", products.tv, shapes.tv, signs.nonneg),
)

_SPECTRA = (
    Atom("trace", products.trace, shapes.square_matrix, signs.same),
    Atom("lambda_max", products.lambda_max, shapes.square_matrix, signs.unknown),
    Atom("lambda_min", products.lambda_min, shapes.square_matrix, signs.unknown),
    Atom(
        "lambda_sum_largest",
        products.lambda_sum_largest,
        shapes.lambda_sum,
        signs.unknown,
    ),
    Atom(
        "lambda_sum_smallest",
        products.lambda_sum_smallest,
        shapes.lambda_sum,
        signs.unknown,
    ),
    Atom("log_det", products.log_det, shapes.square_matrix, signs.unknown),
    Atom(
        "von_neumann_entr",
        products.von_neumann_entr,
        shapes.square_matrix,
        signs.unknown,
    ),
    Atom("tr_inv", products.tr_inv, shapes.square_matrix, signs.nonneg),
    Atom("sigma_max", reductions.sigma_max, shapes.matrix, signs.magnitude),
    Atom("normNuc", reductions.norm_nuc, shapes.matrix, signs.magnitude),
)

_ARRANGEMENT = (
    Atom("reshape", arrangement.reshape, arrangement_shapes.reshape, signs.same),
    Atom("vec", arrangement.vec, arrangement_shapes.vec, signs.same),
    Atom("transpose", arrangement.transpose, arrangement_shapes.transpose, signs.same),
    Atom(
        "concatenate",
        arrangement.concatenate,
        arrangement_shapes.concatenate,
        signs.of_joined,
    ),
    Atom("stack", arrangement.stack, arrangement_shapes.stack, signs.of_joined),
    Atom("hstack", arrangement.hstack, arrangement_shapes.hstack, signs.of_joined),
    Atom("vstack", arrangement.vstack, arrangement_shapes.vstack, signs.of_joined),
    Atom("diag", arrangement.diag, arrangement_shapes.diag, signs.same),
    Atom("upper_tri", arrangement.upper_tri, arrangement_shapes.upper_tri, signs.same),
    Atom(
        "vec_to_upper_tri",
        arrangement.vec_to_upper_tri,
        arrangement_shapes.vec_to_upper_tri,
        signs.same,
    ),
    Atom("triu", arrangement.triu, arrangement_shapes.any_matrix, signs.same),
    Atom("tril", arrangement.tril, arrangement_shapes.any_matrix, signs.same),
    Atom(
        "broadcast_to",
        arrangement.broadcast_to,
        arrangement_shapes.broadcast_to,
        signs.same,
    ),
    Atom(
        "partial_trace",
        arrangement.partial_trace,
        arrangement_shapes.partial_trace,
        signs.same,
    ),
    Atom(
        "partial_transpose",
        arrangement.partial_transpose,
        arrangement_shapes.partial_transpose,
        signs.same,
    ),
    Atom("cumsum", arrangement.cumsum, shapes.cumulative, signs.same),
    Atom("cummax", arrangement.cummax, shapes.cumulative, signs.same),
    Atom("diff", arrangement.diff, shapes.diff, signs.of_difference),
)

# Of geometric programs: neither convex nor concave.
_GEOMETRIC = (
    Atom("prod", geometric.prod, shapes.reduction, signs.nonneg_if_nonneg),
    Atom("cumprod", geometric.cumprod, shapes.cumulative, signs.nonneg_if_nonneg),
    Atom("one_minus_pos", geometric.one_minus_pos, shapes.same, signs.nonneg, True),
    Atom("diff_pos", geometric.diff_pos, shapes.broadcast, signs.nonneg, True),
    Atom("eye_minus_inv", geometric.eye_minus_inv, shapes.square, signs.nonneg),
    Atom("resolvent", geometric.resolvent, shapes.square, signs.nonneg),
    Atom("pf_eigenvalue", geometric.pf_eigenvalue, shapes.square_matrix, signs.nonneg),
    Atom("gmatmul", geometric.gmatmul, shapes.matmul, signs.nonneg),
)

_BY_NAME = {
    atom.name: atom
    for atom in (
        *_ARITHMETIC,
        *_ELEMENTWISE,
        *_REDUCTIONS,
        *_PRODUCTS,
        *_SPECTRA,
        *_ARRANGEMENT,
        *_GEOMETRIC,
    )
}

ATOMS: Mapping[str, Atom] = MappingProxyType(
    _BY_NAME | {"perspective": perspective_of(_BY_NAME)}
)
