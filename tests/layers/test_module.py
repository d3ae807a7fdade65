"""A layer as an nn.Module: binding, state, copies, dtypes, names."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

import optlayers as ol
from optlayers import Parameter, Variable, minimize
from optlayers.errors import (
    DeclarationError,
    InvalidDataError,
    ParameterError,
    ShapeError,
    UnknownName,
)
from tests.layers.declared import box, encoded, encoder, gain, regulator

DOUBLE = {"dtype": torch.float64}


def call(rows=2) -> dict:
    generator = torch.Generator().manual_seed(1)
    return {
        "y": torch.randn(rows, 3, generator=generator, **DOUBLE),
        "w": torch.rand(rows, 3, generator=generator, **DOUBLE) + 0.1,
        "r": torch.randn(rows, generator=generator, **DOUBLE),
    }


def test_a_bound_tensor_is_a_buffer_and_a_parameter_is_learned():
    weight = nn.Parameter(torch.tensor([1.0, 2.0, 3.0], **DOUBLE))
    layer = box.layer(r=torch.tensor(0.5, **DOUBLE), w=weight)
    assert set(layer.state_dict()) == {"r", "w"}
    assert [p is weight for p in layer.parameters()] == [True]
    layer(y=call()["y"]).x.sum().backward()
    assert weight.grad is not None and weight.grad.abs().sum() > 0


def test_a_learned_nonnegative_parameter_can_never_leave_its_declaration():
    weight = nn.Parameter(torch.tensor([1.0, 0.0, 3.0], **DOUBLE))
    layer = box.layer(w=weight)
    assert torch.equal(layer.bound()["w"], weight)
    with torch.no_grad():
        weight.copy_(torch.tensor([-1.0, 0.2, 3.0], **DOUBLE))
    assert torch.equal(layer.bound()["w"], torch.tensor([1.0, 0.2, 3.0], **DOUBLE))
    assert layer(y=call()["y"], r=1.0).ok.all()


def test_modules_and_parameters_met_in_the_declaration_are_registered_and_trained():
    layer = encoded.layer()
    names = dict(layer.named_parameters())
    assert set(names) == {"encoder.weight", "encoder.bias", "gain"}
    assert names["gain"] is gain and layer.encoder is encoder
    layer(obs=torch.ones(4, 3, **DOUBLE)).x.sum().backward()
    assert encoder.weight.grad is not None
    assert gain.grad is not None


def test_copies_train_apart():
    layer = encoded.layer()
    twin = copy.deepcopy(layer)
    assert twin.encoder is not layer.encoder
    with torch.no_grad():
        twin.encoder.bias += 1
    obs = torch.ones(3, **DOUBLE)
    assert not torch.equal(twin(obs=obs).x, layer(obs=obs).x)


def test_a_layer_pickles_and_answers_the_same():
    layer = box.layer(r=torch.tensor(0.5, **DOUBLE))
    given = {name: value for name, value in call().items() if name != "r"}
    before = layer(**given).x
    again = pickle.loads(pickle.dumps(layer))
    assert torch.equal(again(**given).x, before)


def test_state_dict_round_trip():
    layer = box.layer(w=nn.Parameter(torch.ones(3, **DOUBLE)))
    other = box.layer(w=nn.Parameter(torch.zeros(3, **DOUBLE)))
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other.bound()["w"], torch.ones(3, **DOUBLE))


def test_moving_a_layer_to_float32_moves_its_tensors_and_answers():
    layer = box.layer(r=torch.tensor(0.5, **DOUBLE)).float()
    given = {name: value.float() for name, value in call().items() if name != "r"}
    out = layer(**given)
    assert out.x.dtype == out.objective.dtype == out.dual.limit.dtype == torch.float32
    exact = box(**{name: value.double() for name, value in given.items()}, r=0.5)
    assert_close(out.x.double(), exact.x, rtol=1e-6, atol=1e-6)


def test_parameters_may_come_by_position_and_as_numbers():
    given = call()
    named = box(**given).x
    assert torch.equal(box(given["y"], given["w"], given["r"]).x, named)
    assert torch.equal(
        box(given["y"], w=given["w"], r=1).x, box(given["y"], given["w"], 1.0).x
    )


def test_any_number_of_batch_dimensions_broadcasts():
    generator = torch.Generator().manual_seed(3)
    y = torch.randn(4, 1, 3, generator=generator, **DOUBLE)
    w = torch.rand(5, 3, generator=generator, **DOUBLE) + 0.1
    out = box(y=y, w=w, r=0.3)
    assert out.x.shape == (4, 5, 3)
    assert out.objective.shape == out.ok.shape == out.dual.limit.shape == (4, 5)
    assert_close(out.x[2, 3], box(y=y[2, 0], w=w[3], r=0.3).x)


def test_without_a_batch_dimension_results_have_none():
    out = box(**{name: value[0] for name, value in call().items()})
    assert out.x.shape == (3,)
    assert out.status.shape == out.objective.shape == ()


def test_an_empty_batch_gives_empty_results_and_gradients():
    given = {name: value[:0].requires_grad_() for name, value in call().items()}
    out = box(**given)
    assert out.x.shape == (0, 3) and out.objective.shape == (0,)
    out.x.sum().backward()
    assert given["y"].grad.shape == (0, 3)


def test_shared_parameters_collect_the_sum_of_their_rows():
    given = call(4)
    shared = given["w"][0].clone().requires_grad_()
    box(y=given["y"], w=shared, r=given["r"]).x.square().sum().backward()
    apart = torch.zeros(3, **DOUBLE)
    for row in range(4):
        one = shared.detach().clone().requires_grad_()
        box(y=given["y"][row], w=one, r=given["r"][row]).x.square().sum().backward()
        apart += one.grad
    assert_close(shared.grad, apart)


def test_sizes_are_inferred_at_the_call_and_may_change():
    layer = box.layer()
    assert layer(**call()).x.shape == (2, 3)
    assert layer(y=torch.zeros(5), w=torch.ones(5), r=1.0).x.shape == (5,)


def test_stages_shape_the_results():
    layer = regulator.layer(steps=5, n=2, m=1)
    A = torch.tensor([[1.0, 0.1], [0.0, 1.0]])
    out = layer(
        x0=torch.ones(7, 2),
        A=A,
        B=torch.tensor([[0.0], [0.1]]),
        q=torch.ones(2),
        r=torch.ones(1),
    )
    assert out.x.shape == (7, 6, 2) and out.u.shape == (7, 5, 1)
    assert out.dual.dynamics.shape == (7, 5, 2) and out.dual.start.shape == (7, 2)
    assert out.dual["u.lower"].shape == (7, 5, 1)
    assert layer.kind == "convex"


def wrong(message, error, **changes):
    given = {name: changes.get(name, value) for name, value in call().items()}
    given |= {name: value for name, value in changes.items() if name not in given}
    return pytest.param(given, error, message, id=message)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        wrong("Did you mean", UnknownName, ww=torch.ones(3)),
        wrong("Parameter", ShapeError, y=torch.zeros(2, 4, **DOUBLE)),
        wrong("float32", ParameterError, y=torch.zeros(2, 3)),
        wrong("int64", ParameterError, y=torch.zeros(2, 3, dtype=torch.int64)),
        wrong("str", ParameterError, y="zero"),
        wrong("not a parameter", UnknownName, x=torch.zeros(3, **DOUBLE)),
        wrong("solver", (UnknownName, LookupError), solver="clarabell"),
        wrong("on_failure", ParameterError, on_failure="ignore"),
        wrong("order", ParameterError, order=0),
        wrong("tolerance", ParameterError, tolerance=-1.0),
        wrong("batch", ShapeError, y=torch.zeros(7, 3, **DOUBLE)),
    ],
)
def test_mistakes_in_a_call_name_what_is_wrong(given, error, message):
    with pytest.raises(error, match=f"(?s){message}"):
        box(**given)


def test_a_missing_parameter_is_named_with_its_declaration():
    with pytest.raises(ParameterError, match="missing r"):
        box(y=torch.zeros(3), w=torch.ones(3))


def test_mistakes_at_construction_are_named():
    with pytest.raises(UnknownName, match="Did you mean on_failure"):
        box.layer(on_failur="nan")
    with pytest.raises(DeclarationError, match="steps"):
        regulator.layer(n=2, m=1)
    with pytest.raises(DeclarationError, match="steps"):
        box.layer(steps=3)
    with pytest.raises(ShapeError):
        box.layer(n=4, w=torch.ones(3))


def test_a_bound_parameter_cannot_be_given_again():
    layer = box.layer(r=1.0)
    with pytest.raises(ParameterError, match="bound"):
        layer(**call())


def test_unknown_result_fields_suggest_the_right_one():
    out = box(**call())
    with pytest.raises(AttributeError, match="limit"):
        _ = out.dual.limitt
    with pytest.raises(AttributeError, match="no variable"):
        _ = out.z


def test_names_of_modules_may_be_parameters():
    @ol.problem
    def typed(x=Variable("n"), type=Parameter("n"), training=Parameter("n")):
        return minimize(ol.sum_squares(x - type - training))

    layer = typed.layer(type=torch.ones(2), training=nn.Parameter(torch.ones(2)))
    assert_close(layer().x, torch.full((2,), 2.0))


def test_a_learned_parameter_must_start_inside_its_declaration():
    with pytest.raises(InvalidDataError, match=r"w\[1\] is -1.*nonneg.*inside"):
        box.layer(w=nn.Parameter(torch.tensor([1.0, -1.0, 2.0])))

    @ol.problem
    def metric(x=Variable("2"), Q=Parameter("2 2", psd=True)):
        return minimize(ol.quad_form(x, Q) + ol.sum(x))

    with pytest.raises(InvalidDataError, match=r"Q has eigenvalue -1.*inside"):
        metric.layer(Q=nn.Parameter(torch.tensor([[0.0, 1.0], [1.0, 0.0]])))


def test_an_empty_dimension_is_named():
    with pytest.raises(ShapeError, match="n=0"):
        box(y=torch.zeros(0), w=torch.zeros(0), r=1.0)


def test_numpy_arrays_keep_their_precision_and_yield_to_tensors():
    y, w = np.zeros(3), np.ones(3)
    assert box(y=y, w=w, r=1.0).x.dtype == torch.float64
    assert box(y=torch.zeros(3), w=w, r=1.0).x.dtype == torch.float32


def test_equality_multipliers_keep_their_sides_whatever_the_sides_are():
    # cvxpy swaps `a @ x == 2 * e`, whose right side is of a derived class.
    @ol.problem
    def product(x=Variable("n"), a=Parameter("n"), e=Parameter()):
        return minimize(ol.sum_squares(x), level=a @ x == 2 * e)

    @ol.problem
    def variables(x=Variable("n"), z=Variable("n"), A=Parameter("n n")):
        cost = ol.sum_squares(x - 1) + ol.sum_squares(z)
        return minimize(cost, tie=A @ x == 2 * z)

    @ol.problem
    def difference(x=Variable("n"), z=Variable("n"), A=Parameter("n n")):
        cost = ol.sum_squares(x - 1) + ol.sum_squares(z)
        return minimize(cost, tie=A @ x - 2 * z == 0)

    e = torch.tensor(1.0, **DOUBLE).requires_grad_()
    out = product(a=torch.tensor([1.0, 2.0, 3.0], **DOUBLE), e=e)
    (gradient,) = torch.autograd.grad(out.objective, e)
    assert_close(gradient, -2 * out.dual.level)
    A = torch.tensor([[1.0, 2.0], [0.5, -1.0]], **DOUBLE)
    assert_close(variables(A=A).dual.tie, difference(A=A).dual.tie)


def test_a_problem_that_is_not_convex_says_why():
    @ol.problem
    def bilinear(x=Variable("n"), y=Variable("n")):
        return minimize(x @ y)

    layer = bilinear.layer(n=2)
    assert layer.kind == "minimize"
    assert "x @ y" in layer.why


def test_printing_shows_the_mathematics():
    text = str(box)
    assert "minimize" in text and "limit" in text
    assert box._repr_latex_().startswith("$")
    assert "box" in repr(box.layer(n=3))
