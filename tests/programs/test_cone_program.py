import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from optlayers.errors import ShapeError
from optlayers.interfaces import ImplicitProgram, Kind
from optlayers.linalg.pattern import PatternMatrix
from optlayers.programs.cone_program import ConeProgram
from optlayers.programs.cones import Cones
from tests.programs.known import QP, SOCP, known_program, numbers_of

# Sums of a few terms of size one.
ROUNDING = {"rtol": 1e-12, "atol": 1e-12}


def on_pattern(matrix):
    """The same matrix as values on all its positions."""
    rows, cols = torch.ones(matrix.shape[-2:]).nonzero(as_tuple=True)
    values = matrix[..., rows, cols]
    return PatternMatrix(values, rows, cols, tuple(matrix.shape[-2:]))


def forms(program):
    """The program with dense, pattern and mixed matrices."""
    P, q, A, b = program.tensors()
    return [
        program,
        ConeProgram(on_pattern(P), q, on_pattern(A), b, program.cones),
        ConeProgram(P, q, on_pattern(A), b, program.cones),
    ]


def test_it_is_an_implicit_program_of_the_convex_kind():
    program, _ = known_program(QP)
    assert isinstance(program, ImplicitProgram)
    assert program.kind is Kind.CONVEX
    assert (program.batch_size, program.size, program.rows) == (2, 4, 5)


@pytest.mark.parametrize("is_shared", [False, True])
@pytest.mark.parametrize("cones", [QP, SOCP], ids=["QP", "SOCP"])
def test_residual_vanishes_at_the_solution_in_every_form(cones, is_shared):
    program, point = known_program(cones, is_shared=is_shared)
    for form in forms(program):
        residual = form.residual(point)
        assert_close(residual, torch.zeros_like(point), **ROUNDING)


@pytest.mark.parametrize("is_shared", [False, True])
@pytest.mark.parametrize("cones", [QP, SOCP], ids=["QP", "SOCP"])
def test_jacobian_is_the_derivative_of_the_residual(cones, is_shared):
    program, point = known_program(cones, batch=1, is_shared=is_shared)
    for form in forms(program):
        expected = torch.func.jacrev(form.residual)(point)[0, :, 0]
        assert_close(form.jacobian(point)[0], expected, **ROUNDING)
        operator = form.linearize(point)
        assert_close(operator.solve(operator.matvec(point)), point)


def test_one_matrix_may_be_shared_and_the_other_not():
    program, point = known_program(QP)
    for P, A in ((program.P[0], program.A), (program.P, program.A[0])):
        mixed = ConeProgram(P, program.q, A, program.b, QP)
        P, A = P.expand(2, 4, 4), A.expand(2, 5, 4)
        apart = ConeProgram(P, program.q, A, program.b, QP)
        assert_close(mixed.residual(point), apart.residual(point))
        assert_close(mixed.jacobian(point), apart.jacobian(point))


def test_absent_quadratic_is_a_zero_one():
    _, q, A, b = known_program(QP)[0].tensors()
    point = torch.randn(2, 9).double()
    without = ConeProgram(None, q, A, b, QP)
    with_zeros = ConeProgram(torch.zeros(4, 4).double(), q, A, b, QP)
    for name in ("residual", "jacobian", "lagrangian", "scale"):
        given, expected = getattr(without, name), getattr(with_zeros, name)
        assert_close(given(point), expected(point))


def test_linearization_is_cut_from_every_derivative():
    program, point = known_program(SOCP)
    program = ConeProgram.rebuild(numbers_of(program), program.structure())
    operator = program.linearize(point.requires_grad_())
    assert not operator.inverse.requires_grad
    assert not any(t.requires_grad for t in program.detach().tensors())


def test_lagrangian_at_a_solution_is_the_objective():
    for cones in (QP, SOCP):
        program, point = known_program(cones)
        x, y, s = program.split(point)
        P, q, A, b = program.tensors()
        objective = torch.einsum("bi,bij,bj->b", x, P, x) / 2 + (q * x).sum(1)
        assert_close(program.objective(x), objective, **ROUNDING)
        assert_close(program.lagrangian(point), objective, **ROUNDING)
        assert_close((A @ x[:, :, None])[:, :, 0] + s, b, **ROUNDING)
        assert_close(program.pack(x, y, s), point, **ROUNDING)


def test_lagrangian_is_stationary_in_the_point():
    for cones in (QP, SOCP):
        program, point = known_program(cones)
        point.requires_grad_()
        (slope,) = torch.autograd.grad(program.lagrangian(point).sum(), point)
        assert_close(slope, torch.zeros_like(point), **ROUNDING)


def test_scale_is_one_plus_the_largest_term_of_each_equation():
    P, A = torch.eye(1).double(), torch.tensor([[2.0]]).double()
    q, b = torch.tensor([[-3.0]]).double(), torch.tensor([[50.0]]).double()
    program = ConeProgram(P, q, A, b, Cones(nonneg=1))
    point = torch.tensor([[3.0, -44.0]]).double()
    assert_close(program.scale(point), torch.tensor([[4.0, 51.0]]).double())
    assert_close(program.scale(20 * point), torch.tensor([[61.0, 881.0]]).double())


@pytest.mark.parametrize("is_shared", [False, True])
@pytest.mark.parametrize(
    "index", [torch.tensor([2, 0]), torch.tensor([True, False, True])]
)
def test_selected_samples_are_programs_of_their_own(is_shared, index):
    program, point = known_program(SOCP, batch=3, is_shared=is_shared)
    point = point + torch.randn_like(point)
    for form in forms(program):
        chosen = form.select(index)
        assert chosen.batch_size == 2
        assert_close(chosen.residual(point[index]), form.residual(point)[index])


def test_program_is_rebuilt_from_its_tensors_and_its_structure():
    program, point = known_program(SOCP)
    for form in forms(program):
        twin = ConeProgram.rebuild(form.tensors(), form.structure())
        assert twin.structure() == form.structure()
        assert hash(twin.structure()) == hash(form.structure())
        assert torch.equal(twin.residual(point), form.residual(point))
    _, q, A, b = program.tensors()
    linear = ConeProgram(None, q, A, b, SOCP)
    structures = [form.structure() for form in [*forms(program), linear]]
    assert len(set(structures)) == 4


@given(
    batch=st.integers(0, 2),
    n=st.integers(0, 2),
    rows=st.integers(0, 2),
    is_shared=st.booleans(),
    has_quadratic=st.booleans(),
)
def test_any_axis_may_be_empty(batch, n, rows, is_shared, has_quadratic):
    lead = () if is_shared else (batch,)
    P = torch.eye(n).double().expand(*lead, n, n) if has_quadratic else None
    A = torch.randn(*lead, rows, n).double()
    q, b = torch.randn(batch, n).double(), torch.randn(batch, rows).double()
    program = ConeProgram(P, q, A, b, Cones(nonneg=rows))
    point = torch.randn(batch, n + rows).double()
    assert program.residual(point).shape == (batch, n + rows)
    assert program.linearize(point).solve(point).shape == (batch, n + rows)
    assert program.scale(point).shape == (batch, n + rows)
    assert program.lagrangian(point).shape == (batch,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": torch.zeros(4)}, r"q \[4\] and b \[2, 5\]"),
        ({"q": torch.zeros(3, 4)}, r"q \[3, 4\] and b \[2, 5\]"),
        ({"P": torch.zeros(3, 3)}, r"P is \[3, 3\]; q and b ask for \[4, 4\]"),
        ({"A": torch.zeros(3, 5, 4)}, r"A is \[3, 5, 4\].*\[2, 5, 4\]"),
        ({"cones": Cones(zero=4)}, "has 4 rows, b has 5"),
    ],
)
def test_sizes_that_do_not_fit_are_named(change, message):
    program, _ = known_program(QP)
    parts = dict(zip("PqAb", program.tensors(), strict=True)) | {"cones": QP}
    with pytest.raises(ShapeError, match=message):
        ConeProgram(**(parts | change))
