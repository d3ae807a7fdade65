import gc

import pytest
import torch
from torch.testing import assert_close

import optlayers as ol
from optlayers.errors import InvalidDataError, ParameterError, ShapeError
from optlayers.functional import cone_program, quadratic_program
from optlayers.functional.sparse import REMEMBERED
from optlayers.solvers.plan import _plans

N, K, P = 6, 5, 2


@pytest.fixture
def data():
    torch.manual_seed(0)
    G = torch.randn(K, N).double() * (torch.rand(K, N) < 0.5)
    Q = 2 * torch.eye(N).double()
    Q[0, 1] = Q[1, 0] = 0.5
    A, q = torch.randn(P, N).double(), torch.randn(3, N).double()
    return Q, q, G, torch.rand(K).double(), A, torch.zeros(P).double()


def gradients(Q, q, G, h, A, b):
    out = quadratic_program(Q, q, G, h, A, b)
    loss = out.value.pow(2).sum() + out.duals["inequalities"].sum()
    return out.value, torch.autograd.grad(loss, [Q, G])


@pytest.mark.filterwarnings("ignore:Sparse .* tensor support is in beta")
@pytest.mark.parametrize("to", ["to_sparse_coo", "to_sparse_csr", "to_sparse_csc"])
def test_sparse_tensors_get_the_dense_gradient_on_their_pattern(data, to):
    Q, q, G, h, A, b = data
    full = gradients(Q.clone().requires_grad_(), q, G.clone().requires_grad_(), h, A, b)
    own = [getattr(one, to)().requires_grad_() for one in (Q, G)]
    value, found = gradients(own[0], q, own[1], h, A, b)
    assert_close(value, full[0])
    for one, expected, given, leaf in zip(found, full[1], (Q, G), own, strict=True):
        assert one.layout == leaf.layout
        assert_close(one.to_dense(), expected * (given != 0))


def test_entries_may_differ_over_the_batch(data):
    Q, q, G, h, A, b = data
    rows, cols = G.nonzero(as_tuple=True)
    entries = (G[rows, cols] * torch.tensor([[1.0], [0.5], [2.0]])).requires_grad_()
    sparse = ol.PatternMatrix(entries, rows, cols, (K, N))
    whole = sparse.to_dense().detach().requires_grad_()
    own = quadratic_program(Q, q, sparse, h, A, b).value
    other = quadratic_program(Q, q, whole, h, A, b).value
    assert_close(own, other)
    (found,) = torch.autograd.grad(own.sum(), entries)
    (expected,) = torch.autograd.grad(other.sum(), whole)
    assert_close(found, expected[:, rows, cols])


@pytest.mark.filterwarnings("ignore:Sparse .* tensor support is in beta")
def test_cone_programs_take_sparse_matrices(data):
    Q, q, G, h, *_ = data
    cones = ol.Cones(nonneg=K)
    own = cone_program(Q.to_sparse(), q, G.to_sparse_csr(), h, cones)
    assert_close(own.value, cone_program(Q, q, G, h, cones).value)
    bounded = cone_program(
        None,
        torch.ones(3, 2),
        torch.eye(2).neg().to_sparse(),
        torch.ones(2),
        ol.Cones(nonneg=2),
    )
    assert_close(bounded.value, -torch.ones(3, 2))


def test_bad_sparse_matrices_say_what_to_give(data):
    Q, q, *_ = data
    with pytest.raises(ShapeError, match="both triangles"):
        quadratic_program(Q.triu().to_sparse(), q)
    with pytest.raises(InvalidDataError, match="eigenvalue"):
        quadratic_program(-Q.to_sparse(), q)
    with pytest.raises(ParameterError, match="PatternMatrix"):
        quadratic_program(torch.stack([Q, Q]).to_sparse(), q)
    with pytest.raises(ShapeError, match="fit q"):
        quadratic_program(Q[:3].to_sparse(), q)


def test_no_more_plans_are_kept_than_patterns():
    n = REMEMBERED + 20
    Q, q = torch.eye(n, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)
    made = []
    for column in range(n):
        G = ol.PatternMatrix(
            torch.ones(1).double(), torch.tensor([0]), torch.tensor([column]), (1, n)
        )
        quadratic_program(Q, q, G, torch.ones(1).double())
        made.append(max(_plans))
    gc.collect()
    assert sum(one in _plans for one in made) <= REMEMBERED
