"""In which precision a system of equations is solved, and answered."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import optlayers as ol
from optlayers import Parameter, Variable, solve
from optlayers.errors import ParameterError

# A residual of 1e-5, the tolerance of float32, at a condition of a few.
CLOSE = {"rtol": 0, "atol": 1e-4}


def contracting(dtype):
    net = nn.Sequential(nn.Linear(3, 3), nn.Tanh()).to(dtype)
    with torch.no_grad():
        net[0].weight.mul_(0.3)
    return net


def called_as_it_is(net):
    return net


def within_smooth(net):
    return ol.smooth(net)


def within_a_function(net):
    return ol.smooth(lambda v: net(v))


def beside_a_parameter(net):
    weight = nn.Parameter(0.3 * torch.eye(3, dtype=net[0].weight.dtype))
    return ol.smooth(lambda v: torch.tanh(v @ weight))


@pytest.mark.parametrize("own", [torch.float32, torch.float64])
@pytest.mark.parametrize("given", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "face", [called_as_it_is, within_smooth, within_a_function, beside_a_parameter]
)
def test_a_module_is_called_in_its_precision_and_the_answer_has_the_callers(
    face, own, given
):
    called = face(contracting(own))

    @ol.problem
    def equilibrium(z=Variable(3), u=Parameter(3)):
        return solve(z == called(z) + u)

    u = torch.linspace(-1, 1, 6, dtype=given).reshape(2, 3).requires_grad_()
    out = equilibrium(u)
    out.z.sum().backward()
    assert out.z.dtype == u.grad.dtype == given and out.stats["residual"].dtype == own
    z = out.z.detach()
    assert_close(z, called(z.to(own)).to(given) + u.detach(), **CLOSE)


def test_a_module_without_numbers_is_called_in_double():
    act = nn.Tanh()

    @ol.problem
    def shifted(z=Variable(2), u=Parameter(2)):
        return solve(act(z) + z == u)

    out = shifted(torch.ones(2))
    assert out.z.dtype == torch.float32
    assert out.stats["residual"].dtype == torch.float64


def test_modules_of_two_precisions_are_refused_by_name():
    narrow, wide = nn.Linear(2, 2), nn.Linear(2, 2).double()

    @ol.problem
    def mixed(z=Variable(2), u=Parameter(2)):
        return solve(z == narrow(z) + wide(z) + u)

    with pytest.raises(ParameterError, match=r"narrow is torch.float32, wide is torch"):
        mixed(torch.ones(2))


def test_a_module_of_half_precision_is_refused_by_name():
    half = nn.Linear(2, 2).bfloat16()

    @ol.problem
    def rough(z=Variable(2), u=Parameter(2)):
        return solve(z == half(z) + u)

    with pytest.raises(ParameterError, match=r"half is torch.bfloat16.*\.double\(\)"):
        rough(torch.ones(2))
