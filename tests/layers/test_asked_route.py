"""A convex declaration takes the nonlinear route where a nonlinear solver is named."""

import pytest
import torch

import optlayers as ol
from optlayers import Parameter, Variable, minimize
from optlayers.errors import ParameterError, SolverRefused, UnknownName

# Both routes solve to 1e-8 or better; the derivative is one linear solve away.
CLOSE = {"atol": 1e-7, "rtol": 1e-7}


@ol.problem
def project(x=Variable("n", lower=-1), y=Parameter("n"), a=Parameter("n")):
    plane = a @ x == 0.5
    return minimize(ol.sum_squares(x - y), plane=plane, cap=ol.sum(x) <= 1)


@ol.problem
def fit(x=Variable("n"), A=Parameter("m n"), b=Parameter("m")):
    return minimize(ol.sum(ol.logistic(A @ x - b)) + ol.sum_squares(x))


def _values(seed=0):
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn(2, 5, 4, generator=generator, dtype=torch.float64)
    return [one.requires_grad_() for one in (2 * draw[0], draw[1])]


def _solved(**options):
    y, a = _values()
    out = project(y=y, a=a, **options)
    weight = torch.linspace(-1, 2, out.x.numel(), dtype=out.x.dtype).view_as(out.x)
    total = (weight * out.x).sum() + out.dual.cap.sum() + out.dual["x.lower"].sum()
    total.backward()
    return out, y.grad, a.grad


@pytest.mark.parametrize(
    "solver", ["minimize.auto", "minimize.sqp", ol.solvers.minimize.InteriorPoint()]
)
def test_both_routes_find_the_same_point_multipliers_and_gradients(solver):
    convex, *convex_grads = _solved()
    smooth, *smooth_grads = _solved(solver=solver)
    torch.testing.assert_close(smooth.x, convex.x, **CLOSE)
    torch.testing.assert_close(smooth.objective, convex.objective, **CLOSE)
    for name in ("plane", "cap", "x.lower"):
        torch.testing.assert_close(smooth.dual[name], convex.dual[name], **CLOSE)
    for ours, theirs in zip(smooth_grads, convex_grads, strict=True):
        torch.testing.assert_close(ours, theirs, **CLOSE)


def test_the_route_is_named_and_so_is_the_reason():
    layer = project.layer(n=3, solver="minimize.auto")
    assert layer.kind == "minimize"
    assert layer.why.startswith("asked for:")
    assert project.layer(n=3).kind == "convex"
    assert project.layer(n=3, solver="convex.clarabel").kind == "convex"
    assert "asked for" in str(layer.explain())


def test_a_solver_of_one_call_changes_the_route_of_that_call_alone():
    y, a = (one.detach() for one in _values())
    layer = project.layer(n=4)
    first = layer(y=y, a=a)
    other = layer(y=y, a=a, solver="minimize.auto")
    again = layer(y=y, a=a)
    assert torch.equal(first.x, again.x)
    torch.testing.assert_close(other.x, first.x, **CLOSE)


def test_unconstrained_methods_are_reached_by_their_qualified_name():
    generator = torch.Generator().manual_seed(1)
    A = torch.randn(3, 8, 2, generator=generator, dtype=torch.float64)
    b = torch.randn(3, 8, generator=generator, dtype=torch.float64)
    convex = fit(A=A, b=b)
    for name in ("newton", "lbfgs", "newton_cg"):
        torch.testing.assert_close(
            fit(A=A, b=b, solver=f"minimize.{name}").x, convex.x, **CLOSE
        )


def test_names_without_a_kind_keep_their_meaning():
    with pytest.raises(UnknownName, match="no convex solver is called 'newton'"):
        project.layer(n=2, solver="newton")
    with pytest.raises(UnknownName, match="no minimize solver is called 'newtn'"):
        project.layer(n=2, solver="minimize.newtn")


def test_a_solver_of_a_third_kind_is_refused():
    with pytest.raises(SolverRefused, match="solves root programs"):
        project.layer(n=2, solver="root.newton")


def test_options_follow_the_route():
    with pytest.raises(ParameterError, match="one of exact, least_squares"):
        project.layer(n=2, solver="minimize.auto", gradient="diffcp")


def test_what_is_convex_but_not_smooth_is_refused_by_name():
    @ol.problem
    def ranked(x=Variable("n"), y=Parameter("n")):
        return minimize(ol.sum_squares(x - y) + ol.sum_largest(x, 2))

    with pytest.raises(SolverRefused, match=r"asked for(?s:.*)sum_largest.*t >= "):
        ranked.layer(n=3, solver="minimize.auto")


def test_what_must_be_convex_may_be_solved_as_smooth():
    @ol.problem(convex=True)
    def near(x=Variable("n"), y=Parameter("n")):
        return minimize(ol.sum_squares(x - y))

    y = torch.tensor([1.0, 2.0], dtype=torch.float64)
    torch.testing.assert_close(near(y=y, solver="minimize.newton").x, y, **CLOSE)


def test_a_convex_solver_does_not_make_a_declaration_convex():
    @ol.problem
    def saddle(x=Variable("2", lower=-1, upper=1)):
        return minimize(x[0] * x[1])

    with pytest.raises(SolverRefused, match="solves convex programs"):
        saddle.layer(solver="convex.clarabel")
