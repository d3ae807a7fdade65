"""The parity reference: diffcp's derivative around our own solution."""

import pytest
import torch
from torch.testing import assert_close

from optlayers.errors import ParameterError, TransformError
from optlayers.implicit.attach import attach_gradient
from optlayers.implicit.diffcp import attach_diffcp
from optlayers.programs.cone_program import ConeProgram
from optlayers.programs.cones import Cones
from optlayers.solvers.certify import measure, polish
from optlayers.solvers.convex.clarabel import Clarabel
from optlayers.testing.zoo import CONVEX, project

# diffcp differentiates at its own solution, which is good to about 1e-5.
PARITY = {"rtol": 1e-3, "atol": 1e-3}


@pytest.mark.parametrize("specimen", CONVEX, ids=lambda one: one.name)
def test_the_value_is_ours_and_the_derivative_agrees(specimen):
    layer = specimen.problem.layer(**specimen.sizes)
    exact = {k: v.requires_grad_() for k, v in specimen.batch(2, seed=5).items()}
    peer = {k: v.detach().clone().requires_grad_() for k, v in exact.items()}
    name = specimen.problem.declared.variable_names[0]
    ours, theirs = layer(**exact), layer(**peer, gradient="diffcp")
    assert torch.equal(ours[name], theirs[name])
    ours[name].sum().backward()
    theirs[name].sum().backward()
    for parameter in exact:
        if exact[parameter].grad is not None:
            assert_close(peer[parameter].grad, exact[parameter].grad, **PARITY)


def test_a_failed_sample_is_never_handed_to_diffcp():
    given = {k: v.requires_grad_() for k, v in CONVEX[0].batch(3).items()}
    poisoned = given["y"].detach().clone()
    poisoned[1] = float("nan")
    y = poisoned.requires_grad_()
    options = {"gradient": "diffcp", "on_failure": "nan"}
    out = project(y=y, A=given["A"], b=given["b"], **options)
    out.x[[0, 2]].sum().backward()
    assert out.ok.tolist() == [True, False, True]
    assert (y.grad[1] == 0).all() and y.grad[[0, 2]].isfinite().all()


def test_a_second_derivative_is_refused():
    with pytest.raises(ParameterError, match="diffcp"):
        project.layer(gradient="diffcp", order=2)


def test_a_transform_is_refused_with_the_remedy():
    given = CONVEX[0].batch(2)
    with pytest.raises(TransformError, match="exact"):
        torch.func.vmap(
            lambda y: (
                project(y=y, A=given["A"][0], b=given["b"][0], gradient="diffcp").x
            )
        )(given["y"])


@pytest.mark.parametrize("has_quadratic", [False, True])
def test_semidefinite_and_exponential_rows_reach_diffcp_in_its_own_order(has_quadratic):
    torch.manual_seed(0)
    cones = Cones(zero=1, nonneg=1, soc=(3,), psd=(3,), exp=1)
    inside = torch.tensor([0.0, 1, 2, 0.5, 0.5, 2, 0.3, 2, 0.2, -0.4, 2, 0.5, 1, 3])
    outside = torch.tensor([1.0, 1, 2, -0.5, 1, 2, 0.1, 2, -0.6, 0.4, 2, -1, 0.5, 2])
    A, x = torch.randn(1, cones.size, 6).double(), torch.randn(1, 6).double()
    q = -torch.einsum("bmn,m->bn", A, outside.double())
    b = torch.einsum("bmn,bn->bm", A, x) + inside.double()
    P = 0.3 * torch.eye(6).double()[None] if has_quadratic else None
    found = Clarabel().solve(ConeProgram(P, q, A, b, cones))
    start = torch.cat([found.value, found.duals["y"] - found.duals["s"]], 1)
    detached = ConeProgram(P, q, A, b, cones)
    value, _ = polish(detached, start, measure(detached, start))
    gradients = []
    for attach in (
        lambda program: attach_gradient(value, program),
        lambda program: attach_diffcp(value, program, torch.ones(1).bool()),
    ):
        leaves = [t.clone().requires_grad_() for t in (q, A, b)]
        point = attach(ConeProgram(P, *leaves, cones))
        gradients.append(torch.autograd.grad(point.sin().sum(), leaves))
    for ours, theirs in zip(*gradients, strict=True):
        assert_close(theirs, ours, **PARITY)
