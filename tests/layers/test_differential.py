"""Layers of differential equations: kind, names a call gives, what is refused."""

import pytest
import torch

import optlayers as ol
from optlayers import Control, Parameter, State, integrate
from optlayers.errors import DeclarationError, NotConvex, UnknownName
from optlayers.interfaces import Kind


@ol.problem
def driven(x=State("n"), u=Control("m"), B=Parameter("n m"), x0=Parameter("n")):
    return integrate(flow=ol.der(x) == B @ u - x, start=x.first == x0)


def test_kind_and_reason_are_known_without_a_call():
    layer = driven.layer(n=3, m=1)
    assert layer.kind is Kind.ODE
    assert layer.why.startswith(
        "integrate(...) states 3 differential equations of first order (flow)"
    )


def test_a_call_gives_parameters_controls_and_save_times():
    layer = driven.layer(B=torch.eye(2), times=torch.linspace(0, 1, 5))
    assert layer.sizes == {"n": 2, "m": 2}
    assert layer.parameter_names == ("u", "x0")
    with pytest.raises(UnknownName, match="x is not a parameter"):
        driven.layer(x=torch.zeros(2))


def test_steps_are_refused_for_the_save_times():
    with pytest.raises(DeclarationError, match=r"save times .* drop steps="):
        driven.layer(steps=20)


def test_a_differential_equation_is_nothing_for_cvxpy():
    given = {"u": torch.ones(1), "B": torch.ones(2, 1), "x0": torch.ones(2)}
    with pytest.raises(NotConvex, match="is a differential equation, not for cvxpy"):
        driven.layer().to_cvxpy(**given, times=torch.tensor(0.0))
