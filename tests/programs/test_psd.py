import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import hessian, jacfwd, jacrev
from torch.testing import assert_close

from optlayers.programs.cones import Cones

CONES = Cones(psd=(3, 1, 2, 3))
ROUNDING = 1e-12


def random_rows(batch, cones=CONES):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, cones.size, generator=generator).double()


def rows_of(V):
    """Upper triangle column by column, off-diagonal entries times sqrt 2, [1, size]."""
    order = len(V)
    entries = [
        V[i, j] * (1.0 if i == j else 2.0**0.5)
        for j in range(order)
        for i in range(j + 1)
    ]
    return torch.stack(entries)[None]


def matrix_of(row, order):
    V, entries = torch.zeros(order, order).double(), iter(row)
    for j in range(order):
        for i in range(j + 1):
            V[i, j] = V[j, i] = next(entries) / (1.0 if i == j else 2.0**0.5)
    return V


def symmetric(order, eigenvalues):
    torch.manual_seed(1)
    Q = torch.linalg.qr(torch.randn(order, order).double())[0]
    return Q @ torch.diag(torch.tensor(eigenvalues).double()) @ Q.T


def of_one(row):
    return Cones(psd=(3,)).project_dual(row[None])[0]


KINKS = {
    "zero": [0.0, 0.0, 0.0],
    "repeated": [2.0, 2.0, -1.0],
    "opposite": [1.0, -1.0, -1.0],
    "one zero": [1.0, 0.0, -2.0],
    "two zeros": [1.0, 0.0, 0.0],
}


def test_negative_eigenvalues_are_set_to_zero():
    V = symmetric(3, [2.0, -1.0, 0.5])
    expected = rows_of(symmetric(3, [2.0, 0.0, 0.5]))
    assert_close(Cones(psd=(3,)).project_dual(rows_of(V)), expected)


def test_projection_and_slack_are_complementary_semidefinite_matrices():
    v = random_rows(4)
    y = CONES.project_dual(v)
    s = y - v
    assert_close((y * s).sum(1), torch.zeros(4).double(), atol=ROUNDING, rtol=0)
    first = 0
    for order in CONES.psd:
        last = first + order * (order + 1) // 2
        for part in (y, s):
            for row in part[:, first:last]:
                lowest = torch.linalg.eigvalsh(matrix_of(row, order))[0]
                assert float(lowest) >= -ROUNDING
        first = last


def test_two_orders_of_derivatives_are_those_of_differences():
    v = random_rows(2).requires_grad_()
    project = CONES.project_dual
    assert gradcheck(project, v, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(project, v, check_batched_grad=True)


def test_the_third_derivative_is_that_of_differences():
    row, step = rows_of(symmetric(3, [2.0, -1.0, 0.5]))[0], 1e-5
    second = hessian(lambda row: of_one(row).pow(3).sum())
    direction = torch.randn(6).double()
    third = jacfwd(second)(row) @ direction
    ahead, behind = second(row + step * direction), second(row - step * direction)
    assert_close(third, (ahead - behind) / (2 * step), atol=1e-7, rtol=1e-6)


def test_the_fourth_derivative_is_not_finite_rather_than_wrong():
    cones = Cones(psd=(2,))

    def once_more(function):
        return lambda row: jacrev(function)(row).sum()

    function = lambda row: cones.project_dual(row[None]).sum()  # noqa: E731
    for _ in range(4):
        function = once_more(function)
    assert not bool(function(random_rows(1, cones)[0]).isfinite())


@pytest.mark.parametrize("eigenvalues", KINKS.values(), ids=KINKS.keys())
def test_derivative_is_that_of_autograd_also_at_kinks(eigenvalues):
    row = rows_of(symmetric(3, eigenvalues))[0]
    found = Cones(psd=(3,)).project_dual_derivative(row[None])[0]
    assert_close(found, found.T)
    assert_close(found, jacrev(of_one)(row))
    assert_close(found, jacfwd(of_one)(row))
    assert bool(hessian(lambda row: of_one(row).sum())(row).isfinite().all())


def test_repeated_eigenvalues_away_from_zero_are_no_kink():
    row = rows_of(symmetric(3, [2.0, 2.0, -1.0]))
    assert gradcheck(Cones(psd=(3,)).project_dual, row.requires_grad_())
    assert gradgradcheck(Cones(psd=(3,)).project_dual, row)


def test_a_matrix_that_is_not_finite_leaves_its_neighbours_alone():
    v = random_rows(3)
    expected = CONES.project_dual(v)
    v[1, 2], v[2, 0] = torch.nan, torch.inf
    found = CONES.project_dual(v)
    assert torch.equal(found[0], expected[0])
    assert bool(found[1:, :6].isnan().all())
    assert torch.equal(found[1:, 6:], expected[1:, 6:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_empty_batch_and_single_precision_are_kept(dtype):
    v = random_rows(0).to(dtype)
    assert CONES.project_dual(v).shape == (0, CONES.size)
    assert CONES.project_dual_derivative(v).shape == (0, CONES.size, CONES.size)
    assert CONES.project_dual(random_rows(2).to(dtype)).dtype == dtype


@pytest.mark.slow
def test_it_can_be_compiled_for_one_size_after_another():
    compiled = torch.compile(Cones.project_dual, fullgraph=True, backend="aot_eager")
    for order in (2, 3, 5):
        cones = Cones(psd=(order,))
        v = torch.linspace(-1, 1, cones.size, dtype=torch.float64).unsqueeze(0)
        assert_close(compiled(cones, v), cones.project_dual(v))


@pytest.mark.slow
def test_compiled_it_gives_the_same_numbers():
    v = random_rows(3).requires_grad_()
    compiled = torch.compile(CONES.project_dual, fullgraph=True, backend="aot_eager")
    assert_close(compiled(v), CONES.project_dual(v))
    gradients = [
        torch.autograd.grad(project(v).square().sum(), v)[0]
        for project in (compiled, CONES.project_dual)
    ]
    assert_close(*gradients)
