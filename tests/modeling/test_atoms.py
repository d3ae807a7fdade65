"""Every row of the table of atoms against cvxpy's value and torch's gradient."""

import cvxpy as cp
import numpy as np
import pytest
import scipy.sparse
import torch
from numpy.testing import assert_allclose
from torch.testing import assert_close

from optlayers.modeling.atoms import ATOMS, ShapeMismatch
from optlayers.modeling.signs import Sign
from tests.modeling.atom_cases import CASES

every_case = pytest.mark.parametrize("case", CASES, ids=str)


def tensors_of(point):
    return [torch.tensor(array, dtype=torch.float64) for array in point]


def array_of(expression):
    value = expression.value
    dense = value.toarray() if scipy.sparse.issparse(value) else np.asarray(value)
    # cvxpy's upper_tri has values [n] where its shape is [n, 1].
    return dense.reshape(expression.shape)


def test_every_atom_has_a_case():
    assert {case.name for case in CASES} == set(ATOMS)
    assert len(ATOMS) >= 93


@every_case
def test_value_and_shape_are_cvxpys(case, generator):
    atom = ATOMS[case.name]
    for _ in range(3):
        point = case.point(generator)
        expected = case.cvxpy([cp.Constant(array) for array in point])
        value = atom.torch_function(*tensors_of(point), **case.options)
        assert atom.shape(case.shapes, case.options) == expected.shape
        assert tuple(value.shape) == expected.shape
        # Two roundings of one formula; spectra lose a digit or two more.
        assert_allclose(value, array_of(expected), rtol=1e-9, atol=1e-11)


@every_case
def test_gradient_is_that_of_central_differences(case, generator):
    atom = ATOMS[case.name]
    leaves = [one.requires_grad_() for one in tensors_of(case.point(generator))]
    assert torch.autograd.gradcheck(
        lambda *tensors: atom.torch_function(*tensors, **case.options), leaves
    )


@every_case
def test_vmap_gives_the_rows_one_by_one(case, generator):
    atom = ATOMS[case.name]
    points = [tensors_of(case.point(generator)) for _ in range(3)]
    batch = [torch.stack(column) for column in zip(*points, strict=True)]

    def evaluate(*tensors):
        return atom.torch_function(*tensors, **case.options)

    batched = torch.func.vmap(evaluate)(*batch)
    assert_close(batched, torch.stack([evaluate(*point) for point in points]))


@every_case
def test_finite_values_have_the_sign_of_the_rule(case, generator):
    atom = ATOMS[case.name]
    for draw in range(8):
        point, signs = [], []
        for position, tensor in enumerate(tensors_of(case.point(generator))):
            choice = (draw >> position) % 3
            if "psd" in case.arguments[position] or choice == 0:
                point.append(tensor)
                signs.append(Sign.UNKNOWN)
            else:
                point.append(tensor.abs() if choice == 1 else -tensor.abs())
                signs.append(Sign.NONNEG if choice == 1 else Sign.NONPOS)
        value = atom.torch_function(*point, **case.options)
        value = value[value.isfinite()]
        sign = atom.sign(signs, case.options)
        assert not sign.is_nonneg or bool((value >= -1e-12).all())
        assert not sign.is_nonpos or bool((value <= 1e-12).all())


SIGNS = {
    Sign.NONNEG: {"nonneg": True},
    Sign.NONPOS: {"nonpos": True},
    Sign.UNKNOWN: {},
}

# cvxpy says more where it has restricted the domain, or (log_det) where it is wrong.
CVXPY_SAYS_MORE = {
    "power", "log_det", "quad_form", "log1p", "loggamma", "cumprod", "diff_pos",
}  # fmt: skip
# cvxpy composes these and loses what the rule knows.
CVXPY_SAYS_LESS = {"diag", "power", "diff_pos", "scalene"}
# cvxpy wants numbers where the rule asks for none.
OF_NUMBERS_ONLY = {"gmatmul", "convolve", "resolvent", "perspective"}


# cvxpy knows the sign of a matrix by attributes, not by its spectrum.
SIGNED = [
    case
    for case in CASES
    if not any("psd" in one for one in case.arguments)
    and case.name not in OF_NUMBERS_ONLY
]


@pytest.mark.parametrize("case", SIGNED, ids=str)
@pytest.mark.parametrize("sign", SIGNS, ids=lambda sign: sign.value)
def test_sign_is_cvxpys(case, sign):
    arguments = [cp.Variable(shape, **SIGNS[sign]) for shape in case.shapes]
    if case.name in ("dotsort", "kron"):
        arguments[1] = cp.Parameter(case.shapes[1], **SIGNS[sign])
    theirs = case.cvxpy(arguments)
    ours = ATOMS[case.name].sign([sign] * len(arguments), case.options)
    if case.name not in CVXPY_SAYS_MORE:
        assert ours.is_nonneg >= theirs.is_nonneg()
        assert ours.is_nonpos >= theirs.is_nonpos()
    if case.name not in CVXPY_SAYS_LESS:
        assert ours.is_nonneg <= theirs.is_nonneg()
        assert ours.is_nonpos <= theirs.is_nonpos()


RIMS = [
    ("entr", (0.0,), {}),
    ("sqrt", (0.0,), {}),
    ("rel_entr", (0.0, 1.0), {}),
    ("kl_div", (0.0, 1.0), {}),
    ("power", (0.0,), {"p": 0.5}),
    ("power", (0.0,), {"p": 2}),
    ("geo_mean", ([0.0, 1.0],), {}),
    ("harmonic_mean", ([0.0, 1.0],), {}),
    ("norm", ([0.0, 0.0],), {}),
    ("norm", ([0.0, 0.0],), {"p": 1}),
    ("norm", ([0.0, 0.0],), {"p": "inf"}),
    ("pnorm", ([0.0, 0.0],), {"p": 3}),
    ("pnorm", ([0.0, 1.0],), {"p": 0.5}),
    ("std", ([1.0, 1.0],), {}),
    ("mixed_norm", ([[0.0, 0.0], [1.0, 0.0]],), {}),
    ("tv", ([[1.0, 1.0], [1.0, 1.0]],), {}),
    ("normNuc", ([[0.0, 0.0], [0.0, 1.0]],), {}),
    ("sigma_max", ([[0.0, 0.0], [0.0, 0.0]],), {}),
    ("lambda_max", ([[1.0, 0.0], [0.0, 1.0]],), {}),
    ("logistic", (800.0,), {}),
    ("log_sum_exp", ([800.0, 0.0],), {}),
    ("huber", (0.0,), {}),
    ("max", ([1.0, 1.0],), {}),
]


@pytest.mark.parametrize(("name", "point", "options"), RIMS)
def test_where_the_value_is_finite_the_gradient_is_no_nan(name, point, options):
    leaves = [torch.tensor(one, dtype=torch.float64) for one in point]
    theirs = getattr(cp, name)(
        *(cp.Constant(np.array(one)) for one in point), **options
    )
    value = ATOMS[name].torch_function(
        *(leaf.requires_grad_() for leaf in leaves), **options
    )
    assert np.isfinite(theirs.value)
    assert_close(value.item(), float(theirs.value))
    gradients = torch.autograd.grad(value, leaves)
    assert not any(bool(gradient.isnan().any()) for gradient in gradients)


OUTSIDE = [
    ("inv_pos", (-1.0,), torch.inf),
    ("entr", (-1.0,), -torch.inf),
    ("rel_entr", (-1.0, 1.0), torch.inf),
    ("kl_div", (1.0, -1.0), torch.inf),
    ("geo_mean", ([-1.0, 2.0],), -torch.inf),
    ("harmonic_mean", ([-1.0, 2.0],), -torch.inf),
    ("quad_over_lin", ([1.0, 2.0], -1.0), torch.inf),
    ("matrix_frac", ([1.0, 2.0], [[1.0, 0.0], [0.0, -1.0]]), torch.inf),
    ("tr_inv", ([[1.0, 0.0], [0.0, -1.0]],), torch.inf),
    ("log_det", ([[1.0, 0.0], [0.0, -1.0]],), -torch.inf),
]


@pytest.mark.parametrize(("name", "point", "expected"), OUTSIDE)
def test_outside_its_domain_a_convex_atom_is_infinite(name, point, expected):
    tensors = [torch.tensor(one, dtype=torch.float64) for one in point]
    assert ATOMS[name].torch_function(*tensors).item() == expected


REFUSED = [
    ("add", [(3,), (2,)], {}, "do not broadcast"),
    ("matmul", [(2, 3), (4,)], {}, r"cannot multiply \[2, 3\] by \[4\]"),
    ("matmul", [(), (4,)], {}, "use \\*"),
    ("sum", [(3,)], {"axis": 1}, "axis 1 is out of range for 1 dimensions"),
    ("sum", [(3, 2)], {"axis": (0, -2)}, "twice"),
    ("max", [(0,)], {}, "no entries"),
    ("norm", [(2, 3)], {"p": 3}, "no norm of a matrix"),
    ("norm", [(2, 3)], {"p": "fro", "axis": 0}, "takes no axis"),
    ("sum_largest", [(3,)], {"k": 0}, "must be positive"),
    ("quad_form", [(3,), (2, 2)], {}, r"not \[3\] and \[2, 2\]"),
    ("quad_over_lin", [(3,), (2,)], {}, "must be a scalar"),
    ("log_det", [(2, 3)], {}, "square"),
    ("kron", [(2,), (2, 2)], {}, "two matrices"),
    ("vdot", [(2,), (3,)], {}, "as many entries"),
    ("dotsort", [(2,), (3,)], {}, "more weights"),
    ("reshape", [(2, 3)], {"shape": (4, -1)}, "cannot put 6 entries"),
    ("reshape", [(2, 3)], {"shape": (3, 2), "order": "A"}, "order must be"),
    ("transpose", [(2, 3)], {"axes": (0, 0)}, "must name each axis"),
    ("concatenate", [(2, 3), (2, 4)], {}, "cannot join"),
    ("stack", [(2,), (3,)], {}, "cannot stack"),
    ("hstack", [(2, 3), (3, 2)], {}, "cannot join"),
    ("diag", [(2, 3)], {}, "square"),
    ("diff", [(3,)], {"k": 3}, "differences"),
    ("tv", [(1,)], {}, "no neighbours"),
    ("cumsum", [()], {}, "not a scalar"),
    ("lambda_sum_largest", [(3, 3)], {"k": 4}, "from 1 to 3"),
    ("sum_largest", [(3,)], {"k": 7}, "more than the 3 entries"),
    ("sum_smallest", [(4, 3)], {"k": 3.5, "axis": 1}, "more than the 3 entries"),
    ("geo_mean", [(2,)], {"p": [1, -1]}, "weights must be nonnegative"),
]


@pytest.mark.parametrize(("name", "shapes", "options", "words"), REFUSED)
def test_shapes_that_do_not_fit_are_refused_with_numbers(name, shapes, options, words):
    with pytest.raises(ShapeMismatch, match=words):
        ATOMS[name].shape(shapes, options)


def test_a_cube_of_unknown_sign_has_unknown_sign():
    assert ATOMS["power"].sign([Sign.UNKNOWN], {"p": 3}) is Sign.UNKNOWN
    assert ATOMS["power"].sign([Sign.NONPOS], {"p": 3}) is Sign.NONPOS
    assert ATOMS["power"].sign([Sign.NONPOS], {"p": 2}) is Sign.NONNEG
