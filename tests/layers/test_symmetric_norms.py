"""Atoms whose cvxpy twin would be of another value or of another multiplier."""

import cvxpy as cp
import pytest
import torch
from torch.testing import assert_close

import optlayers as ol
from optlayers import Parameter, Variable, minimize

DOUBLE = {"dtype": torch.float64}


@ol.problem
def with_ones(x=Variable("3"), a=Parameter("3")):
    return minimize(ol.sum(ol.power(x, 0)) + ol.sum_squares(x - a))


@ol.problem
def nearest_correlation(
    X=Variable("4 4", psd=True), C=Parameter("4 4", symmetric=True)
):
    return minimize(ol.norm(C - X, 2), unit=ol.diag(X) == 1)


@ol.problem
def in_a_ball(X=Variable("3 3", symmetric=True), C=Parameter("3 3", symmetric=True)):
    return minimize(ol.sum_squares(X - C), ball=ol.sigma_max(X) <= 0.4)


def symmetric_samples(count, n):
    samples = torch.randn(count, n, n, **DOUBLE, generator=torch.manual_seed(0))
    return (samples + samples.mT) / 2


def test_the_power_zero_is_one_for_every_entry():
    a = torch.tensor([1.0, 2.0, 3.0], **DOUBLE)
    out = with_ones(a=a)
    assert_close(out.objective, torch.tensor(3.0, **DOUBLE))
    assert_close(out.x, a)


def test_the_norm_of_a_symmetric_matrix_clips_its_eigenvalues():
    C = symmetric_samples(20, 3)
    out = in_a_ball(C=C)
    values, vectors = torch.linalg.eigh(C)
    clipped = (vectors * values.clamp(-0.4, 0.4).unsqueeze(-2)) @ vectors.mT
    assert_close(out.X, clipped, rtol=0, atol=1e-6)


def test_the_nearest_correlation_matrix_by_the_norm_agrees_with_cvxpy():
    C = symmetric_samples(20, 4)
    out = nearest_correlation.layer(on_failure="keep")(C=C)
    solved = out.status == 0
    assert solved.sum() >= 14  # of cvxpy's own block less than half were
    X = cp.Variable((4, 4), PSD=True)
    for sample in range(3):
        norm = cp.norm(C[sample].numpy() - X, 2)
        problem = cp.Problem(cp.Minimize(norm), [cp.diag(X) == 1])
        problem.solve(solver="CLARABEL")
        assert float(out.objective[sample]) == pytest.approx(problem.value, abs=1e-5)
