"""cvxpy problems as declared ones: the same solutions, multipliers and gradients."""

import pickle
import warnings
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
import scipy.sparse as sp
import torch

from optlayers.compat.from_cvxpy import from_cvxpy
from optlayers.errors import (
    DeclarationError,
    NotSupported,
    OptlayersError,
)
from tests.compat import cvxpy_problems
from tests.compat.cvxpy_problems import Case

ACCURATE = {"tol_gap_abs": 1e-11, "tol_gap_rel": 1e-11, "tol_feas": 1e-11}


def solve(problem: cp.Problem) -> float:
    # cvxpy warns of problems without DPP, and of what misses 1e-11.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return problem.solve(solver=cp.CLARABEL, **ACCURATE)


def tensors(case: Case) -> dict[str, torch.Tensor]:
    return {
        name: torch.tensor(np.asarray(one.value), dtype=torch.float64)
        for name, one in case.parameters.items()
    }


CASES = {case.name: case for case in cvxpy_problems.all_cases()}


@pytest.mark.parametrize("name", CASES)
def test_solution_value_and_multipliers_are_cvxpys(name):
    case = CASES[name]
    problem = from_cvxpy(case.problem, case.parameters, case.variables)
    out = problem(**tensors(case))
    assert out.objective.item() == pytest.approx(solve(case.problem), abs=1e-6)
    for label, variable in case.variables.items():
        assert out[label].shape == variable.shape
        np.testing.assert_allclose(out[label], variable.value, atol=2e-5)
    for number, one in enumerate(case.problem.constraints):
        if case.has_unique_multipliers:
            theirs = dual_of(one)
            ours = out.dual[f"constraint_{number}"]
            assert ours.shape == theirs.shape
            np.testing.assert_allclose(ours, theirs, atol=5e-5)


def dual_of(constraint: Any) -> np.ndarray:
    """The multiplier as one array, arguments of a cone along its last axis."""
    if isinstance(constraint, cp.SOC):
        t, X = constraint.dual_value
        X = np.asarray(X)
        if constraint.args[1].ndim < 2:
            return np.concatenate([np.ravel(t), np.ravel(X)])
        rows = X.T if constraint.axis == 0 else X
        return np.column_stack([t, rows])
    if isinstance(constraint, cp.ExpCone | cp.PowCone3D):
        return np.stack([np.asarray(one) for one in constraint.dual_value], axis=-1)
    # cvxpy's number may have one entry where the constraint has none.
    return np.reshape(constraint.dual_value, constraint.shape)


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_central_differences(name):
    case = CASES[name]
    layer = from_cvxpy(case.problem, case.parameters, case.variables).layer()
    given = {key: one.requires_grad_() for key, one in tensors(case).items()}
    rng = np.random.default_rng(3)
    weights = {
        key: torch.tensor(rng.standard_normal(one.shape))
        for key, one in case.variables.items()
    }
    directions = {key: torch.tensor(case.direction(key, rng)) for key in given}

    def total(step: float) -> torch.Tensor:
        out = layer(**{key: one + step * directions[key] for key, one in given.items()})
        return sum((weights[key] * out[key]).sum() for key in weights)

    gradients = torch.autograd.grad(total(0.0), list(given.values()))
    slope = sum(
        float((gradient * directions[key]).sum())
        for key, gradient in zip(given, gradients, strict=True)
    )
    # Solutions are good to 1e-9, so differences are to 1e-5.
    step = 1e-4
    measured = (total(step) - total(-step)).item() / (2 * step)
    assert slope == pytest.approx(measured, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if not case.is_dpp]
)
def test_what_cvxpylayers_refuses_is_refused_there(name):
    from cvxpylayers.torch import CvxpyLayer

    case = CASES[name]
    with pytest.raises(ValueError, match="DPP"):
        CvxpyLayer(
            case.problem,
            parameters=list(case.parameters.values()),
            variables=list(case.variables.values()),
        )


# ---- names ---------------------------------------------------------------------------


def small(**names: str) -> tuple[cp.Problem, cp.Variable, cp.Parameter]:
    x = cp.Variable(2, name=names.get("x"))
    y = cp.Parameter(2, name=names.get("y"))
    return cp.Problem(cp.Minimize(cp.sum_squares(x - y)), [x >= 0]), x, y


def test_objects_keep_the_names_of_their_authors():
    problem, _, _ = small(x="point", y="target")
    declared = from_cvxpy(problem).declared
    assert declared.variable_names == ("point",)
    assert declared.parameter_names == ("target",)


def test_objects_without_a_name_are_counted():
    problem, _, _ = small()
    declared = from_cvxpy(problem).declared
    assert (declared.variable_names, declared.parameter_names) == (("x0",), ("p0",))


def test_a_name_that_is_no_python_name_is_counted_too():
    problem, _, _ = small(x="my point", y="lambda")
    declared = from_cvxpy(problem).declared
    assert (declared.variable_names, declared.parameter_names) == (("x0",), ("p0",))


def test_counting_passes_over_names_that_are_taken():
    x, y = cp.Variable(name="x0"), cp.Variable()
    problem = cp.Problem(cp.Minimize(cp.square(x) + cp.square(y)))
    assert from_cvxpy(problem).declared.variable_names == ("x0", "x1")


def test_given_names_come_before_own_ones():
    problem, x, y = small(x="point", y="target")
    declared = from_cvxpy(problem, {"q": y}, {"z": x}).declared
    assert (declared.variable_names, declared.parameter_names) == (("z",), ("q",))


def test_lists_give_the_order():
    a, b, x = cp.Parameter(name="a"), cp.Parameter(name="b"), cp.Variable(name="x")
    problem = cp.Problem(cp.Minimize(cp.square(x - a) + b * x), [x <= 9])
    double = from_cvxpy(problem, parameters=[b, a])
    assert double.declared.parameter_names == ("b", "a")
    assert double(2.0, 5.0).x.item() == pytest.approx(4)


def test_labels_name_constraints():
    problem, _, _ = small(x="x", y="y")
    problem.constraints[0].set_label("floor")
    out = from_cvxpy(problem)(y=torch.tensor([-1.0, 1.0]))
    torch.testing.assert_close(out.dual.floor, torch.tensor([2.0, 0.0]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (lambda x, y: {"parameters": []}, r"lacks cvxpy parameter .*\[2\]"),
        (lambda x, y: {"parameters": {"A": cp.Parameter(3)}}, "is not in the problem"),
        (lambda x, y: {"parameters": {"A": x}}, "is no parameter"),
        (lambda x, y: {"variables": [x, x]}, "is listed twice"),
        (lambda x, y: {"variables": {"objective": x}}, "takes a reserved name"),
        (
            lambda x, y: {"variables": {"a": x}, "parameters": {"a": y}},
            "are both named a",
        ),
        (lambda x, y: {"variables": {"a b": x}}, "a name is a Python name"),
        (lambda x, y: {"variables": [3]}, "3 is no cvxpy variable"),
    ],
)
def test_names_that_cannot_be_are_refused(arguments, message):
    problem, x, y = small()
    with pytest.raises(DeclarationError, match=message):
        from_cvxpy(problem, **arguments(x, y))


def test_reserved_names_of_their_authors_are_refused_with_a_remedy():
    problem, x, _ = small(x="status")
    with pytest.raises(DeclarationError, match=r"variables=\{'another_name': ...\}"):
        from_cvxpy(problem)
    assert from_cvxpy(problem, variables={"x": x}).declared.variable_names == ("x",)


# ---- attributes ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "attributes",
    [
        {"nonneg": True},
        {"pos": True},
        {"nonpos": True},
        {"neg": True},
        {"bounds": [-0.5, 0.25]},
        {"bounds": [np.array([-0.5, -np.inf, 0.0]), np.array([np.inf, 0.2, 0.0])]},
        {"bounds": [None, 0.1]},
        {"sparsity": [[0, 2]]},
    ],
)
def test_attributes_of_a_variable_hold(attributes):
    x, y = cp.Variable(3, name="x", **attributes), cp.Parameter(3, name="y")
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - y)))
    y.value = np.array([-1.0, 1.0, 0.3])
    solve(problem)
    out = from_cvxpy(problem)(y=torch.tensor(y.value))
    np.testing.assert_allclose(out.x, value_of(x), atol=1e-6)


def value_of(variable: cp.Variable) -> np.ndarray:
    """The value of a variable that may have a sparsity pattern."""
    attributes = variable.attributes
    if attributes["sparsity"]:
        found = np.zeros(variable.shape)
        found[variable.sparse_idx] = variable.value_sparse.data
        return found
    if attributes["diag"]:
        return variable.value.toarray()
    return variable.value


@pytest.mark.parametrize("attribute", ["symmetric", "PSD", "NSD", "diag"])
def test_attributes_of_a_matrix_hold(attribute):
    X, Y = cp.Variable((3, 3), name="X", **{attribute: True}), cp.Parameter((3, 3))
    problem = cp.Problem(cp.Minimize(cp.sum_squares(X - Y)), [X[0, 0] >= -9])
    Y.value = np.random.default_rng(0).standard_normal((3, 3))
    solve(problem)
    value = torch.tensor(Y.value, requires_grad=True)
    out = from_cvxpy(problem, {"Y": Y})(Y=value)
    np.testing.assert_allclose(out.X.detach(), value_of(X), atol=1e-6)
    (gradient,) = torch.autograd.grad(out.X.sum(), value)
    assert bool(gradient.isfinite().all())


def test_bounds_that_depend_on_parameters_are_constraints():
    top = cp.Parameter(name="top")
    x = cp.Variable(2, name="x", bounds=[0, 2 * top])
    problem = cp.Problem(cp.Maximize(cp.sum(x)))
    given = torch.tensor(1.5, requires_grad=True)
    out = from_cvxpy(problem)(top=given)
    torch.testing.assert_close(out.x.detach(), torch.tensor([3.0, 3.0]))
    (gradient,) = torch.autograd.grad(out.x.sum(), given)
    assert gradient.item() == pytest.approx(4)


@pytest.mark.parametrize(
    ("attributes", "word"),
    [
        ({"integer": True}, "integer"),
        ({"boolean": True}, "boolean"),
        ({"boolean": [(0,)]}, "boolean"),
        ({"complex": True}, "complex"),
    ],
)
def test_variables_without_a_gradient_are_refused(attributes, word):
    x = cp.Variable(2, name="count", **attributes)
    problem = cp.Problem(cp.Minimize(cp.norm(x - 1)))
    with pytest.raises(NotSupported, match=rf"variable count \[2\] is {word}: "):
        from_cvxpy(problem)


def test_attributes_of_parameters_are_checked_at_the_call():
    x, r = cp.Variable(name="x"), cp.Parameter(name="r", nonneg=True)
    problem = from_cvxpy(cp.Problem(cp.Minimize(cp.square(x - r))))
    with pytest.raises(OptlayersError, match=r"r.*nonneg"):
        problem(r=-1.0)


@pytest.mark.parametrize("attribute", ["integer", "boolean", "complex"])
def test_parameters_whose_attribute_nothing_checks_are_refused(attribute):
    x, r = cp.Variable(2, name="x"), cp.Parameter(2, name="r", **{attribute: True})
    problem = cp.Problem(cp.Minimize(cp.norm(x - r)))
    with pytest.raises(NotSupported, match=rf"parameter r \[2\] is {attribute}: "):
        from_cvxpy(problem)


@pytest.mark.parametrize(
    ("attribute", "sign", "word"), [("pos", 1.0, "nonneg"), ("neg", -1.0, "nonpos")]
)
def test_strict_signs_of_parameters_are_checked_up_to_zero(attribute, sign, word):
    x, r = cp.Variable(name="x"), cp.Parameter(name="r", **{attribute: True})
    problem = from_cvxpy(cp.Problem(cp.Minimize(cp.square(x - r))))
    assert problem(r=0.0).x.item() == pytest.approx(0)
    assert problem(r=sign * 2.0).x.item() == pytest.approx(sign * 2)
    with pytest.raises(OptlayersError, match=rf"r is .*{word}=True"):
        problem(r=-sign)


@pytest.mark.parametrize("attributes", [{"diag": True}, {"sparsity": ([0, 1], [0, 1])}])
def test_entries_of_parameters_outside_their_pattern_are_not_read(attributes):
    x, D = cp.Variable(2, name="x"), cp.Parameter((2, 2), name="D", **attributes)
    problem = from_cvxpy(cp.Problem(cp.Minimize(cp.sum_squares(D @ x - np.ones(2)))))
    given = torch.tensor([[2.0, 7.0], [-3.0, 4.0]], requires_grad=True)
    out = problem(D=given)
    torch.testing.assert_close(out.x.detach(), torch.tensor([0.5, 0.25]))
    (gradient,) = torch.autograd.grad(out.x.sum(), given)
    assert (gradient[0, 1], gradient[1, 0]) == (0, 0)


def test_parameters_without_entries_outside_their_pattern_take_none():
    x, D = cp.Variable(2, name="x"), cp.Parameter((2, 2), name="D", diag=True)
    problem = from_cvxpy(cp.Problem(cp.Minimize(cp.sum_squares(D @ x - np.ones(2)))))
    given = torch.tensor([[2.0, 0.0], [0.0, 4.0]], requires_grad=True)
    out = problem(D=given)
    torch.testing.assert_close(out.x.detach(), torch.tensor([0.5, 0.25]))
    (gradient,) = torch.autograd.grad(out.x.sum(), given)
    torch.testing.assert_close(gradient, -torch.diag(given.detach().diag() ** -2))


# ---- the rest ------------------------------------------------------------------------


def test_a_problem_without_parameters_is_called_with_nothing():
    x = cp.Variable(2, name="x")
    out = from_cvxpy(cp.Problem(cp.Minimize(cp.sum_squares(x - 1))))()
    torch.testing.assert_close(out.x.double(), torch.ones(2).double())


def test_constraints_of_constants_that_hold_are_left_out():
    problem, _, _ = small(x="x", y="y")
    whole = cp.Problem(problem.objective, [True, *problem.constraints])
    out = from_cvxpy(whole)(y=torch.zeros(2))
    assert list(out.dual) == ["constraint_1"]
    with pytest.raises(DeclarationError, match=r"constraint 0, .* does not hold"):
        from_cvxpy(cp.Problem(problem.objective, [False]))


def test_a_constraint_of_parameters_alone_is_refused_with_a_remedy():
    problem, _, y = small(x="x", y="y")
    with pytest.raises(DeclarationError, match=r"`0\.0 <= y`: no variable"):
        from_cvxpy(cp.Problem(problem.objective, [y >= 0]))


def test_messages_quote_the_cvxpy_expression():
    x = cp.Variable(2, name="x")
    problem = from_cvxpy(cp.Problem(cp.Maximize(cp.sum_squares(x))))
    assert "cvxpy problem: `quad_over_lin(x, 1" in problem.layer().why


def test_what_is_no_problem_is_refused():
    with pytest.raises(DeclarationError, match=r"takes a cvxpy\.Problem, not"):
        from_cvxpy(cp.Variable())


def test_a_problem_without_variables_is_refused():
    with pytest.raises(DeclarationError, match="nothing to solve for"):
        from_cvxpy(cp.Problem(cp.Minimize(cp.Parameter())))


def test_it_prints_as_mathematics():
    problem, _, _ = small(x="x", y="y")
    assert "‖x − y‖₂²" in str(from_cvxpy(problem, name="project"))
    assert str(from_cvxpy(problem, name="project")).startswith("project: ")


_x, _y = cp.Variable(2, name="x"), cp.Parameter(2, name="y")
at_module_level = from_cvxpy(
    cp.Problem(cp.Minimize(cp.sum_squares(_x - _y))), name="at_module_level"
)


def test_it_pickles_by_the_name_it_is_found_under():
    found = pickle.loads(pickle.dumps(at_module_level))
    assert found is at_module_level
    problem, _, _ = small()
    with pytest.raises(OptlayersError, match="cannot be pickled"):
        pickle.dumps(from_cvxpy(problem))


def test_a_long_loop_of_terms_does_not_recurse():
    x = cp.Variable(name="x")
    cost = cp.square(x - 1)
    for _ in range(100):
        cost = cp.maximum(cost, 0.001 * x)
    problem = cp.Problem(cp.Minimize(cost), [x >= 0])
    assert from_cvxpy(problem).declared.traced[0].objective.depends_on_variables


@pytest.mark.parametrize("p", [3, 5, -1, -2, -3, 1.5, 0.5])
def test_powers_keep_cvxpys_domain(p):
    x, c = cp.Variable(2, name="x"), cp.Parameter(2, name="c")
    curved = cp.sum(cp.power(x, p))
    cost = curved if curved.is_convex() else -curved
    problem = cp.Problem(cp.Minimize(cost + c @ x + 0.1 * cp.sum_squares(x)), [x <= 5])
    c.value = np.array([-1.0, 0.2]) if p > 1 else np.array([0.3, 0.6])
    solve(problem)
    out = from_cvxpy(problem)(c=torch.tensor(c.value))
    assert out.objective.item() == pytest.approx(problem.value, abs=1e-6)
    np.testing.assert_allclose(
        out.x[x.value > 1e-3], x.value[x.value > 1e-3], atol=1e-4
    )


def test_quadratic_forms_of_sums_of_semidefinite_parameters_are_convex():
    x = cp.Variable(2, name="x")
    P, Q = (cp.Parameter((2, 2), name=name, PSD=True) for name in "PQ")
    problem = cp.Problem(cp.Minimize(cp.quad_form(x, P + Q) - cp.sum(x)))
    eye = torch.eye(2, dtype=torch.float64, requires_grad=True)
    out = from_cvxpy(problem)(P=eye, Q=eye)
    torch.testing.assert_close(out.x, torch.full((2,), 0.25, dtype=torch.float64))


def test_power_cones_of_many_are_geometric_means():
    W, z = cp.Variable(3, name="W"), cp.Variable(name="z")
    top = cp.Parameter(3, name="top", value=np.array([1.0, 2.0, 3.0]))
    cone = cp.PowConeND(W, z, np.array([0.25, 0.25, 0.5]))
    problem = cp.Problem(cp.Maximize(z - 0.01 * cp.sum_squares(W)), [cone, W <= top])
    solve(problem)
    out = from_cvxpy(problem)(top=torch.tensor(top.value))
    np.testing.assert_allclose(out.z, z.value, atol=1e-5)


def test_geometric_programs_are_asked_for():
    x, y = cp.Variable(pos=True, name="x"), cp.Variable(pos=True, name="y")
    a = cp.Parameter(pos=True, name="a")
    problem = cp.Problem(cp.Minimize(1 / (x * y)), [x + y <= a])
    with pytest.raises(DeclarationError, match=r"geometric=True"):
        from_cvxpy(problem)
    given = torch.tensor(4.0, dtype=torch.float64, requires_grad=True)
    out = from_cvxpy(problem, geometric=True)(a=given)
    (slope,) = torch.autograd.grad(out.objective, given)
    assert out.x.item() == pytest.approx(2)
    assert slope.item() == pytest.approx(-8 / 4**3)


def test_sparse_constants_are_taken():
    x, b = cp.Variable(3, name="x"), cp.Parameter(3, name="b")
    A = sp.csr_array(np.diag([1.0, 2.0, 4.0]))
    problem = cp.Problem(cp.Minimize(cp.sum_squares(A @ x - b)))
    out = from_cvxpy(problem)(b=torch.ones(3, dtype=torch.float64))
    np.testing.assert_allclose(out.x, [1, 0.5, 0.25], atol=1e-8)


def test_layers_of_it_pass_through_torch_func():
    problem, _, _ = small(x="x", y="y")
    layer = from_cvxpy(problem).layer()
    y = torch.tensor([[-1.0, 2.0], [3.0, -4.0]], dtype=torch.float64)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda y: layer(y=y).x))(y)
    torch.testing.assert_close(jacobian, torch.diag_embed((y > 0).double()))
