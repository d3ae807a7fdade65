"""hold and interpolate: values between knots, derivatives, and in declarations."""

import numpy as np
import pytest
import torch
from scipy.interpolate import interp1d
from torch.testing import assert_close

import optlayers as ol
from optlayers.errors import NotConvex, ShapeError
from optlayers.modeling.evaluate import Evaluator
from optlayers.modeling.field_kinds import Control, Parameter, State, Time, Variable
from optlayers.modeling.verbs import minimize
from tests.modeling.traced import built, value_of

KNOTS = torch.tensor([0.0, 0.5, 2.0, 3.0], dtype=torch.float64)
# Before, at, between, at the last and behind all knots.
TIMES = (-1.0, 0.0, 0.25, 0.5, 1.9, 2.0, 2.5, 3.0, 4.0)
SCIPYS = {"hold": "previous", "interpolate": "linear"}
both = pytest.mark.parametrize("name", SCIPYS)


def values_of(shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@both
@pytest.mark.parametrize("shape", [(4,), (4, 2), (4, 2, 3)])
def test_values_are_scipys_with_the_end_values_outside(name, shape):
    values = values_of(shape)
    reference = interp1d(
        KNOTS.numpy(),
        values.numpy(),
        SCIPYS[name],
        axis=0,
        bounds_error=False,
        fill_value=(values[0].numpy(), values[-1].numpy()),
    )
    for t in TIMES:
        found = getattr(ol, name)(values, KNOTS, t)
        # Two roundings of one formula.
        assert_close(found, torch.as_tensor(reference(t)), rtol=1e-14, atol=1e-15)


def test_a_held_value_is_taken_from_its_knot_on():
    values = torch.tensor([1.0, 2.0, 3.0])
    knots = torch.tensor([0.0, 1.0, 2.0])
    just_before = torch.nextafter(torch.tensor(1.0), torch.tensor(0.0))
    assert ol.hold(values, knots, just_before) == 1.0
    assert ol.hold(values, knots, 1.0) == 2.0
    assert ol.hold(torch.tensor([7.0]), torch.tensor([1.0]), -3.0) == 7.0


def test_knots_are_met_exactly():
    values, knots = torch.tensor([0.1, 0.7, 1e8]), torch.tensor([0.1, 0.3, 0.7])
    for value, knot in zip(values, knots, strict=True):
        assert ol.interpolate(values, knots, knot) == value


@pytest.mark.parametrize("t", [0.2, 1.0, 2.7])
def test_a_line_is_differentiable_twice_in_values_knots_and_time(t):
    leaves = (values_of((4, 2)), KNOTS.clone(), torch.tensor(t).double())
    for one in leaves:
        one.requires_grad_()
    assert torch.autograd.gradcheck(ol.interpolate, leaves)
    assert torch.autograd.gradgradcheck(ol.interpolate, leaves)


def test_a_held_value_is_differentiable_in_the_values():
    values = values_of((4, 2)).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: ol.hold(v, KNOTS, 1.0), values)


def test_outside_the_knots_nothing_depends_on_time():
    t = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
    knots = KNOTS.clone().requires_grad_()
    ol.interpolate(values_of((4,)), knots, t).backward()
    assert t.grad == 0 and bool((knots.grad == 0).all())


def test_knots_that_coincide_make_a_jump_with_finite_derivatives():
    values = torch.tensor([0.0, 1.0, 5.0, 6.0]).double().requires_grad_()
    knots = torch.tensor([0.0, 1.0, 1.0, 2.0]).double().requires_grad_()
    assert ol.interpolate(values, knots, 1.0) == 5.0
    doubled = torch.tensor([0.0, 0.0, 1.0, 2.0]).double().requires_grad_()
    for at, t in ((knots, 1.0), (knots, 0.5), (doubled, -1.0), (doubled, 0.0)):
        found = ol.interpolate(values, at, t)
        gradients = torch.autograd.grad(found, (values, at))
        assert all(bool(one.isfinite().all()) for one in gradients)


@both
def test_batch_axes_and_vmap_give_the_rows_one_by_one(name):
    function = getattr(ol, name)
    values, t = values_of((9, 4, 2)), torch.tensor(TIMES).double()
    knots = KNOTS + values_of((9, 1), seed=1)
    apart = torch.stack([function(*row) for row in zip(values, knots, t, strict=True)])
    assert_close(function(values, knots, t), apart, rtol=0, atol=0)
    assert_close(torch.func.vmap(function)(values, knots, t), apart, rtol=0, atol=0)
    shared = torch.func.vmap(function, (None, None, 0))(values[0], KNOTS, t)
    apart = torch.stack([function(values[0], KNOTS, one) for one in t])
    assert_close(shared, apart, rtol=0, atol=0)


@both
def test_in_a_declaration_it_is_an_expression_of_that_value(name):
    def body(x=Variable(), v=Parameter("k m"), s=Parameter("k"), t=Parameter()):
        return minimize(x**2), getattr(ol, name)(v, s, 2 * t)

    node, values = built(body, k=4, m=2), values_of((4, 2))
    found = value_of(node, v=values, s=KNOTS, t=torch.tensor(0.7).double())
    assert node.shape == (2,)
    assert_close(found, getattr(ol, name)(values, KNOTS, 1.4))


@both
@pytest.mark.parametrize("shared", ["", "s", "vs", "t", "vst"])
def test_for_a_batch_it_is_evaluated_at_once(name, shared, monkeypatch):
    def body(x=Variable(), v=Parameter("k m"), s=Parameter("k"), t=Parameter()):
        return minimize(x**2), getattr(ol, name)(v, s, 2 * t)

    rows = {
        "v": values_of((5, 4, 2)),
        "s": KNOTS + values_of((5, 1), seed=1),
        "t": torch.linspace(-0.5, 2.0, 5, dtype=torch.float64),
    }
    given = {n: one[0] if n in shared else one for n, one in rows.items()}
    evaluator = Evaluator([built(body, k=4, m=2)])
    rows = {n: one.expand(rows[n].shape) for n, one in given.items()}
    samples = [{n: one[k] for n, one in rows.items()} for k in range(5)]
    apart = torch.stack([evaluator(one, {})[0] for one in samples])
    monkeypatch.delattr(torch.func, "vmap")
    (found,), (is_batched,) = evaluator.batched(given, {})
    assert is_batched == (shared != "vst")
    assert_close(found, apart if is_batched else apart[0], rtol=0, atol=0)


def test_in_a_rate_it_is_data_as_a_function_of_time():
    @ol.problem
    def driven(
        x=State("m"),
        v=Parameter("k m"),
        s=Parameter("k"),
        u=Control(),
        t=Time(),
    ):
        rate = ol.interpolate(v, s, t) + u * ol.hold([0.0, 1.0], [0.0, 2.0], t)
        return ol.integrate(ol.der(x) == rate - x, x.first == 0)

    text = str(driven)
    assert "dx/dt = interpolate(v, s, t) + u hold((0, 1), (0, 2), t) − x" in text


REFUSED = [
    (lambda o, v, s, t: o.hold(v, s[:-1], t), "a value for each of 3 knots"),
    (lambda o, v, s, t: o.interpolate(v[:1], s[:1], t), "at least 2 knots"),
    (lambda o, v, s, t: o.hold(v, v, t), "the knots must be a vector"),
    (lambda o, v, s, t: o.hold(t, s, t), "a value for each of 4 knots"),
]


@pytest.mark.parametrize(("call", "words"), REFUSED)
def test_samples_that_do_not_fit_are_refused_with_shapes(call, words):
    def body(x=Variable(), v=Parameter("k m"), s=Parameter("k"), t=Parameter()):
        return minimize(x**2), call(ol, v, s, t)

    with pytest.raises(ShapeError, match=words) as caught:
        built(body, k=4, m=2)
    assert str(caught.value).startswith("test_signals.py:")
    with pytest.raises(ShapeError, match=words):
        call(ol, values_of((4, 2)), KNOTS, torch.tensor(0.0))


def test_a_time_in_a_declaration_is_a_scalar():
    def body(x=Variable(), v=Parameter("k"), s=Parameter("k")):
        return minimize(x**2), ol.hold(v, s, s)

    with pytest.raises(ShapeError, match="the last argument must be a scalar"):
        built(body, k=4)


def test_a_convex_program_takes_it_of_parameters_and_refuses_it_of_variables():
    @ol.problem
    def near(x=Variable(), v=Parameter("k"), s=Parameter("k"), t=Parameter()):
        return minimize((x - ol.interpolate(v, s, t)) ** 2)

    @ol.problem(convex=True)
    def chosen(x=Variable("k"), s=Parameter("k"), t=Parameter()):
        return minimize(ol.interpolate(x, s, t) ** 2)

    values = np.array([1.0, 3.0, 2.0, 0.0])
    assert_close(near(v=values, s=KNOTS.numpy(), t=0.25).x.item(), 2.0)
    with pytest.raises(NotConvex):
        chosen(s=KNOTS, t=0.25)
