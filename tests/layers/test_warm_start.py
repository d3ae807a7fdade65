import copy
import pickle

import pytest
import torch
from torch.testing import assert_close

import optlayers as ol
from optlayers import Control, Parameter, State, Variable, minimize, solve
from optlayers.errors import NotSupported, ParameterError, ShapeError, UnknownName
from tests.layers.nonconvex import double, ring

# A KKT residual of 1e-8 at a condition of some tens.
CLOSE = {"rtol": 0, "atol": 1e-6}


@ol.problem
def wells(x=Variable(start=1), y=Variable("2", start=3), c=Parameter()):
    """Two wells in x, at +-sqrt c, and one in y."""
    return minimize((x**2 - c) ** 2 + ol.sum((y - x) ** 2))


@ol.problem
def wave(x=Variable(start=3), w=Parameter()):
    return solve(torch.sin(x + w) == 0)


def test_every_sample_begins_where_it_is_told():
    c = double(1.0, 4.0, 4.0)
    out = wells(c, warm_start={"x": double(-0.5, 0.5, -9.0)})
    assert_close(out.x, double(-1.0, 2.0, -2.0), **CLOSE)
    assert_close(out.y, out.x[:, None].expand(-1, 2), **CLOSE)


def test_starts_broadcast_against_parameters():
    starts = double(-1.0, 0.5, 2.0)[:, None]
    out = wells(double(1.0, 4.0), warm_start={"x": starts})
    assert out.x.shape == (3, 2) and out.y.shape == (3, 2, 2)
    roots = double(1.0, 2.0)
    assert_close(out.x, torch.stack([-roots, roots, roots]), **CLOSE)


def test_starts_alone_make_a_batch():
    layer = wells.layer(c=double(4.0)[0])
    assert_close(layer(warm_start={"x": [-1.0, 1.0]}).x, double(-2.0, 2.0), **CLOSE)


def test_a_result_is_a_start_which_saves_steps():
    r = double(0.8, 1.0)
    layer = ring.layer(solver="sqp")
    first = layer(20.0, r)
    again = layer(20.0, r + 1e-4, warm_start=first)
    cold = layer(20.0, r + 1e-4)
    assert_close(again.x, cold.x, **CLOSE)
    assert bool((again.stats["steps"] < cold.stats["steps"]).all())


def test_failed_rows_of_a_result_begin_as_declared():
    c = double(1.0, torch.nan, 4.0)
    first = wells(c, on_failure="nan", warm_start={"x": -1.0})
    assert bool(first.x[1].isnan())
    again = wells(double(1.0, 1.0, 4.0), warm_start=first)
    assert_close(again.x, double(-1.0, 1.0, -2.0), **CLOSE)


def test_a_start_is_no_parameter():
    start = double(-1.0, 1.0, requires_grad=True)
    c = double(4.0, requires_grad=True)
    out = wells(c, warm_start={"x": start})
    out.x.sum().backward()
    # d(+-sqrt c) / dc = +-1 / (2 sqrt c).
    assert start.grad is None
    assert_close(c.grad, double(0.0), **CLOSE)
    (slope,) = torch.autograd.grad(wells(c, warm_start={"x": start}).x[0], c)
    assert_close(slope, double(-0.25), **CLOSE)


def test_a_layer_keeps_its_start_and_can_be_copied():
    layer = wells.layer(warm_start={"x": -1.0})
    for one in (layer, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert_close(one(double(4.0)).x, double(-2.0), **CLOSE)
        assert_close(one(double(4.0), warm_start=None).x, double(2.0), **CLOSE)


def test_a_result_with_a_graph_may_be_bound():
    first = wells(double(4.0, requires_grad=True), warm_start={"x": -1.0})
    layer = copy.deepcopy(wells.layer(warm_start=first))
    assert_close(layer(double(1.0)).x, double(-1.0), **CLOSE)


def test_stages_stand_in_front_of_a_start():
    @ol.problem
    def swing(q=State(), u=Control(lower=-9, upper=9), q0=Parameter()):
        # sin u is wanted, and has its value from many u.
        return minimize(
            ol.total((torch.sin(u) - 0.5) ** 2) + q.last**2,
            begin=q.first == q0,
            turn=q.next == q + 0.1 * torch.cos(u),
        )

    layer = swing.layer(steps=3)
    first = layer(double(0.0))
    assert first.u.abs().max() < 2
    out = layer(double(0.0), warm_start={"u": torch.full((3,), 6.8)})
    assert bool(((out.u - 6.8).abs() < 1.6).all())
    out = layer(double(0.0, 0.1), warm_start=out)
    assert out.u.shape == (2, 3) and bool(((out.u - 6.8).abs() < 1.6).all())
    with pytest.raises(ShapeError, match="warm_start of u"):
        layer(double(0.0), warm_start={"u": 6.8})


def test_roots_take_one_too():
    w = double(0.5, 0.5)
    out = wave(w, warm_start={"x": double(0.1, 6.0)})
    assert_close(out.x, double(-0.5, 2 * torch.pi - 0.5), **CLOSE)


def test_single_precision_begins_anywhere():
    out = wells(torch.tensor([4.0]), warm_start={"x": double(-1.0)})
    assert out.x.dtype == torch.float32
    assert_close(out.x, torch.tensor([-2.0]), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ({"z": 1.0}, UnknownName, r"'z'.*no variable.*x, y"),
        ({"c": 1.0}, UnknownName, r"'c'.*no variable"),
        (double(1.0), ParameterError, r"Tensor; give the result"),
        ({"x": "far"}, ParameterError, "warm_start of x"),
        ({"x": double(1.0, 2.0)}, ShapeError, r"(?s)c \[3\].*warm_start of x \[2\]"),
        ({"y": 1.0}, ShapeError, r"warm_start of y"),
    ],
)
def test_what_is_no_start_is_named(given, error, match):
    with pytest.raises(error, match=match):
        wells(double(1.0, 2.0, 3.0), warm_start=given)


def test_the_result_of_another_problem_is_refused():
    @ol.problem
    def other(side=Variable("2")):
        return minimize(ol.prod(side), ol.sum_squares(side) <= 1)

    out = wells(1.0)
    with pytest.raises(UnknownName, match="a result without any of side"):
        other(warm_start=out)


def test_kinds_that_begin_where_they_must_refuse_it():
    @ol.problem
    def near(x=Variable("2"), p=Parameter("2")):
        return minimize(ol.sum_squares(x - p))

    for call in (near, near.layer()):
        with pytest.raises(NotSupported, match=r"kind convex take none.*root and mini"):
            call(double(1.0, 2.0), warm_start={"x": double(1.0, 1.0)})
    with pytest.raises(NotSupported, match="kind convex take none"):
        near.layer(warm_start={"x": double(1.0, 1.0)})
    # As a smooth problem it has a start.
    out = near(
        double(1.0, 2.0), solver="minimize.auto", warm_start={"x": double(1.0, 1.0)}
    )
    assert_close(out.x, double(1.0, 2.0), **CLOSE)


def test_transforms_see_through_a_start():
    starts = double(-1.0, 1.0)
    c = double(4.0)[0]
    out = torch.func.vmap(lambda x: wells(c, warm_start={"x": x}).x)(starts)
    assert_close(out, double(-2.0, 2.0), **CLOSE)
    slopes = torch.func.jacrev(lambda c: wells(c, warm_start={"x": starts}).x)(c)
    assert_close(slopes, double(-0.25, 0.25), **CLOSE)


@pytest.mark.slow
def test_compiled_code_takes_a_start():
    layer = wells.layer()
    compiled = torch.compile(
        lambda c, x: layer(c, warm_start={"x": x}).x, fullgraph=True, backend="eager"
    )
    starts = double(-1.0, 1.0)
    assert_close(compiled(double(4.0)[0], starts), double(-2.0, 2.0), **CLOSE)


@pytest.mark.parametrize("given", [double(0.0, 0.0, 0.0), torch.ones(1), 1.0])
def test_a_start_of_another_size_than_its_variable_is_named(given):
    with pytest.raises(ShapeError, match=r"warm_start of y.*y is \[2\]"):
        wells(double(1.0), warm_start={"y": given})
    with pytest.raises(ShapeError, match=r"warm_start of z.*z is \[2\]"):
        pair(1.0, warm_start={"z": given})


@ol.problem
def pair(z=Variable("2"), w=Parameter()):
    return solve(z == w * torch.cos(z))


@ol.problem
def turned(R=ol.SO3(), P=ol.SE3(), a=Parameter("3"), b=Parameter("3")):
    return minimize(ol.sum_squares(R @ a - b) + ol.sum_squares(P @ a - b))


@pytest.mark.parametrize(("name", "size", "own"), [("R", 4, 3), ("P", 3, 4)])
def test_a_pose_of_another_group_is_no_start(name, size, own):
    a = torch.ones(3, dtype=torch.float64)
    match = rf"warm_start of {name} \[{size}, {size}\]: {name} is \[{own}, {own}\]"
    with pytest.raises(ShapeError, match=match):
        turned(a, a, warm_start={name: torch.eye(size, dtype=torch.float64)})
