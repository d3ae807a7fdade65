"""The projections on exponential and power cones, from their definitions."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from optlayers.programs.cones import Cones
from optlayers.programs.projections import exponential, power
from optlayers.programs.projections.block import Block

# Distances relative to the largest entry: a few roundings.
ROUNDING = 1e-14
EXPONENTS = (0.3, 0.5, 0.9, 1e-3, 0.999)


def exponential_points(number: int, seed: int = 0) -> Tensor:
    """Points of every scale, and next to every boundary, [number, 1, 3]."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def power_of_ten(low: float, high: float, *shape: int) -> Tensor:
        share = torch.rand(*shape, generator=generator, dtype=torch.float64)
        return 10 ** (low + (high - low) * share)

    half = number // 2
    anywhere = normal(half, 3) * power_of_ten(-12, 12, half, 3)
    root = normal(number - half) * power_of_ten(-1, 1.5, number - half)
    inside = torch.stack([root, torch.ones_like(root), root.exp()], 1)
    polar = torch.stack([torch.ones_like(root), 1 - root, -(-root).exp()], 1)
    size = power_of_ten(-16, 16, number - half, 1)
    near = inside / inside.norm(dim=1, keepdim=True)
    near = near + size * polar / polar.norm(dim=1, keepdim=True)
    return -torch.cat([anywhere, near]).unsqueeze(1)


def power_points(number: int, seed: int = 0) -> Tensor:
    """The same for one power cone for each of `EXPONENTS`, [number, 5, 3]."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.tensor(EXPONENTS, dtype=torch.float64)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    half = number // 2
    spread = 24 * torch.rand(half, 5, 3, generator=generator).double() - 12
    anywhere = normal(half, 5, 3) * 10**spread
    turn = 3 * normal(number - half, 5)
    rise, fall = ((1 - a) * turn).exp(), (a * turn).exp()
    inside = torch.stack([rise, 1 / fall, torch.ones_like(turn)], -1)
    polar = torch.stack([-a / rise, -(1 - a) * fall, torch.ones_like(turn)], -1)
    spread = 32 * torch.rand(number - half, 5, 1, generator=generator).double() - 16
    near = inside / inside.norm(dim=-1, keepdim=True)
    near = near + 10**spread * polar / polar.norm(dim=-1, keepdim=True)
    return -torch.cat([anywhere, near])


KINDS = {
    "exponential": (exponential, Block("exp", 1, 3), exponential_points),
    "power": (power, Block("power", 5, 3, EXPONENTS), power_points),
}
each_kind = pytest.mark.parametrize("kind", list(KINDS))


def exponential_distance(y: Tensor) -> Tensor:
    """How far points are from the dual exponential cone, at most: along z and y."""
    u, v, w = y.unbind(-1)
    # Nearest of the member with this u, v and of the member with this u, w.
    along_w = (-u * torch.exp(v / u - 1) - w).clamp_min(0)
    along_v = (u * (1 + torch.log(w / -u)) - v).clamp_min(0)
    curved = torch.minimum(along_w, along_v.nan_to_num(nan=torch.inf))
    face = u.abs() + (-v).clamp_min(0) + (-w).clamp_min(0)
    return torch.where(u < 0, torch.minimum(curved, face), face)


@each_kind
def test_projection_and_slack_are_orthogonal_and_stay_where_they_are(kind):
    module, block, points = KINDS[kind]
    v = points(10_000)
    y = module.project(v, block)
    scale = v.abs().amax(-1, keepdim=True)
    y, s = y / scale, (y - v) / scale
    assert float((y * s).sum(-1).abs().max()) < ROUNDING
    # y is a member of K*, and s of K, if their projections do not move them.
    assert float((module.project(y, block) - y).abs().max()) < ROUNDING
    assert float(module.project(-s, block).abs().max()) < ROUNDING


def test_projections_on_the_exponential_dual_are_members_by_definition():
    v = exponential_points(10_000, seed=1)
    v = v / v.abs().amax(-1, keepdim=True)
    distance = exponential_distance(exponential.project(v, Block("exp", 1, 3)))
    assert float(distance.max()) < 1e-13


def test_projections_on_the_power_dual_are_members_by_definition():
    v = power_points(4_000, seed=1)
    v = v / v.abs().amax(-1, keepdim=True)
    u, t, w = power.project(v, Block("power", 5, 3, EXPONENTS)).unbind(-1)
    a = torch.tensor(EXPONENTS, dtype=torch.float64)
    assert float(torch.minimum(u, t).min()) >= 0
    # Some point within a few roundings is a member: entries that small may be anything.
    u, t = u + ROUNDING, t + ROUNDING
    bound = a * torch.log(u / a) + (1 - a) * torch.log(t / (1 - a))
    assert bool((w.abs() <= bound.exp() + ROUNDING).all())


@pytest.mark.parametrize(
    ("v", "expected"),
    [
        ((-1.0, 2.0, 3.0), (-1.0, 2.0, 3.0)),  # in the dual cone
        ((-1.0, -1.0, -3.0), (0.0, 0.0, 0.0)),  # in the opposite of the cone
        ((2.0, 3.0, -1.0), (0.0, 3.0, 0.0)),  # next to a face of both
        ((2.0, 3.0, 1.0), (0.0, 3.0, 1.0)),
        ((-1.0, -3.0, -1.0), (-1.0, -1.0, 1.0)),  # root 0: w = 2 g + d
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
    ],
)
def test_exponential_projection_has_its_closed_cases(v, expected):
    y = exponential.project(torch.tensor([[v]]).double(), Block("exp", 1, 3))
    assert_close(y, torch.tensor([[expected]]).double(), atol=1e-15, rtol=1e-15)


@each_kind
def test_the_nearest_point_is_nearer_than_other_members(kind):
    module, block, points = KINDS[kind]
    v = points(400, seed=2)
    v = v / v.abs().amax(-1, keepdim=True)
    members = module.project(torch.randn(400, *v.shape[1:]).double(), block)
    y = module.project(v, block)
    # (v - y)'(m - y) <= 0 for every member m of K*.
    assert float(((v - y) * (members - y)).sum(-1).max()) < ROUNDING


@each_kind
@given(factor=st.floats(1e-9, 1e9), seed=st.integers(0, 99))
def test_projection_is_homogeneous_and_not_expansive(kind, factor, seed):
    module, block, points = KINDS[kind]
    v = points(8, seed)
    y = module.project(v, block)
    scale = v.abs().amax(-1, keepdim=True)
    scaled = module.project(factor * v, block) / factor
    assert_close(scaled / scale, y / scale, rtol=0, atol=ROUNDING)
    moved = points(8, seed + 1)
    distance = (module.project(moved, block) - y).norm(dim=-1)
    assert bool((distance <= (moved - v).norm(dim=-1) * (1 + 1e-12)).all())


@each_kind
def test_derivative_is_that_of_autograd_on_every_piece_and_next_to_kinks(kind):
    module, block, points = KINDS[kind]
    v = points(1000, seed=3).requires_grad_()
    y = module.project(v, block)
    rows = [
        torch.autograd.grad(y[..., i].sum(), v, retain_graph=True)[0] for i in range(3)
    ]
    D = module.derivative(v, block)
    assert_close(D, torch.stack(rows, -2), atol=1e-11, rtol=0)
    assert_close(D, D.mT, atol=0, rtol=0)
    slopes = torch.linalg.eigvalsh(D)
    assert float(slopes.min()) > -ROUNDING
    assert float(slopes.max()) < 1 + ROUNDING


@each_kind
def test_derivative_is_that_of_central_differences(kind):
    module, block, _ = KINDS[kind]
    generator = torch.Generator().manual_seed(4)
    v = torch.randn(200, block.number, 3, generator=generator).double()
    step = 1e-6
    columns = []
    for i in range(3):
        change = torch.zeros(3).double()
        change[i] = step
        ahead, behind = (
            module.project(v + change, block),
            module.project(v - change, block),
        )
        columns.append((ahead - behind) / (2 * step))
    error = (
        (module.derivative(v, block) - torch.stack(columns, -1)).abs().amax((-1, -2))
    )
    # A few points lie within a step of a kink, or where the curvature is large.
    assert float(error.quantile(0.98)) < 1e-8


CURVED = {
    "exponential": [[[-1.0, -3.0, -1.0]], [[0.4, 0.2, -0.3]], [[-2.0, 1.0, -1.0]]],
    "power": [
        [[-1.0, -0.5, 2.0], [1.0, 0.5, -3.0], [0.5, -1.0, 1.0]],
    ],
}


@each_kind
def test_projection_is_differentiable_three_times(kind):
    module, block, _ = KINDS[kind]
    if kind == "power":
        block = Block("power", 3, 3, (0.3, 0.5, 0.9))
    v = torch.tensor(CURVED[kind]).double().requires_grad_()

    def project(v):
        return module.project(v, block)

    def gradient(v):
        y = project(v)
        weights = torch.linspace(0.5, 1.5, y.numel()).double().view_as(y)
        return torch.autograd.grad((y * weights).sum(), v, create_graph=True)[0]

    assert gradcheck(project, v, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(project, v, check_batched_grad=True)
    assert gradgradcheck(gradient, v)


@pytest.mark.parametrize(
    ("cones", "kinks"),
    [
        (
            Cones(exp=1),
            [(0.0, 0.0, 0.0), (1.0, 1.0, 0.0), (0.0, 1.0, 1.0), (-1.0, 0.0, 1 / 2.75)],
        ),
        (
            Cones(power=(0.3,)),
            [(0.0, 0.0, 0.0), (1.0, -1.0, 0.0), (-1.0, 1.0, 0.0), (0.0, 0.0, 1.0)],
        ),
        (Cones(power=(0.5,)), [(1.0, -1.0, 0.0), (0.0, -1.0, 0.0), (-1.0, 0.0, 1.0)]),
    ],
)
def test_kinks_have_finite_derivatives_that_agree(cones, kinks):
    for kink in kinks:
        v = torch.tensor(kink).double()

        def project(row):
            return cones.project_dual(row[None])[0]

        jacobian = torch.func.jacrev(project)(v)
        assert_close(cones.project_dual_derivative(v[None])[0], jacobian)
        second = torch.func.hessian(lambda row: project(row).sum())(v)
        assert bool(second.isfinite().all())


def test_all_transforms_take_both_cones():
    cones = Cones(exp=2, power=(0.3, 0.7))
    v = torch.randn(4, cones.size, generator=torch.Generator().manual_seed(5)).double()
    y, D = cones.project_dual(v), cones.project_dual_derivative(v)

    def project(row):
        return cones.project_dual(row[None])[0]

    assert_close(torch.vmap(project)(v), y)
    assert_close(torch.vmap(torch.func.jacfwd(project))(v), D)
    single = cones.project_dual(v.float())
    assert single.dtype == torch.float32
    assert_close(single.double(), y, atol=1e-6, rtol=1e-6)
    assert cones.project_dual(v[:0]).shape == (0, cones.size)


@pytest.mark.slow
def test_both_cones_compile_without_a_break():
    cones = Cones(exp=1, power=(0.3,))
    v = torch.randn(3, cones.size, generator=torch.Generator().manual_seed(6)).double()
    compiled = torch.compile(cones.project_dual, fullgraph=True, backend="aot_eager")
    assert_close(compiled(v), cones.project_dual(v))


def test_numbers_that_are_not_finite_stay_visible():
    cones = Cones(exp=1, power=(0.3,))
    v = torch.ones(1, cones.size).double()
    v[0, 0] = v[0, 3] = torch.nan
    assert bool(cones.project_dual(v).isnan().any(1).all())
