"""Rules of geometric programs: every atom in logarithms, and what is refused."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import optlayers as ol
from optlayers.compile.geometric.compile import compile_geometric, in_log_space
from optlayers.compile.geometric.solved import AtSolution
from optlayers.errors import NotConvex
from optlayers.modeling.evaluate import Evaluator
from tests.compile.words import Parameter, Variable, declared, maximize, minimize

DOUBLE = {"dtype": torch.float64}
GENERATOR = torch.Generator().manual_seed(0)
X = 0.5 + torch.rand(3, generator=GENERATOR, **DOUBLE)
M = 0.5 + torch.rand(3, 3, generator=GENERATOR, **DOUBLE)
A = 0.5 + torch.rand(3, 3, generator=GENERATOR, **DOUBLE)
EYE = torch.eye(3, **DOUBLE)

CONVEX = {
    "sum": lambda x, M, A: ol.sum(x),
    "sum over an axis": lambda x, M, A: ol.sum(ol.sum(M, axis=0) * x),
    "mean": lambda x, M, A: ol.mean(M * x),
    "matrix times vector": lambda x, M, A: ol.sum(A @ x),
    "vector times matrix": lambda x, M, A: ol.sum(x @ A),
    "product of matrices": lambda x, M, A: ol.sum((M @ A) @ M),
    "vector times vector": lambda x, M, A: x @ (A @ x),
    "zeros in a matrix": lambda x, M, A: ol.sum((A * (1 - EYE)) @ x),
    "numbers with zeros": lambda x, M, A: ol.sum(torch.diag(X) @ x + EYE @ x),
    "a sum of sums": lambda x, M, A: x[0] * (x[1] + A[0, 0]) + (x[2] + 1) / x[0],
    "a product of sums": lambda x, M, A: (x[0] + x[1]) * (x[1] + 1),
    "power of a sum": lambda x, M, A: ol.sum((x + 1) ** 2.5),
    "parametric power": lambda x, M, A: ol.sum(x ** A[0]),
    "matrix of powers": lambda x, M, A: ol.sum((1 + x) ** ol.abs(A)),
    "square": lambda x, M, A: ol.sum(ol.square(x) + ol.sqrt(x) + ol.inv_pos(x)),
    "sum of squares": lambda x, M, A: ol.sum_squares(x + 1),
    "norm": lambda x, M, A: ol.norm(x) + ol.norm(x, 1) + ol.norm(x, "inf"),
    "norm of a matrix": lambda x, M, A: (
        ol.norm(M, 1) + ol.norm(M, "inf") + ol.norm(M, "fro")
    ),
    "pnorm": lambda x, M, A: ol.pnorm(x, 3) + ol.pnorm(x, 0.5),
    "mixed norm": lambda x, M, A: ol.mixed_norm(M, 2, 1),
    "maximum": lambda x, M, A: ol.max(M) + ol.sum(ol.maximum(x, A[0])),
    "quadratic form": lambda x, M, A: ol.quad_form(x, A),
    "quad over lin": lambda x, M, A: ol.quad_over_lin(x, M[0, 0]),
    "trace": lambda x, M, A: ol.trace(A @ M),
    "outer": lambda x, M, A: ol.sum(ol.outer(x, x) * A),
    "kron": lambda x, M, A: ol.sum(ol.kron(A, M)),
    "vdot": lambda x, M, A: ol.vdot(A, M),
    "cumsum": lambda x, M, A: ol.sum(ol.cumsum(M, axis=1) * A),
    "exp": lambda x, M, A: ol.sum(ol.exp(x + 1)),
    "diag of a vector": lambda x, M, A: ol.sum(ol.diag(x) @ A),
    "diag of a matrix": lambda x, M, A: ol.sum(ol.diag(M) * x),
    "arrangement": lambda x, M, A: ol.sum(ol.vstack([x, M]) @ M.T.reshape(3, 3)),
    "stack": lambda x, M, A: ol.sum(ol.stack([x, 2 * x + 1], axis=1)),
    "upper triangle": lambda x, M, A: ol.sum(ol.upper_tri(M)),
    "index": lambda x, M, A: ol.sum(M[1:, [0, 2]]) + x[-1],
    "magnitude": lambda x, M, A: ol.sum(ol.abs(x) + ol.pos(x)),
}  # fmt: skip
CONCAVE = {
    "geometric mean": lambda x, M, A: ol.geo_mean(x),
    "weighted mean": lambda x, M, A: ol.geo_mean(x, p=(1.0, 2.0, 3.0)),
    "harmonic mean": lambda x, M, A: ol.harmonic_mean(x),
    "reciprocal of a sum": lambda x, M, A: x[0] / (A[0] @ x),
    "minimum": lambda x, M, A: ol.min(M) * ol.minimum(x[0], A[0, 0]),
    "logarithm": lambda x, M, A: ol.log(1 + A[0, 0] + 0 * x[0]) * ol.log(4 * x[0]),
    "negative norm": lambda x, M, A: ol.pnorm(x, -2.0),
}


def check(verb, body):
    """The declared value at a point is exp of that in logarithms."""

    def problem(x=Variable(3), M=Variable("3 3"), A=Parameter("3 3")):
        return verb(body(x, M, A))

    declaration = declared(problem)
    in_logs, _, _ = in_log_space(declaration)
    logs = AtSolution(in_logs).at(in_logs.objective, None)
    own = AtSolution(declaration).at(declaration.objective, None)
    (found,) = Evaluator([logs])({"x": X.log(), "M": M.log(), "A": A}, {})
    (expected,) = Evaluator([own])({"x": X, "M": M, "A": A}, {})
    assert_close(found.exp(), expected, rtol=1e-12, atol=0)
    compile_geometric(declaration)


@pytest.mark.parametrize("name", CONVEX)
def test_a_log_log_convex_expression_is_a_convex_one_of_logarithms(name):
    check(minimize, CONVEX[name])


@pytest.mark.parametrize("name", CONCAVE)
def test_a_log_log_concave_expression_is_a_concave_one_of_logarithms(name):
    check(maximize, CONCAVE[name])


def test_a_posynomial_is_one_log_sum_exp_however_it_is_written():
    def problem(x=Variable(3), a=Parameter(3)):
        cost = 0.0
        for k in range(3):
            cost = cost + a[k] * (x[k] + 2 / x[k])
        return minimize(cost + ol.sum(x / a) + 1)

    in_logs, _, _ = in_log_space(declared(problem))
    names, pending = [], [in_logs.objective]
    while pending:
        one = pending.pop()
        names.append(one.name)
        pending.extend(one.arguments)
    assert names.count("log_sum_exp") == 1


REFUSED = {
    "a difference": (
        lambda x, y, a: minimize(x + 1 / y, low=ol.sqrt(x - y) >= a),
        "`x - y` subtracts `y`.*other side",
    ),
    "a negative term": (
        lambda x, y, a: minimize(x - y),
        "`x - y` subtracts `y`",
    ),
    "a posynomial bounded below": (
        lambda x, y, a: minimize(x * y, low=x + y >= a),
        r"`x \+ y` in constraint low is bounded below, but it is log-log convex",
    ),
    "a posynomial that equals": (
        lambda x, y, a: minimize(x * y, same=x + y == a),
        "`x \\+ y` in constraint same is log-log convex.*only monomials",
    ),
    "a posynomial that is maximized": (
        lambda x, y, a: maximize(x + y, x * y <= a),
        "is maximized, but it is log-log convex",
    ),
    "a reciprocal that is minimized": (
        lambda x, y, a: minimize(1 / (x + y), x * y <= a),
        "is minimized, but it is log-log concave",
    ),
    "the logarithm of a posynomial": (
        lambda x, y, a: minimize(x, ol.log(x + y) >= a),
        r"`ol.log\(x \+ y\)` is the logarithm of what is log-log convex",
    ),
    "a bound of zero": (
        lambda x, y, a: minimize(x + y, x * y <= 0),
        "is zero or less",
    ),
    "an atom without a form": (
        lambda x, y, a: minimize(ol.huber(x) + y),
        "applies huber to variables",
    ),
    "a sum of reciprocals of sums": (
        lambda x, y, a: minimize(x + 1 / (x + y)),
        "log-log concave",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_geometric_program_is_named_with_the_remedy(case):
    body, message = REFUSED[case]

    def problem(x=Variable(), y=Variable(), a=Parameter()):
        return body(x, y, a)

    with pytest.raises(NotConvex, match=message) as caught:
        compile_geometric(declared(problem))
    assert str(caught.value).startswith("test_geometric.py:")


@pytest.mark.parametrize("attribute", ["nonpos", "psd"])
def test_unknowns_that_are_no_positive_numbers_are_refused(attribute):
    def problem(X=Variable("3 3", **{attribute: True})):
        return minimize(ol.sum(X))

    with pytest.raises(NotConvex, match="positive numbers"):
        compile_geometric(declared(problem))


def test_what_is_subtracted_changes_sides():
    def problem(x=Variable(3), a=Parameter(3), B=Parameter("3 3")):
        return minimize(
            ol.sum(x),
            low=1 - 1 / x >= a - 0.5,
            mixed=np.array([[1.0, 0, -1], [0, 1, -2]]) @ x <= 0,
        )

    in_logs, _, _ = in_log_space(declared(problem))
    assert [one.name for one in in_logs.constraints] == ["low", "mixed"]
    compile_geometric(declared(problem))


def test_a_sum_of_many_terms_needs_no_deep_stack():
    def problem(x=Variable()):
        cost = 1 / x
        for _ in range(3000):
            cost = cost + x
        return minimize(cost)

    declaration = declared(problem)
    in_logs, _, _ = in_log_space(declaration)
    logs = AtSolution(in_logs).at(in_logs.objective, None)
    (found,) = Evaluator([logs])({"x": X[0].log()}, {})
    assert_close(found.exp(), 1 / X[0] + 3000 * X[0], rtol=1e-12, atol=0)
    compile_geometric(declaration)
