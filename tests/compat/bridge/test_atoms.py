"""Every atom of cvxpy that has a counterpart: the same value, and the same optimum."""

import warnings
from collections.abc import Callable
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
import torch

from optlayers.compat.bridge.atoms import RULES
from optlayers.compat.bridge.expressions import Translator
from optlayers.compat.from_cvxpy import from_cvxpy
from optlayers.errors import NotSupported
from optlayers.modeling.declaration import field_expression
from optlayers.modeling.evaluate import Evaluator
from optlayers.modeling.expressions import Expression
from optlayers.modeling.field_kinds import Parameter

Build = Callable[..., cp.Expression]

# x, y: vectors; X: a matrix; S: positive definite; s: a scalar; u: positive vector.
CASES: dict[str, Build] = {
    "add": lambda x, y, **_: x + y + 1 + x,
    "subtract": lambda x, s, **_: x - s,
    "multiply": lambda x, s, **_: s * x,
    "multiply constants": lambda X, **_: cp.multiply(np.arange(6.0).reshape(3, 2), X),
    "divide": lambda x, **_: x / np.array([1.0, 2.0, 4.0]),
    "matmul": lambda X, **_: np.ones((2, 3)) @ X,
    "vector product": lambda x, **_: np.arange(3.0) @ x,
    "promoted": lambda s, **_: cp.sum(cp.promote(s, (2, 3)), axis=0),
    "one by one": lambda x, X, **_: X[0:1, 0:1] + x,
    "broadcast": lambda x, X, **_: cp.broadcast_to(x[:2], (3, 2)) + X,
    "square": lambda x, **_: cp.square(x),
    "power 4": lambda x, **_: cp.power(x, 4),
    "power 3": lambda u, **_: cp.power(u, 3),
    "power 5": lambda u, **_: cp.power(u, 5),
    "power of a scalar": lambda u, **_: cp.power(u[0], 3),
    "power of a sum": lambda u, **_: cp.power(u - 0.1, 3),
    "power 1.5": lambda u, **_: cp.power(u, 1.5),
    "power 0.3": lambda u, **_: cp.power(u, 0.3),
    "power -1": lambda u, **_: cp.inv_pos(u),
    "power -2": lambda u, **_: cp.power(u, -2),
    "power -3": lambda u, **_: cp.power(u, -3),
    "power -0.5": lambda u, **_: cp.power(u, -0.5),
    "power 1": lambda x, **_: cp.power(x, 1),
    "sqrt": lambda u, **_: cp.sqrt(u),
    "abs": lambda x, **_: cp.abs(x),
    "pos": lambda x, **_: cp.pos(x),
    "neg": lambda x, **_: cp.neg(x),
    "exp": lambda x, **_: cp.exp(x),
    "log": lambda u, **_: cp.log(u),
    "log1p": lambda u, **_: cp.log1p(u),
    "logistic": lambda x, **_: cp.logistic(x),
    "entr": lambda u, **_: cp.entr(u),
    "xexp": lambda u, **_: cp.xexp(u),
    "loggamma": lambda u, **_: cp.loggamma(u),
    "log_normcdf": lambda x, **_: cp.log_normcdf(x),
    "huber": lambda x, **_: cp.huber(x, 0.5),
    "kl_div": lambda u, v, **_: cp.kl_div(u, v),
    "rel_entr": lambda u, **_: cp.rel_entr(u, 2),
    "scalene": lambda x, **_: cp.scalene(x, 2, 3),
    "maximum": lambda x, y, **_: cp.maximum(x, y, 0.1),
    "minimum": lambda x, s, **_: cp.minimum(x, s),
    "sum": lambda X, **_: cp.sum(X),
    "sum over axis": lambda X, **_: cp.sum(X, axis=1, keepdims=True),
    "mean": lambda X, **_: cp.mean(X, axis=0),
    "var": lambda x, **_: cp.var(x),
    "std": lambda x, **_: cp.std(x, ddof=1),
    "max": lambda X, **_: cp.max(X, axis=1),
    "min": lambda X, **_: cp.min(X),
    "ptp": lambda x, **_: cp.ptp(x),
    "square of ptp": lambda x, **_: cp.square(cp.ptp(x)),
    "sum_squares": lambda X, **_: cp.sum_squares(X),
    "quad_over_lin": lambda x, v, **_: cp.quad_over_lin(x, v[0]),
    "quad_over_lin of a number": lambda x, **_: cp.quad_over_lin(x, 3.0),
    "sum_largest": lambda x, **_: cp.sum_largest(x, 2),
    "sum_smallest": lambda x, **_: cp.sum_smallest(x, 2),
    "cvar": lambda x, **_: cp.cvar(x, 0.5),
    "log_sum_exp": lambda X, **_: cp.log_sum_exp(X, axis=1),
    "geo_mean": lambda u, **_: cp.geo_mean(u),
    "geo_mean with weights": lambda u, **_: cp.geo_mean(u, p=[1, 2, 1]),
    "harmonic_mean": lambda u, **_: cp.harmonic_mean(u),
    "inv_prod": lambda u, **_: cp.inv_prod(u),
    "norm": lambda x, **_: cp.norm(x),
    "norm 1": lambda x, **_: cp.norm(x, 1),
    "norm inf": lambda X, **_: cp.norm(X, "inf"),
    "norm over axis": lambda X, **_: cp.norm(X, 2, axis=1),
    "Frobenius norm": lambda X, **_: cp.norm(X, "fro"),
    "pnorm of a matrix": lambda X, **_: cp.pnorm(X, 2),
    "norm1 over axis": lambda X, **_: cp.norm1(X, axis=0),
    "norm_inf over axis": lambda X, **_: cp.norm_inf(X, axis=0, keepdims=True),
    "pnorm 3": lambda x, **_: cp.pnorm(x, 3),
    "pnorm 1.5": lambda x, **_: cp.pnorm(x, 1.5),
    "pnorm 0.5": lambda u, **_: cp.pnorm(u, 0.5),
    "mixed_norm": lambda X, **_: cp.mixed_norm(X, 2, 1),
    "normNuc": lambda X, **_: cp.normNuc(X),
    "sigma_max": lambda X, **_: cp.sigma_max(X),
    "quad_form": lambda x, **_: cp.quad_form(x, np.diag([1.0, 2.0, 3.0])),
    "negative quad_form": lambda x, **_: cp.quad_form(x, -np.eye(3)),
    "quad_form of a column": lambda X, **_: cp.quad_form(X[:, 0:1], np.eye(3)),
    "matrix_frac": lambda x, S, **_: cp.matrix_frac(x, S),
    "vdot": lambda x, **_: cp.vdot(x, np.ones(3)),
    "dotsort": lambda x, **_: cp.dotsort(x, [0.2, 1.0]),
    "outer": lambda x, **_: cp.outer(x, np.arange(2.0)),
    "kron": lambda X, **_: cp.kron(np.array([[1.0, 2.0]]), X),
    "kron of a variable first": lambda X, **_: cp.kron(X, np.array([[1.0, 2.0]])),
    "convolve": lambda x, **_: cp.convolve(np.array([1.0, 2.0]), x),
    "trace": lambda S, **_: cp.trace(S),
    "lambda_max": lambda S, **_: cp.lambda_max(S),
    "lambda_min": lambda S, **_: cp.lambda_min(S),
    "lambda_sum_largest": lambda S, **_: cp.lambda_sum_largest(S, 2),
    "lambda_sum_smallest": lambda S, **_: cp.lambda_sum_smallest(S, 2),
    "log_det": lambda S, **_: cp.log_det(S),
    "tr_inv": lambda S, **_: cp.tr_inv(S),
    "tv": lambda X, **_: cp.tv(X),
    "tv of a vector": lambda x, **_: cp.tv(x),
    "index": lambda X, **_: X[1:, ::-1],
    "index of an entry": lambda X, **_: X[2, -1],
    "index of a row": lambda X, **_: X[1],
    "index with a new axis": lambda x, **_: x[:, None],
    "index by a list": lambda x, **_: x[[2, 0]],
    "index by lists": lambda X, **_: X[[2, 0], [1, 1]],
    "index by a mask": lambda X, **_: X[np.arange(6).reshape(3, 2) > 2],
    "index by a list of rows": lambda X, **_: X[[2, 0]],
    "reshape by columns": lambda X, **_: cp.reshape(X, (2, 3), order="F"),
    "reshape by rows": lambda X, **_: cp.reshape(X, (2, 3), order="C"),
    "vec": lambda X, **_: cp.vec(X, order="F"),
    "transpose": lambda X, **_: X.T,
    "swapaxes": lambda X, **_: cp.swapaxes(X, 0, 1),
    "hstack": lambda x, y, **_: cp.hstack([x, y]),
    "vstack": lambda x, y, **_: cp.vstack([x, y]),
    "concatenate": lambda X, **_: cp.concatenate([X, X], axis=1),
    "stack": lambda x, y, **_: cp.stack([x, y]),
    "bmat": lambda X, **_: cp.bmat([[X, X], [X, np.ones((3, 2))]]),
    "diag of a vector": lambda x, **_: cp.diag(x),
    "diag of a matrix": lambda S, **_: cp.diag(S),
    "diag beside": lambda x, **_: cp.diag(x, 1),
    "upper_tri": lambda S, **_: cp.upper_tri(S),
    "vec_to_upper_tri": lambda x, **_: cp.vec_to_upper_tri(x, strict=True),
    "cumsum": lambda X, **_: cp.cumsum(X, axis=1),
    "cummax": lambda x, **_: cp.cummax(x),
    "diff": lambda X, **_: cp.diff(X, axis=0),
    "partial_trace": lambda S, **_: cp.partial_trace(cp.kron(np.eye(2), S), [2, 3]),
    "partial_transpose": lambda S, **_: cp.partial_transpose(
        cp.kron(np.eye(2), S), [2, 3]
    ),
    "einsum": lambda X, **_: cp.einsum("ij,kj->ik", X, np.ones((2, 2))),
    "perspective": lambda x, t, **_: (
        cp.perspective(cp.square(x[0]), t)
        if not isinstance(x, cp.Variable)
        else cp.perspective(cp.sum_squares(x), t)
    ),
    "nonneg_wrap": lambda u, **_: cp.atoms.affine.wraps.nonneg_wrap(u),
    "nonpos_wrap": lambda u, **_: cp.atoms.affine.wraps.nonpos_wrap(-u),
    "symmetric_wrap": lambda S, **_: cp.atoms.affine.wraps.symmetric_wrap(S),
}

SHAPES = {"x": 3, "y": 3, "u": 3, "v": 3, "X": (3, 2), "S": (3, 3), "s": (), "t": ()}
# Those of parameters alone, which a geometric or computed expression may also hold.
PARAMETERS: dict[str, Build] = {
    "von_neumann_entr": lambda S, **_: cp.von_neumann_entr(S),
    "prod": lambda u, **_: cp.prod(u),
    "cumprod": lambda u, **_: cp.cumprod(u),
    "one_minus_pos": lambda u, **_: cp.one_minus_pos(u / 10),
    "gmatmul": lambda u, **_: cp.gmatmul(np.array([[1.0, 2.0, -1.0]]), u),
    "eye_minus_inv": lambda S, **_: cp.eye_minus_inv(cp.abs(S) / 10),
    "pf_eigenvalue": lambda S, **_: cp.pf_eigenvalue(cp.abs(S)),
    "ceil": lambda x, **_: cp.ceil(x),
    "floor": lambda x, **_: cp.floor(x),
    "product of parameters": lambda x, y, **_: x @ y,
    "quotient of parameters": lambda x, u, **_: x / u,
    "huber with a parameter": lambda x, u, **_: cp.huber(x, u[0]),
}


def drawn(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((3, 3))
    values = {name: rng.standard_normal(size) for name, size in SHAPES.items()}
    values |= {name: 0.3 + rng.random(3) for name in "uv"}
    return values | {
        "S": root @ root.T + np.eye(3),
        "s": np.asarray(0.4),
        "t": np.asarray(1.5),
    }


def built(build: Build, make: Any) -> tuple[cp.Expression, dict[str, Any]]:
    """The expression on fresh leaves, which hold drawn values, and the leaves."""
    attributes = {"S": {"PSD": True}, "t": {"nonneg": True}}
    if make is cp.Parameter:
        attributes |= {name: {"pos": True} for name in "uv"}
    leaves = {
        name: make(size, name=name, **attributes.get(name, {}))
        for name, size in SHAPES.items()
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expression = build(**leaves)
    for name, value in drawn().items():
        leaves[name].value = value
    return expression, leaves


def translated(expression: cp.Expression, leaves: dict[str, Any]) -> Expression:
    known = {}
    for name, leaf in leaves.items():
        field = Parameter(
            tuple(leaf.shape),
            nonneg=name in "uvt",
            psd=name == "S",
        )
        known[leaf.id] = field_expression(field.bind(name, {}, None))
    return Translator(known)(expression)


@pytest.mark.parametrize("name", [*CASES, *PARAMETERS])
def test_the_value_is_cvxpys(name):
    make = cp.Variable if name in ("perspective",) else cp.Parameter
    expression, leaves = built((CASES | PARAMETERS)[name], make)
    ours = translated(expression, leaves)
    tensors = {name: torch.as_tensor(value) for name, value in drawn().items()}
    (value,) = Evaluator([ours])(tensors, {})
    assert tuple(value.shape) == expression.shape == ours.shape
    # cvxpy's numbers may have another shape than it says: upper_tri, X[:1, :1] + x.
    theirs = np.reshape(expression.value, expression.shape)
    np.testing.assert_allclose(value.numpy(), theirs, rtol=1e-9, atol=1e-9)


def test_every_rule_has_a_case():
    met: set[type] = set()
    for build in (CASES | PARAMETERS).values():
        for make in (cp.Parameter, cp.Variable):
            try:
                pending = [built(build, make)[0]]
            except (ValueError, AssertionError):
                continue
            while pending:
                one = pending.pop()
                met.update(type(one).__mro__)
                pending += one.args
    # conv is deprecated; conj and real are the identity on real numbers.
    silent = {cp.conj, cp.real, cp.atoms.affine.conv.conv}
    missing = {kind.__name__ for kind in RULES if kind not in met | silent}
    assert not missing


def test_an_unknown_atom_is_named_with_its_place():
    x = cp.Variable(2, name="x")
    problem = cp.Problem(cp.Minimize(2 * cp.length(x) + 1))
    with pytest.raises(NotSupported, match="length has no counterpart") as caught:
        from_cvxpy(problem)
    assert "`length(x)`, in `2.0 * length(x) + 1.0`" in str(caught.value)


@pytest.mark.parametrize("atom", [cp.ceil, cp.floor])
def test_an_atom_of_parameters_alone_is_refused_of_variables(atom):
    x, p = cp.Variable(2, name="x"), cp.Parameter(2, name="p")
    cost = cp.sum_squares(x - atom(p))
    from_cvxpy(cp.Problem(cp.Minimize(cost)))
    problem = cp.Problem(cp.Minimize(cost), [1 + atom(p + x) <= 2])
    message = f"the atom {atom.__name__} of variables has no counterpart"
    with pytest.raises(NotSupported, match=message) as caught:
        from_cvxpy(problem)
    assert f"`{atom.__name__}(p + x)`, in `Promote(1.0, (2,)) + " in str(caught.value)
