"""What auto tries where one method alone does not do."""

import torch

from optlayers.programs.root import RootProgram
from optlayers.solvers.root import rounding
from optlayers.solvers.root.auto import Auto
from optlayers.solvers.root.newton import Newton


def equilibrium(batch: int = 64, n: int = 16) -> RootProgram:
    """z = 0.9 tanh(W z + u), W 1.5 times a rotation: no contraction."""
    generator = torch.Generator().manual_seed(0)
    W = torch.randn(n, n, generator=generator, dtype=torch.float64)
    W = 1.5 * torch.linalg.qr(W).Q
    u = 0.5 * torch.randn(batch, n, generator=generator, dtype=torch.float64)
    return RootProgram.from_map(lambda z: 0.9 * torch.tanh(z @ W.mT + u), batch, n)


def chain(size: int) -> RootProgram:
    """u'' + 2 exp(u) = 0 by differences, u = 0 at both ends (G. Bratu, 1914)."""

    def residual(u: torch.Tensor) -> torch.Tensor:
        around = torch.nn.functional.pad(u, (1, 1))
        bend = around[:, 2:] - 2 * u + around[:, :-2]
        return (size + 1) ** 2 * bend + 2 * u.exp()

    return RootProgram(residual, 1, size)


def names_tried(program: RootProgram) -> list[str]:
    start = torch.zeros(program.batch_size, program.size, dtype=torch.float64)
    return [type(solver).__name__ for solver, _ in Auto()._attempts(program, start)]


def test_small_fixed_points_that_newton_cannot_reach_are_solved():
    program = equilibrium()
    alone, found = Newton().solve(program), Auto(restarts=1).solve(program)
    assert not alone.ok.all()
    assert found.ok.all()
    assert program.residual(found.value).abs().max() <= 1e-10


def test_hundreds_of_equations_are_newtons():
    # Second differences of 200 points lose 1e5 roundings.
    found = Auto(tolerance=1e-9).solve(chain(200))
    assert found.ok.all()
    assert found.stats["steps"].item() < 20


def test_dense_matrices_end_where_they_take_too_much_memory(monkeypatch):
    assert names_tried(chain(200))[0] == "Newton"
    monkeypatch.setattr(rounding, "DENSE_ENTRIES", 200**2 - 1)
    assert "Newton" not in names_tried(chain(200))


def test_large_fixed_points_leave_dense_matrices_for_last():
    tried = names_tried(equilibrium(1, 60))
    assert tried[0] == "FixedPoint"
    assert tried[-1] == "Newton"
