"""Sparse constants and parameters with a pattern, beside the same problem dense."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch.autograd import gradcheck
from torch.testing import assert_close

import optlayers as ol
from optlayers.errors import InvalidDataError, NotSupported, ShapeError

M, N = 5, 4
MASK = torch.tensor(
    [[1, 0, 1, 0], [0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 0, 1]]
).bool()


def fitted(x, A, b, y):
    return ol.minimize(
        ol.sum_squares(x - y) + ol.sum_squares(A @ x - b) + ol.sum(A @ x),
        inside=2 * (A @ (x + y)) <= 1 + b,
        total=ol.sum(x) == 1,
    )


@ol.problem
def sparse(
    x=ol.Variable("n"),
    A=ol.Parameter("m n", pattern=MASK),
    b=ol.Parameter("m"),
    y=ol.Parameter("n"),
):
    return fitted(x, A, b, y)


@ol.problem
def dense(
    x=ol.Variable("n"),
    A=ol.Parameter("m n"),
    b=ol.Parameter("m"),
    y=ol.Parameter("n"),
):
    return fitted(x, A, b, y)


def numbers(batch=3):
    torch.manual_seed(1)
    entries = torch.randn(batch, int(MASK.sum()), dtype=torch.float64)
    b = 2 + torch.rand(M, dtype=torch.float64)
    y = torch.randn(batch, N, dtype=torch.float64)
    return entries.requires_grad_(), b, y


def matrices(entries):
    return sparse.declared.fields["A"].pattern.scatter(entries.detach())


def gradient_of(problem, A, b, y):
    out = problem(A=A, b=b, y=y)
    weights = torch.linspace(-1, 1, N, dtype=torch.float64)
    loss = (out.x * weights).sum() + out.dual.inside.sum() + out.objective.sum()
    (found,) = torch.autograd.grad(loss, A)
    return out, found


def test_values_and_gradients_are_those_of_the_dense_problem_on_the_pattern():
    entries, b, y = numbers()
    own, gradient = gradient_of(sparse, entries, b, y)
    other, full = gradient_of(dense, matrices(entries).requires_grad_(), b, y)
    assert_close(own.x, other.x, atol=1e-9, rtol=0)
    assert_close(own.dual.inside, other.dual.inside, atol=1e-8, rtol=0)
    assert_close(gradient, full[:, MASK], atol=1e-8, rtol=1e-8)


def test_a_dense_matrix_gets_its_gradient_on_the_pattern_only():
    entries, b, y = numbers()
    _, expected = gradient_of(sparse, entries, b, y)
    _, full = gradient_of(sparse, matrices(entries).requires_grad_(), b, y)
    assert_close(full[:, MASK], expected)
    assert not full[:, ~MASK].any()


def test_sparse_tensors_get_sparse_gradients():
    entries, b, y = numbers()
    _, expected = gradient_of(sparse, entries, b, y)
    A = matrices(entries).to_sparse().requires_grad_()
    _, found = gradient_of(sparse, A, b, y)
    assert found.layout == torch.sparse_coo
    assert_close(found.to_dense()[:, MASK], expected)


def test_a_scipy_matrix_may_be_given():
    entries, b, y = numbers()
    out = sparse(A=sp.csr_array(matrices(entries)[0].numpy()), b=b, y=y)
    assert_close(out.x[0], sparse(A=entries, b=b, y=y).x[0])


def test_gradients_pass_central_differences():
    entries, b, y = numbers()
    assert gradcheck(lambda A: sparse(A=A, b=b, y=y).x, entries)


def test_transforms_see_the_entries():
    entries, b, y = numbers()
    expected = sparse(A=entries, b=b, y=y).x
    mapped = torch.func.vmap(lambda A, y: sparse(A=A, b=b, y=y).x)(entries.detach(), y)
    assert_close(mapped, expected)
    one = torch.func.jacrev(lambda A: sparse(A=A, b=b, y=y[0]).x)(entries.detach()[0])
    (row,) = torch.autograd.grad(expected[0, 0], entries)
    assert_close(one[0], row[0])


def test_compiled_code_gives_the_same():
    entries, b, y = numbers()
    layer = sparse.layer()
    compiled = torch.compile(
        lambda A: layer(A=A, b=b, y=y).x, fullgraph=True, backend="aot_eager"
    )
    assert_close(compiled(entries), sparse(A=entries, b=b, y=y).x)


def test_entries_can_be_learned():
    entries, b, y = numbers()
    layer = sparse.layer(A=torch.nn.Parameter(entries.detach()[0]))
    layer(b=b, y=y).x[:, 0].sum().backward()
    assert layer.A.grad.shape == entries.shape[1:]
    assert layer.A.grad.any()


def test_sizes_come_from_the_pattern():
    assert sparse.layer().sizes == {"m": M, "n": N}


def test_an_entry_off_the_pattern_fails_its_own_sample():
    entries, b, y = numbers()
    A = matrices(entries)
    A[1, 0, 1] = 0.5
    with pytest.raises(InvalidDataError, match="outside its pattern is 0"):
        sparse(A=A, b=b, y=y)
    out = sparse(A=A, b=b, y=y, on_failure="nan")
    assert out.ok.tolist() == [True, False, True]
    assert_close(out.x[0], sparse(A=entries, b=b, y=y).x[0])


def test_another_shape_says_what_to_give():
    _, b, y = numbers()
    with pytest.raises(ShapeError, match="or the matrix"):
        sparse(A=torch.zeros(3, 3), b=b, y=y)
    with pytest.raises(ShapeError, match="learn the entries"):
        sparse.layer(A=torch.nn.Parameter(torch.zeros(M, N)))


def test_nan_in_an_entry_is_found_before_the_solve():
    entries, b, y = numbers()
    broken = entries.detach().clone()
    broken[2, 0] = torch.nan
    assert sparse(A=broken, b=b, y=y, on_failure="nan").ok.tolist() == [1, 1, 0]


BAND = sp.diags_array([1.0, 1.0, 1.0], offsets=[-1, 0, 1], shape=(N, N))


@ol.problem
def curved(
    x=ol.Variable("n"),
    P=ol.Parameter("n n", psd=True, pattern=BAND),
    q=ol.Parameter("n"),
):
    return ol.minimize(ol.quad_form(x, P) / 2 + q @ x, x >= -1)


def test_a_semidefinite_pattern_is_checked_and_differentiated():
    P = torch.from_numpy(BAND.toarray()) * 0.4 + 2 * torch.eye(N, dtype=torch.float64)
    places = BAND.toarray() != 0
    entries = P[places].requires_grad_()
    q = torch.linspace(-1, 1, N, dtype=torch.float64)
    out = curved(P=entries, q=q)
    assert_close(out.x, -torch.linalg.solve(P, q))
    (found,) = torch.autograd.grad(out.x[0], entries)
    closed = torch.linalg.inv(P)
    assert_close(
        found,
        -torch.outer(closed[0], out.x.detach())[places] / 2
        - torch.outer(out.x.detach(), closed[0])[places] / 2,
    )
    with pytest.raises(InvalidDataError, match="eigenvalue"):
        curved(P=entries.detach() - 3.0 * torch.eye(N).double()[places], q=q)
    with pytest.raises(NotSupported, match="learn a factor"):
        curved.layer(P=torch.nn.Parameter(entries.detach()))


@pytest.mark.parametrize(
    "make", [sp.csr_array, lambda S: torch.from_numpy(S).to_sparse()]
)
def test_sparse_constants_give_what_dense_ones_give(make):
    D = torch.randn(M, N, generator=torch.Generator().manual_seed(0)).double()
    S = make((D * MASK).numpy())
    y = torch.randn(3, N, dtype=torch.float64)

    def declared(A):
        @ol.problem
        def problem(x=ol.Variable("4"), y=ol.Parameter("4")):
            return ol.minimize(
                ol.sum_squares(A @ x - 1) + ol.norm1(x - y), inside=A @ x <= 1
            )

        return problem

    own, other = declared(S)(y=y), declared(D * MASK)(y=y)
    assert_close(own.x, other.x, atol=1e-8, rtol=0)


def test_large_sparse_data_form_no_dense_matrix():
    n = 400
    S = sp.csr_array(sp.random_array((n, n), density=0.01, rng=0) + sp.eye_array(n))

    @ol.problem
    def problem(
        x=ol.Variable("n"), A=ol.Parameter("n n", pattern=S), b=ol.Parameter("n")
    ):
        return ol.minimize(ol.sum_squares(A @ x - b), S @ x <= 1)

    template = problem.template({"n": n}, None)
    assert template.A.rows is not None
    assert len(template.A.rows) == S.nnz
    assert max(leaf.size for leaf in template.leaves) < n * n // 4
    b = torch.rand(n, dtype=torch.float64)
    out = problem(A=torch.from_numpy(S.data), b=b)
    residual = np.maximum(S @ out.x.numpy() - 1, 0).max()
    assert residual < 1e-8
