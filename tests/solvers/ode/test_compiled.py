"""`compile=True`: the same steps through `torch.compile`, or a word on why not."""

import warnings

import pytest
import torch
from torch.testing import assert_close

from optlayers.errors import CompileWarning, ShapeError
from optlayers.functional import integrate
from optlayers.programs.initial_value import InitialValueProgram
from optlayers.solvers import ode
from optlayers.solvers.ode import compiled

TIMES = torch.linspace(0, 3, 7, dtype=torch.float64)
# Sums of the same terms in another order, over some dozens of steps.
ROUNDING = {"rtol": 1e-9, "atol": 1e-12}


def start(batch):
    return torch.linspace(1, 2, 2 * batch, dtype=torch.float64).view(batch, 2)


def swing(t, x):
    return torch.stack((x[:, 1], -torch.sin(x[:, 0]) - 0.1 * x[:, 1] * t), 1)


def solved(method, batch=4, field=swing, times=TIMES, **options):
    with torch.no_grad():
        return integrate(field, start(batch), times, solver=method(**options)).value


@pytest.mark.parametrize(
    "method",
    [
        ode.Dopri5,
        pytest.param(ode.Bosh3, marks=pytest.mark.slow),
        pytest.param(ode.Tsit5, marks=pytest.mark.slow),
        pytest.param(ode.Dopri8, marks=pytest.mark.slow),
    ],
    ids=lambda one: one.__name__,
)
def test_compiled_steps_are_the_usual_ones(method, graphs):
    assert_close(solved(method, compile=True), solved(method), **ROUNDING)
    assert len(graphs) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"control": ode.PIDControl()},
        {"control": ode.FixedStep(size=0.1)},
        {"norm": "max"},
        {"joint": True},
    ],
    ids=str,
)
def test_options_of_steps_are_kept(options, graphs):
    found = solved(ode.Dopri5, compile=True, **options)
    assert_close(found, solved(ode.Dopri5, **options), **ROUNDING)
    assert len(graphs) == 1


@pytest.mark.slow
def test_time_may_run_backward(graphs):
    found = solved(ode.Dopri5, times=-TIMES, compile=True)
    assert_close(found, solved(ode.Dopri5, times=-TIMES), **ROUNDING)


@pytest.mark.slow
def test_a_start_of_other_strides_is_no_matter(graphs):
    first = start(8)[::2]
    with torch.no_grad():
        value = [
            integrate(swing, first, TIMES, solver=ode.Dopri5(compile=one)).value
            for one in (True, False)
        ]
    assert_close(*value, **ROUNDING)


@pytest.mark.slow
def test_other_tensors_and_tolerances_need_no_other_graph(graphs):
    for rate in (1.0, 2.0, 3.0):
        k = torch.full((4, 1), rate, dtype=torch.float64)
        # The closure is another one each time, its code the same.
        found = solved(ode.Dopri5, field=lambda t, x, k=k: -k * x, compile=True)
        expected = start(4).unsqueeze(1) * torch.exp(-rate * TIMES)[:, None]
        assert_close(found, expected, rtol=1e-4, atol=1e-6)
        solved(ode.Dopri5, field=lambda t, x, k=k: -k * x, rtol=1e-3, compile=True)
    assert len(graphs) == 2  # one for each of the two lambdas


@pytest.mark.slow
def test_all_batch_sizes_share_two_graphs(graphs):
    for batch in (4, 5, 6, 7):
        assert_close(
            solved(ode.Dopri5, batch, compile=True),
            solved(ode.Dopri5, batch),
            **ROUNDING,
        )
    assert len(graphs) == 2  # one of the first size, one of any


def test_steps_with_a_graph_are_not_compiled(graphs):
    x = start(2).requires_grad_()

    def last(x):
        solver = ode.Dopri5(compile=True, control=ode.FixedStep(size=0.5))
        return integrate(
            swing, x, TIMES[:3], solver=solver, gradient="direct", order=2
        ).value[:, -1]

    assert torch.autograd.gradgradcheck(last, (x,))
    assert not graphs


@pytest.mark.slow
def test_the_sweep_goes_over_compiled_steps(graphs):
    def gradient(compile):
        x = start(3).requires_grad_()
        solver = ode.Dopri5(compile=compile)
        value = integrate(swing, x, TIMES, solver=solver, gradient="sweep").value
        return torch.autograd.grad(value.sum(), x)[0]

    assert_close(gradient(True), gradient(False), **ROUNDING)
    assert len(graphs) == 1


def test_without_a_compiler_steps_are_taken_as_they_are(graphs, monkeypatch):
    monkeypatch.setattr(compiled, "has_compiler", lambda: False)
    with pytest.warns(CompileWarning, match=r"compile=True .* no C\+\+ compiler"):
        found = solved(ode.Dopri5, compile=True)
    assert torch.equal(found, solved(ode.Dopri5))


def test_a_compiler_is_looked_for_where_torch_looks(monkeypatch):
    monkeypatch.setenv("CXX", "there-is-no-such-compiler")
    assert not compiled.has_compiler()


def test_a_field_that_asks_for_values_is_told_of_once(graphs):
    def asking(t, x):
        return -x if bool((x > 0).all()) else -2 * x

    with pytest.warns(CompileWarning, match="compile=True"):
        found = solved(ode.Dopri5, field=asking, compile=True)
    solved(ode.Dopri5, field=asking, compile=True)  # another warning were an error
    assert torch.equal(found, solved(ode.Dopri5, field=asking))


@pytest.mark.slow
def test_one_hopeless_field_does_not_stop_the_others(graphs):
    def asking(t, x):
        return -x if bool((x > 0).all()) else -2 * x

    with pytest.warns(CompileWarning):
        solved(ode.Dopri5, field=asking, compile=True)
    solved(ode.Dopri5, compile=True)
    assert len(graphs) == 1


@pytest.mark.parametrize("count", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_rosenbrock_steps_compile_with_their_jacobian(count, graphs):
    def field(t, x):
        around = torch.roll(x, 1, 1)
        return -30 * (x - around**2) + torch.cos(t).unsqueeze(1) * around

    x = torch.linspace(0.2, 1, 3 * count, dtype=torch.float64).view(3, count)
    with torch.no_grad():
        found, expected = (
            integrate(field, x, TIMES, solver=ode.Rodas5P(compile=one)).value
            for one in (True, False)
        )
    # Inverses of I - h g J by elimination and by LAPACK differ by roundings, too.
    assert_close(found, expected, **ROUNDING)
    assert len(graphs) == 1


def test_errors_of_the_field_are_its_own(graphs):
    program = InitialValueProgram(lambda t, x: x[:, :1], start(2), TIMES.expand(2, -1))
    with torch.no_grad(), pytest.raises(ShapeError, match="one rate for each state"):
        ode.Dopri5(compile=True).solve(program)


@pytest.mark.slow
@pytest.mark.skipif(not compiled.has_compiler(), reason="needs a C++ compiler")
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_machine_code_gives_the_same_solution(dtype):
    torch._dynamo.reset()
    tolerance = {torch.float64: 1e-9, torch.float32: 1e-4}[dtype]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error", CompileWarning)
        found, expected = (
            integrate(
                swing, start(5).to(dtype), TIMES.to(dtype),
                solver=ode.Dopri5(rtol=1e-5, compile=one),
            ).value
            for one in (True, False)
        )  # fmt: skip
    assert_close(found, expected, rtol=tolerance, atol=tolerance)
