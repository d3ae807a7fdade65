import pytest
import torch

import optlayers as ol
from optlayers import Parameter, State, Time, integrate

D = torch.float64


@ol.problem
def exploding(x=State(), x0=Parameter(), k=Parameter(), t=Time()):
    return integrate(ol.der(x) == k * x**2, x.first == x0)


@pytest.mark.parametrize("gradient", ["exact", "direct", "checkpoint", "backsolve"])
@pytest.mark.parametrize("on_failure", ["nan", "keep"])
def test_where_every_sample_fails_gradients_are_exactly_zero(gradient, on_failure):
    x0 = torch.tensor([2.0, 5.0], dtype=D, requires_grad=True)
    k = torch.tensor(1.0, dtype=D, requires_grad=True)
    solver = ol.solvers.ode.Dopri5(max_steps=30)
    out = exploding(
        x0=x0, k=k, t=torch.tensor([0.0, 1.0], dtype=D), gradient=gradient,
        solver=solver, on_failure=on_failure,
    )  # fmt: skip
    assert not out.ok.any()
    found = torch.autograd.grad(
        out.x.nan_to_num().sum(), (x0, k), materialize_grads=True
    )
    assert all(bool(one.eq(0).all()) for one in found)
