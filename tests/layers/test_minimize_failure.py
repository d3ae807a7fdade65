import copy
import pickle

import pytest
import torch
from torch.testing import assert_close

import optlayers as ol
from optlayers import Parameter, Variable, minimize
from optlayers.errors import (
    InvalidDataError,
    NotConvex,
    NotSupported,
    ParameterError,
    SolveError,
    SolverRefused,
)
from optlayers.interfaces import Kind
from optlayers.solution import Status
from tests.layers.nonconvex import double, learned, potential, ring, well

# A KKT residual of 1e-8 at a condition of some tens.
CLOSE = {"rtol": 0, "atol": 1e-6}


# ---- batches, failures, precision ----------------------------------------------------


def test_a_batch_broadcasts_and_its_samples_know_nothing_of_each_other():
    a, r = double(1.0, 20.0)[:, None], double(0.7, 1.0, 2.0)
    out = ring(a, r)
    assert out.x.shape == (2, 3, 2) and out.objective.shape == (2, 3)
    alone = ring(a[1, 0], r[2])
    assert_close(out.x[1, 2], alone.x, **CLOSE)
    assert ring(a[:0], r).x.shape == (0, 3, 2)


def test_a_broken_sample_is_named_and_leaves_the_others_alone():
    a, r = double(20.0, torch.nan, 20.0), double(0.8, 1.0, -1.0)
    named = r"(?s)sample \[?1\]?: .*a is nan.*r is -1"
    with pytest.raises(InvalidDataError, match=named):
        ring(a, r)
    out = ring(a, r, on_failure="nan")
    assert out.status.tolist() == [0, Status.NOT_FINITE, Status.INVALID_DATA]
    assert bool(out.x[1:].isnan().all()) and bool(out.dual.outer[1:].isnan().all())
    assert torch.equal(out.x[0], ring(a[0], r[0]).x)


def test_a_sample_without_minimum_has_no_gradient_and_spoils_none():
    shared = double(2.0, requires_grad=True)
    a = double(1.0, torch.nan, 1.5, requires_grad=True)
    out = well(a, shared[0], on_failure="keep")
    assert out.ok.tolist() == [True, False, True]
    (out.x.sum() + out.objective.sum()).backward()
    assert a.grad[1] == 0
    # x = sqrt(c) and f = -c^2 / 4 of c = a * shared.
    c = double(2.0, 3.0)
    slope = 0.5 / c.sqrt() - 0.5 * c
    assert_close(a.grad[[0, 2]], 2 * slope, **CLOSE)
    assert_close(shared.grad[0], double(1.0, 1.5) @ slope, **CLOSE)


def test_constraints_that_cannot_hold_are_named():
    @ol.problem
    def nowhere(x=Variable("2", start=1), r=Parameter()):
        return minimize(
            torch.sin(x[0]), disk=ol.sum_squares(x) <= r, beyond=x[0] * x[1] >= 9
        )

    with pytest.raises(SolveError, match=r"(?s)nowhere.*(disk|beyond)"):
        nowhere(double(1.0))
    out = nowhere(double(1.0, 40.0), on_failure="nan")
    assert out.ok.tolist() == [False, True]


def test_single_precision_comes_back_as_it_was_given():
    out = ring(torch.tensor(100.0), torch.tensor([0.8, 2.0]))
    assert out.x.dtype == out.dual.outer.dtype == out.objective.dtype == torch.float32
    exact = ring(double(100.0)[0], double(0.8, 2.0))
    assert_close(out.x, exact.x.float(), rtol=1e-5, atol=1e-5)


def test_a_module_of_single_precision_is_called_in_it():
    single = copy.deepcopy(potential).float()

    @ol.problem
    def problem(x=Variable("2", lower=-2, upper=2), u=Parameter("2")):
        return minimize(single(x - u)[0] + 0.5 * ol.sum_squares(x - u))

    out = problem(torch.tensor([0.3, -0.2]))
    assert_close(out.x, learned(double(0.3, -0.2)).x.float(), rtol=0, atol=1e-3)


# ---- routing -------------------------------------------------------------------------


def test_the_reason_is_kept_and_shown():
    layer = ring.layer()
    assert layer.kind is Kind.MINIMIZE and "applies power" in layer.why
    assert "minimize" in str(layer.explain())
    assert "outer" in str(ring)


def test_convexity_can_still_be_demanded():
    @ol.problem(convex=True)
    def strict(x=Variable("2")):
        return minimize(x[0] * x[1], ol.sum_squares(x) <= 1)

    with pytest.raises(NotConvex):
        strict()


def test_what_has_kinks_is_refused_by_name_with_the_remedy():
    @ol.problem
    def kinked(x=Variable("2"), w=Parameter("2")):
        return minimize(x[0] * x[1] - ol.norm1(x - w), ol.sum_squares(x) <= 4)

    layer = kinked.layer()
    assert layer.kind is Kind.MINIMIZE and "norm1" in layer.why
    with pytest.raises(SolverRefused, match=r"norm1.*less of it.*t >= e and t >= -e"):
        layer(double(1.0, 1.0))


def test_its_epigraph_is_taken():
    @ol.problem
    def epigraph(x=Variable("2", start=(1, -0.2)), t=Variable("2", start=2)):
        return minimize(
            x[0] * x[1] + 3 * ol.sum(t), ol.sum_squares(x) == 1, t >= x, t >= -x
        )

    out = epigraph()
    # At (1, 0), where the other factor makes up for its own absolute value.
    assert_close(out.objective, double(3.0)[0], **CLOSE)


def test_cones_are_refused_by_name_with_the_remedy():
    @ol.problem
    def matrix(X=Variable("2 2", symmetric=False), c=Parameter()):
        return minimize(X[0, 0] * X[1, 1] + c, part=X >> 0)

    with pytest.raises(SolverRefused, match=r"(?s)part.*psd.*L @ L\.T"):
        matrix(1.0)


def test_there_are_no_cone_programs_of_it():
    with pytest.raises(NotSupported, match="not convex"):
        ring.layer().compiled(100.0, 1.0)


def test_options_of_other_kinds_are_refused():
    with pytest.raises(ParameterError, match="diffcp"):
        ring.layer(gradient="diffcp")


def test_a_layer_can_be_copied_and_pickled():
    layer = ring.layer(a=double(20.0)[0])
    r = double(0.8)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(r).x, layer(r).x)
