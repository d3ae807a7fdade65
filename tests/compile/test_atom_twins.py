"""Every cvxpy twin against the torch function of its atom, of one stage and staged."""

import cvxpy as cp
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from optlayers.compile.atoms import TWINS, TwinRefused
from optlayers.compile.cvxpy_private import CVXPY_LOCK, cone_form
from optlayers.compile.staged_atoms import NoStagedTwin, staged_twin
from optlayers.modeling.atoms import ATOMS
from tests.modeling.atom_cases import CASES, Case

STAGES = 3

# Applied stage by stage: spectra, and what cvxpy takes of one matrix or vector only.
LOOPED = {
    "diag", "dotsort", "harmonic_mean", "kron", "lambda_max", "lambda_min",
    "lambda_sum_largest", "lambda_sum_smallest", "log_det", "matrix_frac",
    "mixed_norm", "normNuc", "sigma_max", "tr_inv", "upper_tri", "von_neumann_entr",
    "convolve", "cvar", "einsum", "inv_prod", "partial_trace", "partial_transpose",
    "perspective", "scalene", "vec_to_upper_tri",
}  # fmt: skip

# Neither convex nor concave: their twins take numbers only.
GEOMETRIC = {
    "prod", "cumprod", "one_minus_pos", "diff_pos", "eye_minus_inv", "resolvent",
    "pf_eigenvalue", "gmatmul",
}  # fmt: skip
CURVED = [case for case in CASES if case.name not in GEOMETRIC]


WANT_A_CONSTANT = {
    "dotsort", "kron", "quad_form", "convolve", "einsum", "scalene"
}  # fmt: skip


NEEDS_A_SIGN = {"power", "xexp"}


def torch_value(case, point):
    tensors = [torch.as_tensor(array, dtype=torch.float64) for array in point]
    return ATOMS[case.name].torch_function(*tensors, **case.options).numpy()


def value_of(expression):
    return np.asarray(expression.value).reshape(expression.shape)


def test_every_atom_has_a_twin():
    assert set(TWINS) == set(ATOMS)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_twin_has_the_value_of_the_torch_function(case, generator):
    point = case.point(generator)
    twin = TWINS[case.name](*map(cp.Constant, point), **case.options)
    assert twin.shape == ATOMS[case.name].shape(case.shapes, case.options)
    value = twin.value
    dense = value.toarray() if hasattr(value, "toarray") else np.asarray(value)
    assert_allclose(
        dense.reshape(twin.shape), torch_value(case, point), rtol=1e-9, atol=1e-11
    )


def solved_sum(case, point):
    """Optimal value that the solver reports, each variable held at its point.

    Not `problem.value`: cvxpy computes that one from the variables' values, without
    the cones. Arguments that cvxpy wants constant stay constants.
    """
    all_free, first_free = [True] * len(point), [True, *[False] * (len(point) - 1)]
    for free in (all_free, first_free):
        leaves = [
            cp.Variable(array.shape, nonneg="positive" in argument)
            if is_free
            else cp.Constant(array)
            for array, argument, is_free in zip(
                point, case.arguments, free, strict=True
            )
        ]
        held = [a == b for a, b in zip(leaves, point, strict=True)]
        if case.name in WANT_A_CONSTANT and len(point) > 1 and all(free):
            continue
        twin = cp.sum(TWINS[case.name](*leaves, **case.options))
        if twin.is_dcp():
            goal = cp.Minimize(twin) if twin.is_convex() else cp.Maximize(twin)
            problem = cp.Problem(goal, held)
            problem.solve(solver="CLARABEL", canon_backend="COO")
            return problem.solution.opt_val
    raise AssertionError("neither convex nor concave")


@pytest.mark.filterwarnings("ignore:.*being approximated:UserWarning")
@pytest.mark.parametrize("case", CURVED, ids=str)
def test_a_solver_sees_the_same_function(case, generator):
    point = case.point(generator)
    expected = torch_value(case, point).sum()
    # Clarabel's default tolerance is 1e-8 relative.
    assert_allclose(solved_sum(case, point), expected, rtol=2e-6, atol=2e-6)


def flags_of(case):
    """Which arguments to stage: the first alone, the last alone, all."""
    count = len(case.arguments)
    first = (True, *(False,) * (count - 1))
    return dict.fromkeys((first, first[::-1], (True,) * count))


STAGED = [
    pytest.param(case, flags, id=f"{case} {['-s'[flag] for flag in flags]}")
    for case in CASES
    for flags in flags_of(case)
    if case.name not in LOOPED | GEOMETRIC
]


@pytest.mark.parametrize(("case", "flags"), STAGED)
def test_staged_twin_is_the_twin_at_every_stage(case, flags, generator):
    points = [case.point(generator) for _ in range(STAGES)]
    for point in points:
        for position, flag in enumerate(flags):
            if not flag:
                point[position] = points[0][position]
    columns = [
        np.stack(column) if flag else column[0]
        for column, flag in zip(zip(*points, strict=True), flags, strict=True)
    ]
    arguments = [cp.Constant(column) for column in columns]
    try:
        staged = staged_twin(case.name, arguments, flags, case.options)
    except NoStagedTwin:
        assert looped_on_purpose(case, flags)
        return
    expected = np.stack([torch_value(case, point) for point in points])
    assert staged.shape == expected.shape
    assert_allclose(value_of(staged), expected, rtol=1e-9, atol=1e-11)
    assert has_the_curvature_of_one_stage(case, flags, columns)


def looped_on_purpose(case, flags):
    several = sum(flags) > 1
    if case.name == "norm":
        return case.options.get("p") in (None, "nuc") and len(case.shapes[0]) == 2
    if case.name == "tv":
        return len(case.shapes[0]) == 2
    if case.name == "matmul" and max(map(len, case.shapes)) > 2:
        return True
    if case.name in ("matmul", "vdot"):
        return several
    return case.name in ("quad_over_lin", "quad_form") and flags[-1]


def has_the_curvature_of_one_stage(case, flags, columns):
    """The first staged argument variable, all else constant."""
    free = flags.index(True)
    staged = [cp.Constant(column) for column in columns]
    single = [
        cp.Constant(column[0] if flag else column)
        for column, flag in zip(columns, flags, strict=True)
    ]
    staged[free] = cp.Variable(staged[free].shape, nonneg=case.name in NEEDS_A_SIGN)
    single[free] = cp.Variable(single[free].shape, nonneg=case.name in NEEDS_A_SIGN)
    together = staged_twin(case.name, staged, flags, case.options)
    alone = TWINS[case.name](*single, **case.options)
    return together.curvature == alone.curvature


@pytest.mark.parametrize("name", sorted(LOOPED))
def test_atoms_without_a_staged_form_say_so(name):
    with pytest.raises(NoStagedTwin):
        staged_twin(name, [cp.Variable((STAGES, 2, 2))], (True,), {})


@pytest.mark.parametrize("name", sorted(GEOMETRIC))
def test_atoms_of_geometric_programs_take_no_variables(name):
    arguments = [cp.Variable((2, 2), pos=True)]
    if name in ("diff_pos", "gmatmul"):
        arguments.append(cp.Variable((2, 2), pos=True))
    if name == "resolvent":
        arguments.append(cp.Variable(pos=True))
    with pytest.raises(TwinRefused, match=r"geometric=True"):
        TWINS[name](*arguments)


def test_staged_squares_stay_quadratic_and_affine_in_their_weights():
    x = cp.Variable((STAGES, 4))
    weights = cp.Parameter(4, nonneg=True)
    squares = staged_twin("power", [x], (True,), {"p": 2})
    cost = staged_twin("matmul", [weights, squares], (False, True), {})
    problem = cp.Problem(cp.Minimize(cp.sum(cost)), [x >= 1])
    assert cost.shape == (STAGES,)
    assert problem.is_dpp()
    assert cp.sum(cost).is_quadratic()
    canonical = problem.get_problem_data("CLARABEL", canon_backend="COO")[0]
    # No auxiliary variable: the squares are the objective's own.
    assert canonical["param_prob"].x.size == x.size


def test_staged_products_by_a_parameter_are_affine_in_it():
    x, A = cp.Variable((STAGES, 4)), cp.Parameter((2, 4))
    product = staged_twin("matmul", [A, x], (False, True), {})
    assert cp.Problem(cp.Minimize(0), [product == 0]).is_dpp()


def test_staged_quadratic_forms_of_a_constant_are_sums_of_squares(generator):
    case = Case("quad_form", ("any 3", "psd 3"))
    x, P = case.point(generator)
    staged = staged_twin(
        "quad_form",
        [cp.Constant(np.stack([x, 2 * x])), cp.Constant(P)],
        (True, False),
        {},
    )
    assert_allclose(staged.value, [x @ P @ x, 4 * x @ P @ x], rtol=1e-12)
    with pytest.raises(NoStagedTwin):
        staged_twin(
            "quad_form", [cp.Variable((2, 3)), cp.Constant(-P)], (True, False), {}
        )


def test_a_long_geometric_mean_is_reduced_to_cones_without_a_warning():
    x = cp.Variable(12)
    mean = TWINS["geo_mean"](x)
    with CVXPY_LOCK:
        form = cone_form(cp.Problem(cp.Minimize(-mean), [cp.sum(x) <= 1]))
    assert form.soc
    assert not form.power


@pytest.mark.parametrize("p", [3, -1, -3])
def test_odd_powers_of_unknown_sign_are_refused(p):
    with pytest.raises(TwinRefused, match="unless the sign of x is known"):
        TWINS["power"](cp.Variable(2), p=p)


def test_a_cube_of_a_nonpositive_variable_is_concave():
    assert TWINS["power"](cp.Variable(2, nonpos=True), p=3).is_concave()
    assert TWINS["power"](cp.Variable(2, nonneg=True), p=3).is_convex()
