"""The gallery of 2019: solutions, gradients, and a step of learning that helps."""

import cvxpy as cp
import numpy as np
import pytest
import torch
from torch import Tensor

from tests.gallery.declared import GALLERY, Piece

PIECES = {one.name: one for one in GALLERY}
ACCURATE = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10}


def solved(piece: Piece, sample: dict[str, Tensor]) -> Tensor:
    return piece.problem(**sample)[piece.output]


@pytest.mark.parametrize("name", PIECES)
def test_solutions_are_those_of_cvxpy(name):
    piece = PIECES[name]
    sample = piece.sample()
    problem, variable = piece.reference({k: v.numpy() for k, v in sample.items()})
    problem.solve(solver=cp.CLARABEL, gp=piece.gp, **ACCURATE)
    out = piece.problem(**sample)
    assert out.objective.item() == pytest.approx(problem.value, rel=1e-6, abs=1e-6)
    np.testing.assert_allclose(out[piece.output], variable.value, atol=2e-5)


@pytest.mark.parametrize("name", PIECES)
def test_gradients_are_central_differences(name):
    piece = PIECES[name]
    sample = {k: v.requires_grad_() for k, v in piece.sample().items()}
    rng = np.random.default_rng(1)
    weights = torch.tensor(rng.standard_normal(solved(piece, sample).shape))
    directions = {
        k: torch.tensor(rng.standard_normal(v.shape)) for k, v in sample.items()
    }

    def total(step: float) -> Tensor:
        moved = {k: v + step * directions[k] for k, v in sample.items()}
        return (weights * solved(piece, moved)).sum()

    gradients = torch.autograd.grad(total(0.0), list(sample.values()))
    slope = sum(
        (gradient * directions[k]).sum().item()
        for k, gradient in zip(sample, gradients, strict=True)
    )
    measured = (total(1e-4) - total(-1e-4)).item() / 2e-4
    assert slope == pytest.approx(measured, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("name", PIECES)
def test_a_batch_of_three_is_three_samples(name):
    piece = PIECES[name]
    samples = [piece.sample(seed) for seed in range(3)]
    batch = {k: torch.stack([one[k] for one in samples]) for k in samples[0]}
    together = solved(piece, batch)
    for row, sample in zip(together, samples, strict=True):
        torch.testing.assert_close(row, solved(piece, sample), atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize("name", PIECES)
def test_learning_comes_nearer_to_a_target(name):
    """The parameter is learned so that the solution resembles that of another one."""
    piece = PIECES[name]
    sample = piece.sample()
    value = sample[piece.learned]
    factors = torch.linspace(0.7, 1.5, value.numel(), dtype=value.dtype)
    hidden = sample | {piece.learned: value * factors.reshape(value.shape)}
    target = solved(piece, hidden)
    learned = sample[piece.learned].clone().requires_grad_()
    optimizer = torch.optim.Adam([learned], lr=0.02)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        answer = solved(piece, sample | {piece.learned: learned})
        loss = (answer - target).square().sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


# ---- closed forms --------------------------------------------------------------------


def test_the_rectifier_is_torchs_with_its_gradient():
    y = torch.tensor([-1.0, 0.5, 2.0, -0.1], dtype=torch.float64, requires_grad=True)
    z = PIECES["ReLU"].problem(y=y).z
    torch.testing.assert_close(z, torch.relu(y), atol=1e-9, rtol=0)
    (slope,) = torch.autograd.grad(z.sum(), y)
    torch.testing.assert_close(slope, (y > 0).double())


def test_sparsemax_is_its_closed_form_with_its_jacobian():
    piece = PIECES["sparsemax"]
    y = piece.sample()["y"]
    ordered = y.sort(descending=True).values
    counts = torch.arange(1, 6, dtype=torch.float64)
    size = int((1 + counts * ordered > ordered.cumsum(0)).sum())
    threshold = (ordered[:size].sum() - 1) / size
    torch.testing.assert_close(
        piece.problem(y=y).p, torch.relu(y - threshold), atol=1e-9, rtol=0
    )
    support = (y > threshold).double()
    jacobian = torch.func.jacrev(lambda y: piece.problem(y=y).p)(y)
    expected = torch.diag(support) - torch.outer(support, support) / size
    torch.testing.assert_close(jacobian, expected, atol=1e-8, rtol=0)


def test_denoising_is_a_linear_solve_with_its_gradient():
    piece = PIECES["denoising"]
    y, weights = (one.requires_grad_() for one in piece.sample().values())
    D = torch.diff(torch.eye(9, dtype=torch.float64), dim=0)
    roughness = D.mT @ torch.diag(weights**2) @ D
    closed = torch.linalg.solve(torch.eye(9) + roughness, y)
    answer = piece.problem(y=y, weights=weights).x
    torch.testing.assert_close(answer, closed, atol=1e-9, rtol=0)
    probe = torch.arange(9.0, dtype=torch.float64)
    ours = torch.autograd.grad(probe @ answer, (y, weights))
    theirs = torch.autograd.grad(probe @ closed, (y, weights))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-8, rtol=0)


def test_transport_is_sinkhorns_with_its_gradient():
    piece = PIECES["optimal transport"]
    given = {k: v.requires_grad_() for k, v in piece.sample().items()}
    K = torch.exp(-given["C"] / given["blur"])
    v = torch.ones(4, dtype=torch.float64)
    for _ in range(300):
        u = given["source"] / (K @ v)
        v = given["target"] / (K.mT @ u)
    sinkhorn = u[:, None] * K * v
    answer = piece.problem(**given).P
    torch.testing.assert_close(answer, sinkhorn, atol=1e-8, rtol=0)
    probe = torch.arange(12.0, dtype=torch.float64).reshape(3, 4)
    ours, theirs = (
        torch.autograd.grad((probe * one).sum(), (given["C"], given["blur"]))
        for one in (answer, sinkhorn)
    )
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)


# ---- what each was made for ----------------------------------------------------------


def test_a_poisoned_training_set_spoils_the_test_loss():
    piece = PIECES["data poisoning"]
    train, test = piece.sample(0), piece.sample(1)
    X = train["X"].clone().requires_grad_()

    def loss(X: Tensor) -> Tensor:
        out = piece.problem(**train | {"X": X})
        margins = test["labels"] * (test["X"] @ out.theta + out.intercept)
        return torch.nn.functional.softplus(-margins).mean()

    before = loss(X)
    (gradient,) = torch.autograd.grad(before, X)
    after = loss(X + 0.1 * gradient / gradient.norm())
    assert after > before
    first_order = 0.1 * gradient.norm()
    assert (after - before).item() == pytest.approx(first_order.item(), rel=0.1)


def test_a_policy_learns_to_spend_less():
    piece = PIECES["dynamic programming"]
    sample = piece.sample()
    A, B = sample["A"], sample["B"]
    root = (0.2 * sample["root"]).requires_grad_()
    starts = torch.randn(
        6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )

    def cost() -> Tensor:
        x, spent = starts, torch.zeros((), dtype=torch.float64)
        for _ in range(5):
            u = piece.problem(x=x, root=root, q=0 * sample["q"], A=A, B=B).u
            spent = spent + (x.square().sum() + u.square().sum()) / len(starts)
            x = x @ A.mT + u @ B.mT
        return spent

    optimizer = torch.optim.SGD([root], lr=0.005)
    before = cost()
    for _ in range(4):
        optimizer.zero_grad()
        cost().backward()
        optimizer.step()
    assert cost() < before
