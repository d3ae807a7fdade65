import pytest
import torch
from torch.testing import assert_close

from optlayers.errors import SingularError
from optlayers.functional import fixed_point
from optlayers.implicit.linearizations import DENSE_MAP_LIMIT, linearize
from optlayers.programs.root import RootProgram

N = DENSE_MAP_LIMIT + 10


def linear_map(W):
    return RootProgram.from_map(lambda z: z @ W.mT, 3, len(W))


@pytest.mark.parametrize("radius", [0.5, 0.99, 3.0])
def test_maps_are_linearized_without_a_matrix_as_exactly_as_with_one(radius):
    generator = torch.Generator().manual_seed(0)
    W = (
        radius
        * torch.linalg.qr(torch.randn(N, N, generator=generator, dtype=torch.float64)).Q
    )
    r = torch.randn(3, N, generator=generator, dtype=torch.float64)
    program, point = linear_map(W), torch.zeros_like(r)
    free, dense = (linearize(program, point, name) for name in ("exact", "dense"))
    assert_close(free.solve(r), dense.solve(r), rtol=1e-8, atol=1e-8)
    assert_close(
        free.solve_transposed(r), dense.solve_transposed(r), rtol=1e-8, atol=1e-8
    )


def test_a_sample_whose_map_grows_leaves_the_solves_of_others_bitwise():
    factor = torch.tensor([[0.5], [0.6], [0.7]], dtype=torch.float64)
    r = torch.linspace(1, 2, 3 * N, dtype=torch.float64).reshape(3, N)

    def solved(factor):
        program = RootProgram.from_map(lambda z: factor * z.roll(1, 1), 3, N)
        return linearize(program, torch.zeros_like(r), "exact").solve_transposed(r)

    calm = solved(factor)
    factor = factor.index_fill(0, torch.tensor([1]), 3.0)
    wild = solved(factor)
    assert_close(wild[[0, 2]], calm[[0, 2]], rtol=0, atol=0)
    assert_close(wild[1] - 3 * wild[1].roll(-1), r[1])


@pytest.mark.parametrize("method", ["exact", "gmres", "bicgstab", "normal_cg"])
def test_a_singular_system_is_never_silently_wrong(method):
    b = torch.zeros(1, N, dtype=torch.float64, requires_grad=True)
    # z_0 = z_0 + b_0 holds for any z_0 where b_0 = 0, and has no derivative in it.
    scale = torch.full((N,), 0.5, dtype=torch.float64)
    scale[0] = 1.0
    value = fixed_point(
        lambda z: scale * z + b, torch.ones(1, N, dtype=torch.float64),
        gradient=method,
    ).value  # fmt: skip
    with pytest.raises(SingularError, match="sample 0"):
        value.sum().backward()
