"""Separable sums of squares: found by their pattern, solved as dense ones are."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

import optlayers as ol
from optlayers import Parameter, Variable, minimize
from optlayers.compile.minimize import compile_minimize
from optlayers.functional import least_squares
from optlayers.linalg.pattern import Pattern
from optlayers.linalg.schur import SchurStructure
from optlayers.modeling.problem import declare
from optlayers.programs.minimize import MinimizeProgram
from optlayers.programs.squares import local_model, structure_of
from optlayers.solvers.minimize import LevenbergMarquardt
from tests.layers.planar_maps import planar_map, sights

CAMERAS, LANDMARKS = 4, 12
DOUBLE = {"dtype": torch.float64}


@pytest.fixture
def bundle():
    return planar_map(CAMERAS, LANDMARKS)


def residuals_of(sight, place):
    """The same residuals by hand, of x [B, 3 c + 2 m]."""

    def residuals(x):
        pose = x[:, : 3 * CAMERAS].unflatten(1, (CAMERAS, 1, 3))
        point = x[:, 3 * CAMERAS :].unflatten(1, (1, LANDMARKS, 2))
        u, v = (point - pose[..., :2]).unbind(-1)
        c, s = pose[..., 2].cos(), pose[..., 2].sin()
        seen = torch.stack([c * u + s * v, c * v - s * u], -1).flatten(1, 2) - sight
        near = 1e-2 * (point[:, 0] - place).flatten(1)
        return torch.cat([seen.flatten(1), 10 * pose[:, 0, 0], near], 1)

    return residuals


def pattern_of(mask):
    return Pattern.row_major(*mask.nonzero().mT.numpy(), tuple(mask.shape))


def mask_of(residuals, n):
    """Where the Jacobian has entries at a random point, bool [k, n]."""
    x = torch.randn(1, n, **DOUBLE)
    return torch.autograd.functional.jacobian(residuals, x)[0, :, 0] != 0


def test_a_sparse_solution_is_that_of_the_dense_method(bundle):
    sight, place = sights(CAMERAS, LANDMARKS, batch=(3,))
    n = 3 * CAMERAS + 2 * LANDMARKS
    residuals = residuals_of(sight, place)
    start = torch.zeros(3, n, **DOUBLE)
    sparsity = mask_of(residuals_of(sight[:1], place), n)
    sparse = least_squares(residuals, start, sparsity=sparsity)
    dense = least_squares(residuals, start)
    assert_close(sparse.value, dense.value, rtol=0, atol=1e-7)
    out = bundle.layer(solver="levenberg_marquardt")(sight=sight, place=place)
    both = torch.cat([out.pose.flatten(1), out.point.flatten(1)], 1)
    assert_close(both, dense.value, rtol=0, atol=1e-7)


def test_the_pattern_of_a_declaration_eliminates_its_landmarks():
    def body(pose=Variable((6, 3)), point=Variable((20, 2)), z=Parameter((6, 20))):
        spread = ol.sum_squares(pose[:, 2]) + ol.sum_squares(point - 1)
        ray = pose[:, :1] * point[:, 0] + torch.sin(pose[:, 1:2]) * point[:, 1] - z
        return minimize(ol.sum_squares(ray) + spread)

    template = compile_minimize(declare(body, convex=False).trace({}, None), "it bends")
    structure = SchurStructure(template.pattern)
    # Each landmark's two, and of each camera what no sight depends on: its third.
    landmarks = torch.arange(18, 58).reshape(20, 2)
    assert torch.equal(structure.blocks[6:], landmarks)
    assert structure.blocks[:6, 0].tolist() == list(range(2, 18, 3))
    assert len(structure.kept) == 12
    assert template.pattern.size == 6 * 20 * 4 + 6 + 40


def test_few_or_dense_unknowns_have_no_pattern():
    def few(x=Variable(10)):
        return minimize(ol.sum_squares(x**2 - 1))

    def dense(x=Variable(40), A=Parameter((50, 40))):
        return minimize(ol.sum_squares(A @ x**2 - 1))

    for body in (few, dense):
        traced = declare(body, convex=False).trace({}, None)
        assert compile_minimize(traced, "it bends").pattern is None


def test_entries_are_those_of_the_dense_jacobian():
    sight, place = sights(CAMERAS, LANDMARKS, batch=(2,))
    n = 3 * CAMERAS + 2 * LANDMARKS
    residuals = residuals_of(sight, place)
    mask = mask_of(residuals_of(sight[:1], place), n)
    pattern = pattern_of(mask)
    dense = MinimizeProgram(
        lambda x: residuals(x).square().sum(1), 2, n, residuals=residuals,
        loss=lambda r: torch.log1p(r**2),
    )  # fmt: skip
    sparse = replace(dense, pattern=pattern)
    x = torch.randn(2, n, **DOUBLE)
    matrix = structure_of(sparse, x).pattern.scatter(local_model(sparse, x).matrix)
    assert_close(matrix, local_model(dense, x).matrix)


def test_the_derivative_in_the_sights_is_that_of_the_dense_layer(bundle):
    sight, place = sights(CAMERAS, LANDMARKS)
    weight = torch.linspace(-1, 1, 3 * CAMERAS, **DOUBLE).reshape(CAMERAS, 3)

    def slope(solver):
        given = sight.clone().requires_grad_()
        layer = bundle.layer(solver=solver)
        (layer(sight=given, place=place).pose * weight).sum().backward()
        return given.grad

    own, other = slope("levenberg_marquardt"), slope("gauss_newton")
    assert_close(own, other, rtol=0, atol=1e-6)
    assert float(own.abs().max()) > 0.01


def test_a_robust_map_ignores_what_was_mistaken():
    sight, place = sights(8, LANDMARKS)
    generator = torch.Generator().manual_seed(1)
    wrong = torch.rand(sight.shape[:1], generator=generator) < 0.1
    sight = sight + wrong[:, None] * torch.randn(
        sight.shape, generator=generator, **DOUBLE
    )
    plain = planar_map(8, LANDMARKS)(sight=sight, place=place)
    robust = planar_map(8, LANDMARKS, loss=lambda r: ol.sum(ol.huber(10 * r)) / 100)(
        sight=sight, place=place
    )
    error = [float((out.point - place).norm(dim=1).mean()) for out in (plain, robust)]
    assert error[1] < error[0] / 3


def test_bounds_hold_landmarks_of_a_sparse_fit():
    sight, place = sights(CAMERAS, LANDMARKS, batch=(1,))
    n = 3 * CAMERAS + 2 * LANDMARKS
    residuals = residuals_of(sight, place)
    sparsity = mask_of(residuals, n)
    start = torch.zeros(1, n, **DOUBLE)
    own = least_squares(residuals, start, sparsity=sparsity, upper=1.0)
    other = least_squares(residuals, start, upper=1.0, solver="interior_point")
    assert bool((own.value <= 1).all()) and bool((own.value == 1).any())
    assert_close(own.value, other.value, rtol=0, atol=1e-5)


def test_a_sparsity_of_another_shape_is_refused():
    with pytest.raises(ol.errors.ShapeError, match=r"\[2, 2\]"):
        least_squares(
            lambda x: x - 1, torch.zeros(1, 2, **DOUBLE), sparsity=torch.ones(3, 2)
        )


def test_a_chain_of_unknowns_is_solved_as_the_dense_method_does():
    def residuals(x):
        return torch.cat([10 * (x[:, 1:] - x[:, :-1] ** 2), 1 - x[:, :-1]], 1)

    n = 50
    program = MinimizeProgram(
        lambda x: residuals(x).square().sum(1), 1, n, residuals=residuals
    )
    dense = LevenbergMarquardt().solve(program)
    pattern = pattern_of(mask_of(residuals, n))
    sparse = LevenbergMarquardt().solve(replace(program, pattern=pattern))
    assert sparse.ok.all() and dense.ok.all()
    assert_close(sparse.value, dense.value, rtol=0, atol=1e-6)
