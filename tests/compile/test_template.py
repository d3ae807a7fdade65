"""What a template holds: sizes, data, names, batches, checks."""

import threading

import cvxpy as cp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from optlayers.compile.convex import compile_convex
from optlayers.errors import NotConvex
from optlayers.linalg.pattern import PatternMatrix
from tests.compile.declarations import CASES, mpc
from tests.compile.test_convex import drawn
from tests.compile.words import (
    Parameter,
    Variable,
    compiled,
    declared,
    matrix,
    maximize,
    minimize,
    ol,
    solved,
)

DOUBLE = {"dtype": torch.float64}


def project(x=Variable("n"), y=Parameter("n"), A=Parameter("k n"), b=Parameter("k")):
    return minimize(ol.sum_squares(x - y), inside=A @ x <= b)


# ---- sizes ---------------------------------------------------------------------------


def test_a_projection_has_no_auxiliary_variables():
    template = compiled(project, n=10, k=5)
    assert (template.n, template.m) == (10, 5)
    assert [leaf.field for leaf in template.leaves] == ["A", "b", "y", None]


def test_a_staged_mpc_has_only_its_own_variables():
    template = compiled(mpc, steps=20, n=4, m=1)
    assert template.n == 104
    assert (template.cones.zero, template.cones.nonneg) == (84, 40)
    assert all(leaf.field is not None for leaf in template.leaves)


def test_an_unused_variable_keeps_its_columns():
    def idle(x=Variable("n"), z=Variable("n"), y=Parameter("n")):
        return minimize(ol.sum_squares(x - y))

    template = compiled(idle, n=3)
    assert (template.n, template.m) == (6, 0)
    assert sorted(set(template.column_names)) == ["x", "z"]


def test_a_feasibility_problem_has_no_quadratic_part():
    def feasible(x=Variable("n"), p=Parameter("n")):
        return minimize(0.0, at=x == p)

    template = compiled(feasible, n=2)
    assert template.P is None
    assert solved(template, {"p": torch.tensor([1.0, 2.0])}).objective == 0


def test_a_problem_in_a_long_loop_has_few_leaves():
    def looped(x=Variable("n"), y=Parameter("n")):
        cost = 0
        for k in range(700):
            cost = cost + (k % 3 + 1.0) * (x[k % 3] - y[k % 3]) ** 2
        return minimize(cost)

    template = compiled(looped, n=3)
    assert len(template.leaves) <= 2
    y = torch.tensor([1.0, -2.0, 3.0], **DOUBLE)
    np.testing.assert_allclose(solved(template, {"y": y}).values["x"], y, atol=1e-7)


# ---- data ----------------------------------------------------------------------------


def test_data_are_those_of_cvxpy_at_the_same_parameters():
    """With A and b read row by row, P, q and the constant by value."""
    template = compiled(mpc, steps=3, n=2, m=1)
    p = drawn(CASES["mpc"], template)
    program, offset = template.bind(template.evaluate_leaves(p, {}), 1)
    X, U = cp.Variable((4, 2)), cp.Variable((3, 1))
    number = {name: value.numpy() for name, value in p.items()}
    cost = cp.square(X)[:3] @ number["q"] + cp.square(U) @ number["r"]
    problem = cp.Problem(
        cp.Minimize(cp.sum(cost) + 10 * cp.sum(cp.square(X)[3])),
        [
            X[0] == number["x0"],
            X[1:] == X[:-1] @ number["A"].T + U @ number["B"].T,
            U >= -1,
            U <= 1,
        ],
    )
    data, _, _ = problem.get_problem_data(cp.CLARABEL)
    columns = data["param_prob"].var_id_to_col
    order = np.concatenate(
        [
            columns[X.id] + np.arange(8).reshape(4, 2, order="F").ravel(),
            columns[U.id] + np.arange(3),
        ]
    )
    ours = np.concatenate(
        [template.variables[name].index.numpy() for name in ("x", "u")]
    )
    A, b = matrix(program.A)[:, ours], program.b[0].numpy()
    theirs = np.column_stack([data["A"].toarray()[:, order], data["b"]])
    assert_close(sorted_rows(np.column_stack([A, b])), sorted_rows(theirs))
    x = np.random.default_rng(0).normal(size=template.n)
    X.value, U.value = x[:8].reshape(4, 2), x[8:].reshape(3, 1)
    point = torch.zeros(1, template.n, **DOUBLE)
    point[0, ours] = torch.from_numpy(x)
    assert program.objective(point).item() + offset.item() == pytest.approx(
        problem.objective.value
    )


def sorted_rows(rows):
    """Rows in an order of their own, for two lists of the same constraints."""
    rounded = np.round(rows, 9) + 0.0
    return torch.from_numpy(rounded[np.lexsort(rounded.T)])


@pytest.mark.parametrize("name", CASES)
def test_the_quadratic_part_is_symmetric(name):
    case = CASES[name]
    template = compiled(case.declaration, case.steps, **case.sizes)
    if template.P is None:
        return
    p = drawn(case, template)
    P = matrix(template.bind(template.evaluate_leaves(p, {}), 1)[0].P)
    np.testing.assert_allclose(P, P.T, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_another_draw_of_parameters_is_solved_by_the_same_template(name):
    """The template is affine in the leaves: nothing of the first draw stuck to it."""
    case = CASES[name]
    template = compiled(case.declaration, case.steps, **case.sizes)
    fresh = compiled(case.declaration, case.steps, **case.sizes)
    solved(template, drawn(case, template, seed=1))
    p = drawn(case, template, seed=0)
    again, first = solved(template, p), solved(fresh, p)
    assert again.objective == pytest.approx(first.objective)


def test_squares_are_formed_in_double_precision():
    def fit(x=Variable("n"), A=Parameter("k n"), b=Parameter("k")):
        return minimize(ol.sum_squares(A @ x - b))

    template = compiled(fit, n=2, k=3)
    p = {"A": torch.rand(3, 2), "b": torch.rand(3)}
    leaves = template.evaluate_leaves(p, {})
    assert all(leaf.dtype == torch.float64 for leaf in leaves)
    P = matrix(template.bind(leaves, 1)[0].P)
    A = p["A"].double().numpy()
    np.testing.assert_allclose(P, 2 * A.T @ A, rtol=1e-14)


# ---- batches -------------------------------------------------------------------------


@given(batch=st.integers(0, 3), shared=st.sets(st.sampled_from(["y", "A", "b"])))
def test_a_batch_is_its_samples_side_by_side(batch, shared):
    template = compiled(project, n=3, k=2)
    shapes = template.parameter_shapes
    p = {
        name: torch.rand(*(() if name in shared else (batch,)), *shapes[name], **DOUBLE)
        for name in shapes
    }
    leaves = template.evaluate_leaves(p, {})
    program, offset = template.bind(leaves, batch)
    assert program.q.shape == (batch, 3)
    assert offset.shape == (batch,)
    A = program.A.values if isinstance(program.A, PatternMatrix) else program.A
    assert (A.ndim == 2) == ("A" in shared)
    for k in range(batch):
        own = {name: v if name in shared else v[k] for name, v in p.items()}
        alone, constant = template.bind(template.evaluate_leaves(own, {}), 1)
        assert_close(program.q[k], alone.q[0])
        assert_close(program.b[k], alone.b[0])
        assert_close(offset[k], constant[0])


def test_leaves_of_shared_parameters_are_computed_once():
    def two(x=Variable("n"), s=Parameter("n"), t=Parameter("n")):
        return minimize(ol.sum_squares(x), ol.exp(s) * x <= 1, ol.exp(t) * x <= 1)

    template = compiled(two, n=3)
    p = {"s": torch.rand(3, **DOUBLE), "t": torch.rand(4, 3, **DOUBLE)}
    shapes = sorted(tuple(leaf.shape) for leaf in template.evaluate_leaves(p, {}))
    assert shapes == [(3,), (4, 3)]


def test_derivatives_pass_through_leaves_and_maps():
    """Against the closed form of the gradient of q'q + sum(P) in the parameters."""
    template = compiled(project, n=3, k=2)
    p = {
        name: torch.rand(4, *shape, **DOUBLE, requires_grad=True)
        for name, shape in template.parameter_shapes.items()
    }
    program, offset = template.bind(template.evaluate_leaves(p, {}), 4)
    (program.q.square().sum() + offset.sum() + program.b.sum()).backward()
    assert_close(p["y"].grad, 8 * p["y"].detach() + 2 * p["y"].detach())
    assert_close(p["b"].grad, torch.ones(4, 2, **DOUBLE))


def test_learned_tensors_and_modules_enter_through_leaves():
    price = torch.nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
    network = torch.nn.Linear(2, 3)

    def learned(x=Variable("n"), u=Parameter("2")):
        return minimize(ol.sum_squares(x - network(u)) + price @ x)

    declaration = declared(learned, n=3)
    template = compile_convex(declaration)
    u = torch.rand(4, 2)
    leaves = template.evaluate_leaves({"u": u}, declaration.captured)
    program, _ = template.bind(leaves, 4)
    assert program.q.dtype == torch.float64
    assert_close(program.q.float(), price - 2 * network(u))
    program.q.sum().backward()
    assert_close(price.grad, torch.full((3,), 4.0))
    assert network.weight.grad is not None


@pytest.mark.parametrize("name", ["markowitz", "quadratic_constraint"])
def test_leaves_and_maps_compile_without_a_break(name):
    case = CASES[name]
    template = compiled(case.declaration, case.steps, **case.sizes)
    p = {
        key: value.expand(3, *value.shape).contiguous()
        for key, value in drawn(case, template).items()
    }

    def total(parameters):
        program, offset = template.bind(template.evaluate_leaves(parameters, {}), 3)
        return offset.sum() + sum(tensor.square().sum() for tensor in program.tensors())

    torch._dynamo.reset()
    whole = torch.compile(total, fullgraph=True, backend="eager")
    assert_close(whole(p), total(p))


# ---- stages --------------------------------------------------------------------------


def looped_mpc(
    x=Variable("6 2"),
    u=Variable("5 1", lower=-1, upper=1),
    x0=Parameter("2"),
    A=Parameter("2 2"),
    B=Parameter("2 1"),
    q=Parameter("2", nonneg=True),
    r=Parameter("1", nonneg=True),
):
    cost = 10 * ol.sum_squares(x[5])
    steps = []
    for t in range(5):
        cost = cost + q @ x[t] ** 2 + r @ u[t] ** 2
        steps.append(x[t + 1] == A @ x[t] + B @ u[t])
    return minimize(cost, *steps, start=x[0] == x0)


def test_stages_and_a_plain_loop_are_the_same_problem():
    staged = compiled(mpc, steps=5, n=2, m=1)
    looped = compiled(looped_mpc)
    assert (looped.n, looped.m) == (staged.n, staged.m)
    p = drawn(CASES["mpc"], staged)
    one, other = solved(staged, p), solved(looped, p)
    assert one.objective == pytest.approx(other.objective)
    for name in ("x", "u"):
        np.testing.assert_allclose(one.values[name], other.values[name], atol=1e-6)
    steps = np.array([other.duals[f"constraint_{t}"] for t in range(5)])
    np.testing.assert_allclose(one.duals["dynamics"], steps, rtol=1e-5, atol=1e-5)
    for name in ("start", "u.lower", "u.upper"):
        np.testing.assert_allclose(
            one.duals[name], other.duals[name], rtol=1e-5, atol=1e-5
        )


# ---- names ---------------------------------------------------------------------------


def test_rows_and_columns_carry_the_names_of_the_declaration():
    def named(x=Variable("n"), y=Parameter("n")):
        return minimize(
            ol.norm1(x - y), ball=ol.norm1(x) <= 1, plane=ol.sum(x) == 0, cap=x <= 2
        )

    template = compiled(named, n=3)
    assert set(template.row_names) == {"objective", "ball", "plane", "cap"}
    assert template.row_names.count("plane") == 1
    names = set(template.column_names)
    assert names == {"x", "auxiliary of objective", "auxiliary of ball"}
    own = [k for k, name in enumerate(template.column_names) if name == "x"]
    assert own == sorted(template.variables["x"].index.tolist())


def test_lifted_rows_belong_to_the_constraint_they_were_lifted_from():
    def lifted(x=Variable("n"), w=Parameter(nonneg=True), y=Parameter("n")):
        return minimize(ol.sum(x), ball=w * ol.norm(x - y) <= 1)

    template = compiled(lifted, n=3)
    assert set(template.row_names) == {"ball"}
    assert set(template.column_names) == {"x", "auxiliary of ball"}


def test_the_reason_counts_what_there_is():
    why = compiled(project, n=10, k=5).why
    assert why.endswith("a quadratic program of 10 variables and 5 inequalities")


def test_multipliers_have_the_shape_of_their_constraint():
    template = compiled(mpc, steps=5, n=2, m=1)
    shapes = {name: readout.shape for name, readout in template.duals.items()}
    assert shapes == {
        "start": (2,),
        "dynamics": (5, 2),
        "u.lower": (5, 1),
        "u.upper": (5, 1),
    }


def test_stages_know_their_columns():
    template = compiled(mpc, steps=5, n=2, m=1)
    stages = template.stages
    assert stages.steps == 5
    assert_close(
        stages.states["x"].flatten(), template.variables["x"].index, rtol=0, atol=0
    )
    assert stages.controls["u"].shape == (5, 1)
    assert compiled(project, n=2, k=1).stages is None


# ---- promises ------------------------------------------------------------------------


def test_every_promise_is_listed_to_be_checked():
    def promised(
        x=Variable("n"),
        a=Parameter("n", nonneg=True),
        b=Parameter("n", lower=-1, upper=2),
        Q=Parameter("n n", psd=True),
        S=Parameter("n n", symmetric=True),
        c=Parameter(),
        G=Parameter("n n"),
    ):
        weight = ol.nonneg(c * c - 1)
        return minimize(
            ol.quad_form(x, Q) + weight * ol.norm1(x) + a @ x + b @ x,
            S @ x <= 1,
            ol.quad_form(x, ol.psd_matrix(G)) <= 1,
        )

    template = compiled(promised, n=2)
    listed = [(check.name, check.attribute) for check in template.checks]
    assert listed[:7] == [
        ("a", "nonneg"),
        ("b", "lower"),
        ("b", "upper"),
        ("Q", "psd"),
        ("S", "symmetric"),
        ("c", "finite"),
        ("G", "finite"),
    ]
    assert sorted(listed[7:]) == [("G", "psd"), ("c * c - 1", "nonneg")]
    p = {name: torch.rand(3, *s) for name, s in template.parameter_shapes.items()}
    values = template.checked(p, template.evaluate_leaves(p, {}))
    assert values[0] is p["a"]
    asserted = dict(zip(listed, values, strict=True))
    assert_close(asserted["c * c - 1", "nonneg"], p["c"].double() ** 2 - 1)
    assert_close(asserted["G", "psd"].reshape(3, 2, 2), p["G"].double())


def test_a_shared_scalar_is_checked_as_a_scalar():
    def weighted(x=Variable("n"), c=Parameter()):
        return minimize(ol.nonneg(c - 1) * ol.norm1(x))

    template = compiled(weighted, n=2)
    p = {"c": torch.tensor(3.0)}
    values = template.checked(p, template.evaluate_leaves(p, {}))
    assert [value.shape for value in values] == [(), ()]


def test_the_users_word_on_a_matrix_of_quad_form_is_checked_too():
    def trusted(x=Variable("n"), Q=Parameter("n n"), y=Parameter("n")):
        return minimize(ol.quad_form(x - y, Q, assume_PSD=True))

    template = compiled(trusted, n=2)
    assert ("Q", "psd") in [(check.name, check.attribute) for check in template.checks]


# ---- cones ---------------------------------------------------------------------------


def test_a_semidefinite_variable_has_the_columns_and_rows_of_its_triangle():
    def sdp(X=Variable("n n", psd=True), C=Parameter("n n")):
        return minimize(ol.trace(C @ X), ol.trace(X) == 1)

    template = compiled(sdp, n=3)
    assert (template.n, template.cones.psd) == (6, (3,))
    assert template.row_names == ("constraint_0", *["X.psd"] * 6)
    assert template.variables["X"].shape == template.duals["X.psd"].shape == (3, 3)


@pytest.mark.parametrize(
    ("needs", "cones"),
    [
        (lambda x: ol.sum(ol.exp(x)), {"exp": 2}),
        (lambda x: ol.log_sum_exp(x), {"exp": 2}),
        (lambda x: ol.lambda_max(ol.diag(x)), {"psd": (2,)}),
        (lambda x: ol.sum(ol.power(x, p=4, approx=False)), {"power": (0.25,) * 2}),
    ],
)
def test_rows_of_every_cone_are_named_after_their_constraint(needs, cones):
    def conic(x=Variable("n"), y=Parameter("n")):
        return minimize(ol.sum_squares(x - y), limit=needs(x) <= 1)

    template = compiled(conic, n=2)
    found = {name: getattr(template.cones, name) for name in cones}
    assert found == cones
    assert set(template.row_names) == {"limit"}


# ---- refusals ------------------------------------------------------------------------


def test_maximizing_a_convex_function_is_not_convex():
    def convex(x=Variable("n")):
        return maximize(ol.sum_squares(x))

    with pytest.raises(NotConvex):
        compiled(convex, n=2)


# ---- threads -------------------------------------------------------------------------


def test_many_threads_compile_at_once():
    found = {}

    def compile_one(number):
        template = compiled(project, n=3 + number, k=2)
        p = {
            name: torch.ones(shape, **DOUBLE)
            for name, shape in template.parameter_shapes.items()
        }
        found[number] = solved(template, p).values["x"]

    threads = [threading.Thread(target=compile_one, args=(k,)) for k in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    for number in range(8):
        size = 3 + number
        np.testing.assert_allclose(found[number], np.full(size, 1 / size), atol=1e-6)
