"""Every assumption on cvxpy that is not part of its documented face.

An upgrade of cvxpy must fail here first, with its version in the message.
"""

import warnings

import cvxpy as cp
import numpy as np
import pytest
from cvxpy.atoms.affine.index import special_index
from cvxpy.atoms.affine.wraps import nonneg_wrap
from cvxpy.lin_ops import lin_utils
from cvxpy.lin_ops.lin_op import CONSTANT_ID as CVXPY_CONSTANT_ID
from cvxpy.reductions.cvx_attr2constr import CvxAttr2Constr
from cvxpy.reductions.dcp2cone.dcp2cone import Dcp2Cone
from cvxpy.reductions.solvers.solving_chain import resolve_and_build_chain
from cvxpy.settings import PARAM_PREFIX, VAR_PREFIX
from cvxpy.utilities import debug_tools

from optlayers.compile.assembly import CONSTANT_ID
from optlayers.compile.cvxpy_private import (
    BACKEND,
    SignedParameter,
    SignedVariable,
    cone_form,
    is_convex_operation,
    is_dpp,
    problem_of,
)
from optlayers.modeling.signs import Sign

VERSION = f"cvxpy {cp.__version__} (written for 1.9)"


def chain_of(problem):
    return resolve_and_build_chain(
        problem,
        cp.CLARABEL,
        enforce_dpp=True,
        canon_backend=BACKEND,
        solver_opts={"use_quad_obj": True},
    )


def formatted(problem):
    """The parametric cone program that `cone_form` reads."""
    chain, reduced = chain_of(problem), problem
    for reduction in chain.reductions[:-1]:
        reduced, _ = reduction.apply(reduced)
    solver = chain.reductions[-1]
    return solver.format_constraints(reduced, solver.EXP_CONE_ORDER)


def dense(entries, shape, parameters):
    """The matrix that entries describe at a parameter vector."""
    found = np.zeros(shape)
    np.add.at(
        found,
        (entries.rows, entries.cols),
        entries.values * parameters[entries.parameters],
    )
    return found


@pytest.fixture
def mixed():
    """A problem with every kind of row, an auxiliary variable and parameters."""
    x = SignedVariable((2, 3), "x", Sign.UNKNOWN)
    A = SignedParameter((2, 2), "A", Sign.UNKNOWN, False)
    w = SignedParameter((), "w", Sign.NONNEG, False)
    constraints = [A @ x == 1, x[0] <= w, cp.norm(x[:, 0]) <= 2 * w]
    objective = w * cp.sum_squares(x) + cp.norm1(x) + w
    return cp.Problem(cp.Minimize(objective), constraints), x, A, w


def test_the_version_is_one_that_was_verified():
    assert cp.__version__.startswith("1.9."), VERSION


def test_a_chain_ends_with_the_solver_and_has_one_dcp2cone(mixed):
    problem, *_ = mixed
    reductions = chain_of(problem).reductions
    kinds = [type(one).__name__ for one in reductions]
    assert kinds[-1] == "CLARABEL", VERSION
    assert kinds[-2] == "ConeMatrixStuffing", VERSION
    assert kinds.count("Dcp2Cone") == 1, VERSION


def test_data_come_without_values_of_parameters(mixed):
    problem, _, A, w = mixed
    assert A.value is None
    assert w.value is None
    form = cone_form(problem)
    assert form.rows == form.zero + form.nonneg + sum(form.soc), VERSION


def test_data_are_those_cvxpy_gives_its_solver(mixed):
    problem, _, A, w = mixed
    form = cone_form(problem)
    A.value, w.value = np.array([[1.0, -2.0], [0.5, 3.0]]), 0.7
    theta = np.ones(form.parameter_size)
    theta[form.first_parameter[A.id] + np.arange(4)] = A.value.ravel(order="F")
    theta[form.first_parameter[w.id]] = w.value
    data, _, inverse = problem.get_problem_data(
        cp.CLARABEL, solver_opts={"use_quad_obj": True}
    )
    n, m = form.size, form.rows
    for found, given in (
        (dense(form.P, (n, n), theta), data["P"].toarray()),
        (dense(form.q, (n, 1), theta)[:, 0], data["c"]),
        (dense(form.A, (m, n), theta), data["A"].toarray()),
        (dense(form.b, (m, 1), theta)[:, 0], data["b"]),
        (dense(form.d, (1, 1), theta).item(), inverse[-1]["offset"]),
    ):
        np.testing.assert_allclose(found, given, atol=1e-12, err_msg=VERSION)


def test_cvxpy_cached_data_are_not_changed_by_reading_them(mixed):
    problem, _, A, w = mixed
    A.value, w.value = np.eye(2), 1.0
    before = problem.get_problem_data(cp.CLARABEL)[0]["A"].toarray()
    cone_form(problem)
    after = problem.get_problem_data(cp.CLARABEL)[0]["A"].toarray()
    np.testing.assert_array_equal(before, after, err_msg=VERSION)


def test_the_quadratic_part_is_symmetric_with_both_triangles():
    x = cp.Variable(2)
    root = np.array([[1.0, 2.0], [0.0, 1.0]])
    form = cone_form(cp.Problem(cp.Minimize(cp.quad_form(x, root.T @ root)), [x >= 0]))
    theta = np.ones(form.parameter_size)
    P = dense(form.P, (form.size, form.size), theta)
    start = form.first_column[x.id]
    own = P[start : start + 2, start : start + 2]
    np.testing.assert_allclose(own, 2 * root.T @ root, err_msg=VERSION)


def test_the_constant_has_the_last_column_and_a_reserved_number(mixed):
    assert CONSTANT_ID == CVXPY_CONSTANT_ID, VERSION
    form = cone_form(mixed[0])
    assert form.first_parameter[CONSTANT_ID] == form.parameter_size - 1, VERSION


def test_rows_come_zero_nonneg_soc(mixed):
    kinds = [type(one).__name__ for one in formatted(mixed[0]).constraints]
    order = {"Zero": 0, "NonNeg": 1, "SOC": 2}
    ranks = [order[kind] for kind in kinds]
    assert ranks == sorted(ranks), VERSION


def test_rows_of_a_constraint_are_in_f_order_with_the_sign_of_left_minus_right():
    x = cp.Variable((2, 3))
    bound = np.arange(6.0).reshape(2, 3)
    constraint = x <= bound
    form = cone_form(cp.Problem(cp.Minimize(cp.sum(x)), [x >= -9, constraint]))
    start = form.first_row[constraint.id]
    theta = np.ones(form.parameter_size)
    A = dense(form.A, (form.rows, form.size), theta)[start : start + 6]
    b = dense(form.b, (form.rows, 1), theta)[start : start + 6, 0]
    first = form.first_column[x.id]
    np.testing.assert_array_equal(A[:, first : first + 6], np.eye(6), err_msg=VERSION)
    np.testing.assert_array_equal(b, bound.ravel(order="F"), err_msg=VERSION)


def test_auxiliary_variables_may_come_first(mixed):
    problem, x, *_ = mixed
    form = cone_form(problem)
    own = form.first_column[x.id] + np.arange(6)
    assert (form.column_owners[own] == -2).all(), VERSION
    others = np.delete(form.column_owners, own)
    assert set(others) == {-1, 2}, VERSION


def test_rows_know_the_constraint_they_were_made_for(mixed):
    form = cone_form(mixed[0])
    owners = form.row_owners
    assert (owners[:6] == 0).all(), VERSION
    assert (owners == 1).sum() == 3, VERSION
    # The norm: its epigraph row and a cone of three; the 1-norm: two rows an entry.
    assert (owners == 2).sum() == 4, VERSION
    assert (owners == -1).sum() == 12, VERSION


def test_auxiliary_rows_of_objective_and_first_constraint_are_told_apart():
    x = cp.Variable(2)
    problem = cp.Problem(cp.Minimize(cp.norm1(x - 1)), [cp.norm_inf(x) <= 1])
    owners = cone_form(problem).row_owners
    assert (owners == -1).sum() == 4, VERSION
    assert (owners == 0).sum() == 5, VERSION


def test_a_signed_variable_tells_its_sign_without_becoming_a_constraint():
    x = SignedVariable((3,), "x", Sign.NONNEG)
    problem = cp.Problem(cp.Minimize(cp.sum(cp.square(cp.square(x)))), [])
    assert problem.is_dcp(), VERSION
    reduced, inverse = CvxAttr2Constr(reduce_bounds=True).apply(problem)
    assert reduced is problem, VERSION
    assert inverse == (), VERSION
    assert not SignedVariable((3,), "x", Sign.UNKNOWN).is_nonneg()


def test_a_signed_parameter_is_kept_as_it_is():
    x = cp.Variable((2, 2), symmetric=False)
    S = SignedParameter((2, 2), "S", Sign.NONNEG, True)
    assert S.is_symmetric(), VERSION
    assert S.is_hermitian(), VERSION
    assert S.is_nonneg(), VERSION
    problem = cp.Problem(cp.Minimize(cp.sum(x)), [S @ x >= S])
    assert set(cone_form(problem).first_parameter) == {S.id, CONSTANT_ID}, VERSION


def test_the_sign_of_a_parameter_makes_a_product_convex():
    x = cp.Variable(2)
    signed = SignedParameter((), "w", Sign.NONNEG, False)
    problem = cp.Problem(cp.Minimize(signed * cp.norm(x)), [])
    assert problem.is_dcp(), VERSION
    assert is_dpp(problem), VERSION
    unsigned = SignedParameter((), "w", Sign.UNKNOWN, False)
    assert not cp.Problem(cp.Minimize(unsigned * cp.norm(x)), []).is_dcp(), VERSION


def test_what_the_rules_on_parameters_refuse_is_still_refused():
    x, w, y = cp.Variable(2), cp.Parameter(nonneg=True), cp.Parameter(2)
    refused = cp.Problem(cp.Minimize(w * cp.sum_squares(x - y)), [])
    assert refused.is_dcp(), VERSION
    assert not is_dpp(refused), VERSION


def test_numbers_of_objects_come_from_one_unprotected_counter():
    before = lin_utils.ID_COUNTER.count
    assert cp.Variable().id == before, VERSION
    assert lin_utils.ID_COUNTER.count == before + 1, VERSION


def test_the_backend_takes_three_axes_without_a_warning():
    x = cp.Variable((2, 3, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        form = cone_form(cp.Problem(cp.Minimize(cp.sum(x)), [x[0] >= 1, x[1] >= 2]))
    assert form.rows == 12, VERSION


def test_a_problem_without_objective_or_without_constraints_has_data():
    x = cp.Variable(2)
    feasibility = cone_form(cp.Problem(cp.Minimize(cp.Constant(0.0)), [x == 1]))
    assert (feasibility.size, feasibility.rows) == (2, 2), VERSION
    free = cone_form(cp.Problem(cp.Minimize(cp.sum_squares(x)), []))
    assert (free.size, free.rows) == (2, 0), VERSION


def test_the_curvature_of_an_operation_is_told():
    x = cp.Variable(2)
    assert is_convex_operation(cp.norm(x)), VERSION
    assert not is_convex_operation(cp.sqrt(x)), VERSION


def test_dcp2cone_maps_the_numbers_of_constraints(mixed):
    problem, *_ = mixed
    reduction = Dcp2Cone(quad_obj=True, solver_context=chain_of(problem).solver_context)
    reduction.apply(problem)
    assert set(reduction.cons_id_map) == {one.id for one in problem.constraints}, (
        VERSION
    )


# ---- cones ---------------------------------------------------------------------------


def rows_of(constraint, x):
    """The rows of a constraint as coefficients of the entries of x, and constants."""
    form = cone_form(cp.Problem(cp.Minimize(cp.sum(x)), [constraint]))
    theta, start = np.ones(form.parameter_size), form.first_row[constraint.id]
    A = dense(form.A, (form.rows, form.size), theta)
    first = form.first_column[x.id]
    return form, -A[start:, first : first + x.size]


def test_a_matrix_becomes_its_scaled_upper_triangle_column_by_column():
    X = cp.Variable((3, 3))
    form, rows = rows_of(X >> 0, X)
    assert form.psd == (3,), VERSION
    weights = np.arange(9.0).reshape(3, 3)
    symmetric, root = (weights + weights.T) / 2, 2**0.5
    pairs = [(0, 0), (0, 1), (1, 1), (0, 2), (1, 2), (2, 2)]
    expected = [symmetric[p] * (1 if p[0] == p[1] else root) for p in pairs]
    found = rows @ weights.ravel(order="F")
    np.testing.assert_allclose(found, expected, err_msg=VERSION)


def test_matrices_along_the_first_axis_follow_each_other():
    X = cp.Variable((2, 2, 2))
    form, rows = rows_of(cp.PSD(X), X)
    assert form.psd == (2, 2), VERSION
    values = np.array([[[1.0, 2.0], [2.0, 3.0]], [[4.0, 5.0], [5.0, 6.0]]])
    root = 2**0.5
    found = rows @ values.ravel(order="F")
    expected = [1, 2 * root, 3, 4, 5 * root, 6]
    np.testing.assert_allclose(found, expected, err_msg=VERSION)


@pytest.mark.parametrize(
    ("cones", "kind"),
    [
        (lambda x: cp.SOC(x[:, 0], x[:, 1:], axis=1), "soc"),
        (lambda x: cp.ExpCone(x[:, 0], x[:, 1], x[:, 2]), "exp"),
        (lambda x: cp.PowCone3D(x[:, 0], x[:, 1], x[:, 2], [0.3, 0.6]), "power"),
    ],
    ids=["soc", "exp", "power"],
)
def test_cones_side_by_side_are_laid_out_one_after_another(cones, kind):
    x = cp.Variable((2, 3))
    form, rows = rows_of(cones(x), x)
    counts = {"soc": (3, 3), "exp": 2, "power": (0.3, 0.6)}
    assert getattr(form, kind) == counts[kind], VERSION
    found = rows @ np.arange(6.0).reshape(2, 3).ravel(order="F")
    np.testing.assert_array_equal(found, np.arange(6.0), err_msg=VERSION)


def test_rows_come_in_the_order_of_the_cones():
    x, X = cp.Variable(3), cp.Variable((2, 2))
    constraints = [
        cp.PowCone3D(x[0], x[1], x[2], 0.3),
        cp.ExpCone(x[0], x[1], x[2]),
        X >> 0,
        cp.SOC(x[0], x[1:]),
        x >= 0,
        x[0] == 1,
    ]
    problem = cp.Problem(cp.Minimize(cp.sum(x) + cp.trace(X)), constraints)
    kinds = [type(one).__name__ for one in formatted(problem).constraints]
    order = ["Zero", "NonNeg", "SOC", "SvecPSD", "ExpCone", "PowCone3D"]
    assert kinds == order, VERSION


def test_long_power_cones_are_split_into_those_of_three_rows():
    x = cp.Variable(4, nonneg=False)
    mean = cp.geo_mean(x, approx=False)
    problem = cp.Problem(cp.Maximize(mean), [cp.sum(x) <= 1])
    form = cone_form(cp.Problem(cp.Minimize(-mean), problem.constraints))
    np.testing.assert_allclose(form.power, [0.5, 0.5, 0.5], err_msg=VERSION)
    assert form.rows == form.nonneg + 9, VERSION


def test_powers_are_cones_or_their_rational_approximation_as_asked():
    x = cp.Variable(2)
    for approx, cones in ((True, {"soc"}), (False, {"power"})):
        objective = cp.sum(cp.power(x, 3, approx=approx))
        form = cone_form(cp.Problem(cp.Minimize(objective), [x >= 1]))
        found = {name for name in ("soc", "power") if getattr(form, name)}
        assert found == cones, VERSION


# ---- what `ol.from_cvxpy` reads of expression trees ----------------------------------


def test_names_that_nobody_gave_are_prefix_and_number():
    x, p = cp.Variable(), cp.Parameter()
    assert (x.name(), p.name()) == (f"{VAR_PREFIX}{x.id}", f"{PARAM_PREFIX}{p.id}")


def test_an_index_keeps_the_key_as_it_was_written():
    x = cp.Variable((3, 2))
    assert x[1:, 0]._orig_key == (slice(1, None, None), 0)
    assert isinstance(x[[0, 2]], special_index) and x[[0, 2]].key == [0, 2]


def test_atoms_keep_their_options_as_attributes():
    x = cp.Variable(3)
    assert cp.power(x, 3).p.value == 3 and cp.power(x, 3).max_denom == 1024
    assert cp.pnorm(x, 3).original_p == 3
    assert cp.huber(x, 2).M.value == 2
    assert cp.sum_largest(x, 2).k == 2
    assert list(cp.geo_mean(x, p=[1, 2, 1]).p) == [1, 2, 1]
    assert cp.reshape(x, (3, 1), order="F").order == "F"


def test_a_range_is_a_wrapped_difference_of_max_and_min():
    x = cp.Variable(3)
    wrapped = cp.ptp(x)
    assert isinstance(wrapped, nonneg_wrap)
    largest, negative = wrapped.args[0].args
    assert largest.args[0] is negative.args[0].args[0] is x


def test_a_sparsity_pattern_is_kept_as_indices():
    rows, columns = cp.Variable((2, 2), sparsity=[(0, 1), (1, 0)]).sparse_idx
    assert (list(rows), list(columns)) == ([0, 1], [1, 0])


def test_a_matrix_above_zero_is_less_a_negative_zero():
    X = cp.Variable((2, 2))
    first, second = (X >> 0).args[0].args
    assert first is X and second.is_zero()


def test_advice_to_vectorize_cvxpy_code_is_not_passed_on(monkeypatch):
    monkeypatch.setattr(debug_tools, "MAX_NODES", 4)
    x = cp.Variable(3)
    goal, cap = cp.Minimize(cp.norm(2 * x - 1)), cp.sum(cp.abs(x - 1)) <= 1
    with pytest.warns(UserWarning, match="too many subexpressions") as told:
        cp.Problem(goal, [cap])
    assert len(told) == 2, VERSION
    assert cone_form(problem_of(goal, [cap])).size > 3  # warnings are errors here
