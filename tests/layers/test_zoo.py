"""Every specimen of the zoo: solution, multipliers and gradients, proven apart."""

import cvxpy as cp
import numpy as np
import pytest
import torch
from torch.testing import assert_close

import optlayers as ol
from optlayers import Parameter, Variable, minimize
from optlayers.testing.cone_zoo import CONIC
from optlayers.testing.zoo import CONVEX, Specimen, mpc, mpc_loop

# The reference is always another method than the layer's own: an interior point where
# that is an active set, operator splitting where it is an interior point. Both run far
# below the 1e-7 that is asked.
TIGHT = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-12)
INTERIOR_POINT = {"solver": cp.CLARABEL} | TIGHT
SPLITTING = {"solver": cp.SCS, "eps_abs": 1e-11, "eps_rel": 1e-11, "max_iters": 400_000}
ALL = CONVEX + CONIC
WITH_CONES = {"portfolio", "robust regression", "markowitz"}
WITH_CONES |= {specimen.name for specimen in CONIC}
SOLUTION_TOLERANCE = 1e-7
# Multipliers are as accurate as the reference's gap allows.
DUAL_TOLERANCE = 1e-6
GRADIENT_TOLERANCE = 1e-5  # relative, against central differences
STEP = 1e-5  # balances truncation (h^2) and the solver's 1e-11 / h

zoo = pytest.mark.parametrize("specimen", ALL, ids=lambda one: one.name)


def layer_of(specimen: Specimen):
    return specimen.problem.layer(**specimen.sizes)


@zoo
def test_solution_multipliers_and_objective_agree_with_cvxpy(specimen):
    parameters = specimen.batch(3, seed=1)
    out = layer_of(specimen)(**parameters)
    for sample in range(3):
        arrays = {name: value[sample].numpy() for name, value in parameters.items()}
        reference = specimen.reference(arrays)
        is_conic = specimen.name in WITH_CONES
        reference.problem.solve(**(SPLITTING if is_conic else INTERIOR_POINT))
        for name, variable in reference.variables.items():
            expected = torch.as_tensor(variable.value)
            assert_close(out[name][sample], expected, rtol=0, atol=SOLUTION_TOLERANCE)
        for name, constraint in reference.constraints.items():
            expected = torch.as_tensor(np.asarray(constraint.dual_value))
            actual = out.dual[name][sample]
            assert_close(
                actual, expected.reshape(actual.shape), rtol=1e-6, atol=DUAL_TOLERANCE
            )
        value = torch.as_tensor(float(reference.problem.value))
        assert_close(
            out.objective[sample].double(), value.double(), rtol=1e-6, atol=1e-6
        )


def scalar_of(specimen: Specimen, weights: dict, out) -> torch.Tensor:
    """A random linear functional of every output, one number per sample."""
    tensors = {name: out[name] for name in specimen_variables(specimen)}
    tensors |= {f"dual {name}": value for name, value in out.dual.items()}
    tensors["objective"] = out.objective
    total = torch.zeros(out.objective.shape, dtype=torch.float64)
    for name, value in tensors.items():
        flat = value.reshape(value.shape[0], -1)
        if name not in weights:
            generator = torch.Generator().manual_seed(len(weights))
            weights[name] = torch.randn(
                flat.shape[1], generator=generator, dtype=torch.float64
            )
        total = total + flat @ weights[name]
    return total


def specimen_variables(specimen: Specimen) -> list[str]:
    return list(specimen.problem.declared.variable_names)


def parameter_cases():
    for specimen in ALL:
        for name in specimen.batch(1):
            yield pytest.param(specimen, name, id=f"{specimen.name}-{name}")


@pytest.mark.parametrize(("specimen", "name"), list(parameter_cases()))
def test_gradients_agree_with_central_differences(specimen, name):
    layer = layer_of(specimen)
    parameters = specimen.batch(3, seed=2)
    weights: dict = {}
    given = parameters | {name: parameters[name].clone().requires_grad_()}
    total = scalar_of(specimen, weights, layer(**given))
    (gradient,) = torch.autograd.grad(total.sum(), given[name])
    direction = torch.randn(
        parameters[name].shape,
        generator=torch.Generator().manual_seed(3),
        dtype=torch.float64,
    )

    def moved(step: float) -> torch.Tensor:
        shifted = parameters | {name: parameters[name] + step * direction}
        return scalar_of(specimen, weights, layer(**shifted)).detach()

    difference = (moved(STEP) - moved(-STEP)) / (2 * STEP)
    analytic = (gradient * direction).reshape(3, -1).sum(-1)
    scale = 1 + difference.abs().max().item()
    assert_close(
        analytic, difference, rtol=GRADIENT_TOLERANCE, atol=GRADIENT_TOLERANCE * scale
    )


def test_staged_and_plain_loop_declarations_agree():
    (specimen,) = [one for one in CONVEX if one.name == "mpc"]
    staged = {k: v.requires_grad_() for k, v in specimen.batch(3, seed=4).items()}
    looped = {k: v.detach().clone().requires_grad_() for k, v in staged.items()}
    out, loop = mpc.layer(steps=6)(**staged), mpc_loop(**looped)
    dynamics = torch.stack([loop.dual[f"step_{k}"] for k in range(6)], dim=1)
    tight = {"rtol": 1e-9, "atol": 1e-9}
    assert_close(out.x, loop.x, **tight)
    assert_close(out.u, loop.u, **tight)
    assert_close(out.dual.dynamics, dynamics, **tight)
    assert_close(out.dual["u.upper"], loop.dual["u.upper"], **tight)

    def functional(one, rows):
        return one.x.sum() + (one.u**2).sum() + rows.cos().sum()

    functional(out, out.dual.dynamics).backward()
    functional(loop, dynamics).backward()
    for name in staged:
        assert_close(staged[name].grad, looped[name].grad, rtol=1e-7, atol=1e-7)


def test_a_norm_limit_that_is_not_active_leaves_the_gradient_well_conditioned():
    @ol.problem
    def disk(x=Variable("n"), y=Parameter("n"), r=Parameter()):
        return minimize(ol.sum_squares(x - y), limit=ol.norm(x) <= r)

    y = torch.tensor([[0.1, 0.2], [3.0, 4.0]], dtype=torch.float64).requires_grad_()
    out = disk(y=y, r=1.0)
    assert (out.stats["gradient_condition"] < 1e3).all()
    # Inside, x = y; outside, x = y / |y| with multiplier 2 (|y| - 1).
    assert_close(out.x, torch.tensor([[0.1, 0.2], [0.6, 0.8]], dtype=torch.float64))
    assert_close(out.dual.limit, torch.tensor([0.0, 8.0], dtype=torch.float64))
