"""What all solvers of equations share, and what each does in its own cases."""

import math

import pytest
import torch
from torch.testing import assert_close

from optlayers import registry
from optlayers.errors import ParameterError, ShapeError
from optlayers.programs.root import Evaluation, RootProgram
from optlayers.solution import Status
from optlayers.solvers.iterative import Outcome, iterate
from optlayers.solvers.root import newton
from optlayers.solvers.root.broyden import Broyden
from optlayers.solvers.root.chandrupatla import Chandrupatla
from optlayers.solvers.root.fixed_point import FixedPoint
from optlayers.solvers.root.newton import Newton

SYSTEM_SOLVERS = (
    "auto", "newton", "levenberg_marquardt", "broyden", "newton_krylov",
)  # fmt: skip
MAP_SOLVERS = (*SYSTEM_SOLVERS, "anderson", "fixed_point")
SCALAR_SOLVERS = (*SYSTEM_SOLVERS, "chandrupatla", "bisection")


def contraction(batch: int, n: int, radius: float) -> tuple[RootProgram, torch.Tensor]:
    """z = W z + u with |W| = radius, and its solution."""
    generator = torch.Generator().manual_seed(3)
    W = torch.randn(n, n, generator=generator, dtype=torch.float64)
    W = radius * W / torch.linalg.matrix_norm(W, 2)
    u = torch.randn(batch, n, generator=generator, dtype=torch.float64)
    exact = torch.linalg.solve(torch.eye(n, dtype=torch.float64) - W, u.mT).mT
    return RootProgram.from_map(lambda z: z @ W.mT + u, batch, n), exact


@pytest.mark.parametrize("radius", [0.5, 0.9])
@pytest.mark.parametrize("name", MAP_SOLVERS)
def test_linear_contractions_have_their_closed_form(name, radius):
    program, exact = contraction(3, 6, radius)
    found = registry.create("root", name, tolerance=1e-11).solve(program)
    assert found.ok.all()
    assert_close(found.value, exact, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", SCALAR_SOLVERS)
def test_scalar_equations_have_their_closed_form(name):
    w = torch.linspace(-1, 3, 5, dtype=torch.float64).unsqueeze(1)
    program = RootProgram(lambda x: x.exp() - 2 - 0.3 * w, 5, 1)
    found = registry.create("root", name).solve(program)
    assert found.ok.all()
    assert_close(found.value, (2 + 0.3 * w).log(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", SYSTEM_SOLVERS)
def test_a_sample_without_a_root_says_so_and_changes_no_other(name):
    target = torch.arange(1, 9, dtype=torch.float64).unsqueeze(1)
    bad = target.clone()
    bad[3] = -1.0
    solver = registry.create("root", name)
    start = torch.ones(8, 1, dtype=torch.float64)
    apart = solver.solve(RootProgram(lambda x: x * x - target, 8, 1), start)
    mixed = solver.solve(RootProgram(lambda x: x * x - bad, 8, 1), start)
    others = torch.arange(8) != 3
    assert mixed.status[3] != Status.SOLVED
    assert mixed.ok[others].all()
    assert torch.equal(mixed.value[others], apart.value[others])


@pytest.mark.parametrize("name", SYSTEM_SOLVERS)
def test_no_answer_depends_on_the_company_it_is_solved_in(name):
    generator = torch.Generator().manual_seed(5)
    W = 0.4 * torch.randn(6, 6, generator=generator, dtype=torch.float64)
    own = 1 + torch.rand(8, 6, generator=generator, dtype=torch.float64)
    harder = own.clone()
    harder[3] *= 40

    def solved(shift):
        program = RootProgram(lambda z: z + torch.sin(z @ W) - shift, 8, 6)
        return registry.create("root", name).solve(program)

    others = torch.arange(8) != 3
    easy, mixed = solved(own), solved(harder)
    assert easy.ok.all()
    assert torch.equal(mixed.value[others], easy.value[others])
    assert torch.equal(mixed.stats["steps"][others], easy.stats["steps"][others])


def test_nan_is_a_status_of_its_sample():
    target = torch.tensor([[1.0], [math.nan], [4.0]], dtype=torch.float64)
    program = RootProgram(lambda x: x * x - target, 3, 1)
    found = Newton().solve(program, torch.ones(3, 1, dtype=torch.float64))
    assert found.status.tolist() == [
        Status.SOLVED, Status.NOT_FINITE, Status.SOLVED,
    ]  # fmt: skip


def test_newton_makes_one_jacobian_where_the_first_contracts(monkeypatch):
    made = []
    jacobian = Evaluation.jacobian
    monkeypatch.setattr(
        Evaluation, "jacobian", lambda self: made.append(1) or jacobian(self)
    )
    program = RootProgram(lambda x: x + 0.3 * x.sin() - 1, 4, 5)
    found = Newton().solve(program)
    assert found.ok.all()
    assert len(made) == 1


def test_newton_takes_few_more_steps_than_with_a_jacobian_each():
    generator = torch.Generator().manual_seed(0)
    b = 2 * torch.randn(200, 10, generator=generator, dtype=torch.float64)
    program = RootProgram(lambda x: x**3 + x - b, 200, 10)
    found = Newton().solve(program)
    assert found.ok.all()
    point, count = torch.zeros_like(b), 0
    while program.residual(point).abs().max() > 1e-10:
        residual, jacobian = program.residual_and_jacobian(point)
        point, count = point - torch.linalg.solve(jacobian, residual), count + 1
    # Half as many again, as steps with a kept Jacobian are cheaper; not twice.
    assert found.stats["steps"].max() <= 1.5 * count


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_newton_folds_old_updates_into_its_matrix(monkeypatch, n):
    monkeypatch.setattr(newton, "MOST_UPDATES", 1)
    W = torch.arange(1, n * n + 1, dtype=torch.float64).view(n, n) / (2 * n * n)
    program = RootProgram(lambda x: x + (x @ W).sin() - 1, 3, n)
    folded = Newton().solve(program)
    monkeypatch.undo()
    # The same formula in another order: equal to rounding, in as many steps.
    apart = Newton().solve(program)
    assert apart.ok.all()
    assert_close(folded.value, apart.value, rtol=0, atol=1e-12)
    assert torch.equal(folded.stats["steps"], apart.stats["steps"])


def test_a_trial_outside_the_domain_is_refused_and_forgotten():
    # From 3 the first step of log(x) = 0 leads to a negative number, from 1.1 not.
    program = RootProgram(lambda x: x.log(), 2, 1)
    start = torch.tensor([[3.0], [1.1]], dtype=torch.float64)
    found = Newton().solve(program, start)
    assert found.ok.all()
    assert_close(found.value, torch.ones_like(start), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["newton", "levenberg_marquardt", "broyden"])
def test_equations_that_never_change_stall(name):
    program = RootProgram(lambda x: 0 * x + 1, 2, 3)
    found = registry.create("root", name).solve(program)
    assert found.status.tolist() == [Status.STALLED] * 2


def test_bounds_choose_the_branch():
    def circle(z):
        return z.square() - 1

    below = RootProgram(circle, 1, 1, upper=torch.zeros(1))
    above = RootProgram(circle, 1, 1, lower=torch.zeros(1))
    start = torch.full((1, 1), 0.5, dtype=torch.float64)
    assert_close(Newton().solve(above, start).value.item(), 1.0)
    assert_close(Newton().solve(below, -start).value.item(), -1.0)


def test_chandrupatla_needs_far_fewer_steps_than_bisection():
    program = RootProgram(
        lambda x: x**3 - 2 * x - 5, 1, 1, lower=torch.zeros(1), upper=torch.ones(1) * 8
    )
    fast = Chandrupatla().solve(program)
    slow = registry.create("root", "bisection").solve(program)
    assert_close(fast.value.item(), 2.0945514815423265)
    assert 3 * fast.stats["steps"].item() < slow.stats["steps"].item()


def test_bracketing_methods_refuse_systems():
    program, _ = contraction(1, 3, 0.5)
    assert "3" in (Chandrupatla().refuses(program) or "")


def test_map_methods_refuse_equations():
    program = RootProgram(lambda x: x - 1, 1, 1)
    assert "map" in (FixedPoint().refuses(program) or "")


def test_a_start_of_another_shape_is_refused():
    with pytest.raises(ShapeError, match=r"\[2, 2\]"):
        Newton().solve(RootProgram(lambda x: x, 1, 2), torch.zeros(2, 2))


@pytest.mark.parametrize("options", [{"max_steps": 0}, {"tolerance": 0.0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ParameterError):
        Broyden(**options)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("newton", {"min_damping": 2.0}),
        ("newton_krylov", {"min_damping": 1.5}),
        ("fixed_point", {"damping": 2.0}),
        ("anderson", {"damping": 1.1}),
    ],
)
def test_a_share_above_one_is_refused(name, options):
    with pytest.raises(ParameterError, match="at most 1"):
        registry.create("root", name, **options)


@pytest.mark.parametrize("name", SYSTEM_SOLVERS)
def test_an_empty_batch_is_solved(name):
    found = registry.create("root", name).solve(RootProgram(lambda x: x, 0, 3))
    assert found.value.shape == (0, 3)


class Counting:
    """A method whose sample i is solved after i + 1 steps, and then runs away."""

    def init(self, program, start):
        return 0

    def step(self, program, state, active):
        return state + 1

    def outcome(self, state):
        need = torch.arange(1.0, 4.0)
        residual = torch.where(need <= state, 0.0, 1.0)
        return Outcome(torch.full((3, 1), float(state)), residual)


def test_finished_rows_stay_frozen():
    found = iterate(Counting(), None, torch.zeros(3, 1), tolerance=0.5, max_steps=9)
    assert found.value.flatten().tolist() == [1.0, 2.0, 3.0]
    assert found.stats["steps"].tolist() == [1, 2, 3]


def test_rows_that_run_out_of_steps_say_so():
    found = iterate(Counting(), None, torch.zeros(3, 1), tolerance=0.5, max_steps=2)
    assert found.status.tolist() == [
        Status.SOLVED, Status.SOLVED, Status.STEP_LIMIT,
    ]  # fmt: skip


@pytest.mark.parametrize("n", [3, 20])
def test_the_jacobian_is_that_of_forward_differentiation(n):
    generator = torch.Generator().manual_seed(0)
    W = torch.randn(n, n, generator=generator, dtype=torch.float64)
    x = torch.randn(4, n, generator=generator, dtype=torch.float64)
    program = RootProgram(lambda z: (z @ W).sin() * z, 4, n)
    expected = torch.stack(
        [torch.func.jacfwd(lambda one: (one @ W).sin() * one)(row) for row in x]
    )
    assert_close(program.jacobian(x), expected)
    v = torch.randn(4, n, generator=generator, dtype=torch.float64)
    product = (expected @ v.unsqueeze(2)).squeeze(2)
    assert_close(program.products(x)(v), product)
    transposed = (expected.mT @ v.unsqueeze(2)).squeeze(2)
    assert_close(program.transposed_products(x)(v), transposed)
