import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from optlayers.linalg.krylov import bicgstab, gmres, normal_cg, richardson
from optlayers.linalg.matrix_free import MatrixFreeOperator


def system(batch: int = 5, n: int = 40):
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(batch, n, n, generator=generator, dtype=torch.float64)
    A = torch.eye(n, dtype=torch.float64) + noise / (2 * n**0.5)
    b = torch.randn(batch, n, generator=generator, dtype=torch.float64)
    b[-1] = 0
    return A, b


def products(A):
    return (
        lambda x: (A @ x.unsqueeze(2)).squeeze(2),
        lambda y: (A.mT @ y.unsqueeze(2)).squeeze(2),
    )


def test_each_method_agrees_with_a_factorization():
    A, b = system()
    product, transposed = products(A)
    exact = torch.linalg.solve(A, b)
    for found in (
        gmres(product, b, tolerance=1e-12, max_steps=200),
        bicgstab(product, b, tolerance=1e-12, max_steps=400),
        richardson(product, b, tolerance=1e-12),
        normal_cg(product, transposed, b, tolerance=1e-12, max_steps=400),
    ):
        assert_close(found.value, exact, rtol=0, atol=1e-9)
        assert (found.residual < 1e-10).all()


def test_richardson_gives_up_a_row_that_grows_and_leaves_the_others_bitwise():
    A, b = system()
    alone = richardson(products(A)[0], b, tolerance=1e-12)
    A[1] = 4 * torch.eye(len(A[1]), dtype=A.dtype)
    found = richardson(products(A)[0], b, tolerance=1e-12)
    others = [0, 2, 3, 4]
    assert_close(found.value[others], alone.value[others], rtol=0, atol=0)
    assert (found.value[1] == 0).all()
    assert found.residual[1] == 1


def test_normal_cg_gives_the_shortest_least_squares_solution():
    A = torch.tensor([[[1.0, 1.0], [1.0, 1.0]]], dtype=torch.float64)
    b = torch.tensor([[1.0, 3.0]], dtype=torch.float64)
    found = normal_cg(*products(A), b, tolerance=1e-12, max_steps=20)
    assert_close(found.value, torch.ones(1, 2, dtype=torch.float64))


def test_a_matrix_free_solve_has_the_derivatives_of_a_linear_map():
    A, b = system(2, 6)
    product, transposed = products(A)

    def solver(product, transposed, r):
        return gmres(product, r, tolerance=1e-14, max_steps=100)

    condition = torch.ones(2, dtype=torch.float64)
    operator = MatrixFreeOperator(product, transposed, solver, condition)
    b = b.requires_grad_()
    assert gradcheck(operator.solve, (b,))
    assert gradgradcheck(operator.solve, (b,))
    assert_close(operator.solve(operator.matvec(b)), b)
    again = operator.solve_transposed(transposed(b))
    assert_close(again, b)
