"""torch.compile, torch.func and threads around a layer."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

import optlayers as ol
from optlayers import Parameter, Variable, minimize
from optlayers.errors import OrderError, SolveError
from optlayers.testing.cone_zoo import CONIC
from optlayers.testing.zoo import portfolio, project
from tests.layers.declared import box, regulator

DOUBLE = {"dtype": torch.float64}
CLOSE = {"rtol": 0, "atol": 1e-9}  # a residual of 1e-11 and its condition


def call(rows=3) -> dict:
    generator = torch.Generator().manual_seed(1)
    return {
        "y": torch.randn(rows, 3, generator=generator, **DOUBLE),
        "w": torch.rand(rows, 3, generator=generator, **DOUBLE) + 0.1,
        "r": torch.randn(rows, generator=generator, **DOUBLE),
    }


class Controller(nn.Module):
    """A network that ends in a layer."""

    def __init__(self, **options) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3, dtype=torch.float64)
        self.layer = box.layer(n=3, w=nn.Parameter(torch.ones(3, **DOUBLE)), **options)

    def forward(self, obs, limit):
        return self.layer(y=self.first(obs), r=limit).x


@pytest.mark.parametrize("options", [{}, {"on_failure": "nan"}], ids=["raise", "nan"])
def test_a_compiled_model_gives_the_same_values_and_gradients(options):
    torch.manual_seed(0)
    model = Controller(**options)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    obs, limit = torch.randn(4, 3, **DOUBLE), torch.randn(4, **DOUBLE)
    plain = model(obs, limit)
    plain.square().sum().backward()
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    out = compiled(obs, limit)
    out.square().sum().backward()
    assert_close(out, plain)
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        assert_close(parameter.grad, gradient)


def test_a_layer_may_be_called_for_the_first_time_while_compiling():
    @ol.problem
    def nearest(x=Variable("n"), y=Parameter("n"), r=Parameter()):
        return minimize(ol.sum_squares(x - y), ol.sum(x) == r)

    layer = nearest.layer(n=3)
    compiled = torch.compile(
        lambda y, r: layer(y=y, r=r).x, fullgraph=True, backend="aot_eager"
    )
    y, r = torch.randn(2, 3, **DOUBLE), torch.zeros(2, **DOUBLE)
    assert_close(compiled(y, r), y - y.mean(dim=1, keepdim=True))


def test_a_compiled_model_still_raises_on_failure():
    model = Controller()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with pytest.raises(SolveError, match="sample 1: INFEASIBLE"):
        compiled(torch.zeros(2, 3, **DOUBLE), torch.tensor([0.0, -50.0], **DOUBLE))


def test_vmap_over_a_layer_is_the_batch():
    given = call(5)
    layer = box.layer()
    out = torch.func.vmap(lambda y, w, r: layer(y=y, w=w, r=r).x)(*given.values())
    assert_close(out, layer(**given).x)


def test_vmap_may_return_a_whole_result():
    given = call(4)
    out = torch.func.vmap(lambda y: box(y=y, w=given["w"][0], r=0.2))(given["y"])
    assert out.x.shape == (4, 3) and out.status.shape == (4,)


def test_forward_and_reverse_mode_agree():
    given = {name: value[0] for name, value in call().items()}
    layer = box.layer()

    def function(y):
        return layer(y=y, w=given["w"], r=given["r"]).x

    tangent = torch.randn(3, **DOUBLE)
    _, forward = torch.func.jvp(function, (given["y"],), (tangent,))
    reverse = torch.func.jacrev(function)(given["y"])
    assert_close(forward, reverse @ tangent)
    assert_close(torch.func.jacfwd(function)(given["y"]), reverse)


def test_per_sample_gradients_by_vmap_of_grad():
    given = call(4)
    layer = box.layer()

    def loss(y, w, r):
        return layer(y=y, w=w, r=r).x.square().sum()

    per_sample = torch.func.vmap(torch.func.grad(loss))(*given.values())
    y = given["y"].clone().requires_grad_()
    layer(y=y, w=given["w"], r=given["r"]).x.square().sum().backward()
    assert_close(per_sample, y.grad)


def test_eight_threads_may_call_one_layer_at_once():
    layer = regulator.layer(steps=8)
    A = torch.tensor([[1.0, 0.1], [0.0, 1.0]], **DOUBLE)
    B = torch.tensor([[0.0], [0.1]], **DOUBLE)

    def work(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        x0 = torch.randn(4, 2, generator=generator, **DOUBLE).requires_grad_()
        out = layer(
            x0=x0, A=A, B=B, q=torch.ones(2, **DOUBLE), r=torch.ones(1, **DOUBLE)
        )
        (gradient,) = torch.autograd.grad(out.u.square().sum(), x0)
        return out.u.detach(), gradient

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(work, range(24)))
    for seed, (u, gradient) in enumerate(together):
        alone = work(seed)
        assert torch.equal(u, alone[0])
        assert torch.equal(gradient, alone[1])


def quadratic_inputs() -> tuple:
    generator = torch.Generator().manual_seed(2)
    y = 2 * torch.randn(2, 4, generator=generator, **DOUBLE)
    A = torch.randn(3, 4, generator=generator, **DOUBLE)
    b = torch.rand(3, generator=generator, **DOUBLE)
    return tuple(value.requires_grad_() for value in (y, A, b))


def test_second_derivatives_of_a_quadratic_program():
    layer = project.layer(order=2)

    def outputs(y, A, b):
        out = layer(y=y, A=A, b=b)
        return out.x, out.dual.inside, out.objective

    assert gradcheck(outputs, quadratic_inputs(), atol=1e-6)
    assert gradgradcheck(outputs, quadratic_inputs(), atol=1e-5)


def test_second_derivatives_of_a_second_order_cone_program():
    layer = portfolio.layer(order=2)
    generator = torch.Generator().manual_seed(3)
    mu = torch.rand(2, 3, generator=generator, **DOUBLE)
    L = torch.eye(3, **DOUBLE) + 0.1 * torch.randn(3, 3, generator=generator, **DOUBLE)
    risk = torch.tensor([0.62, 0.65], **DOUBLE)
    inputs = tuple(value.requires_grad_() for value in (mu, L, risk))

    def outputs(mu, L, risk):
        out = layer(mu=mu, L=L, risk=risk)
        return out.w, out.dual.cap, out.objective

    assert gradcheck(outputs, inputs, atol=1e-6)
    assert gradgradcheck(outputs, inputs, atol=1e-4)


@pytest.mark.parametrize("specimen", CONIC, ids=lambda one: one.name)
def test_transforms_take_every_cone(specimen):
    layer = specimen.problem.layer(order=2)
    given = specimen.batch(2, seed=5)
    (first, *_) = given
    (variable,) = specimen.problem.declared.variable_names

    def solve(moved, row):
        return layer(**row | {first: moved})[variable]

    rows = [{name: value[i] for name, value in given.items()} for i in range(2)]
    apart = torch.stack([solve(row[first], row) for row in rows])
    assert_close(torch.func.vmap(solve)(given[first], given), apart, **CLOSE)
    row = rows[0]
    reverse = torch.func.jacrev(solve)(row[first], row)
    assert_close(torch.func.jacfwd(solve)(row[first], row), reverse, **CLOSE)
    # Second derivatives against differences of the first ones along a direction.
    generator = torch.Generator().manual_seed(6)
    direction = torch.randn(row[first].shape, generator=generator, **DOUBLE)

    def slopes(moved):
        return torch.func.grad(lambda m: solve(m, row).cos().sum())(moved)

    _, second = torch.func.jvp(slopes, (row[first],), (direction,))
    step = 1e-5 * direction
    difference = (slopes(row[first] + step) - slopes(row[first] - step)) / 2e-5
    assert_close(second, difference, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("specimen", CONIC, ids=lambda one: one.name)
def test_every_cone_compiles_without_a_break(specimen):
    layer, given = specimen.problem.layer(), specimen.batch(2, seed=5)
    (variable,) = specimen.problem.declared.variable_names

    def solve(**row):
        return layer(**row)[variable]

    compiled = torch.compile(solve, fullgraph=True, backend="aot_eager")
    assert_close(compiled(**given), solve(**given), **CLOSE)


@pytest.mark.parametrize("output", ["x", "objective"])
def test_differentiating_twice_at_order_one_raises(output):
    y, A, b = quadratic_inputs()
    out = project(y=y, A=A, b=b)
    (gradient,) = torch.autograd.grad(
        out[output].sum() if output == "x" else out.objective.sum(),
        y,
        create_graph=True,
    )
    with pytest.raises(OrderError, match="order="):
        torch.autograd.grad(gradient.sum(), y)
