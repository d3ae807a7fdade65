"""Every atom in a declared problem of its own: values, multipliers, gradients.

The reference is cvxpy's own atom, on one sample's numbers at a time.
"""

import functools

import cvxpy as cp
import numpy as np
import pytest
import torch
from torch.testing import assert_close

import optlayers as ol
from optlayers import Variable, minimize
from optlayers.errors import OptlayersError
from optlayers.modeling.atoms import ATOMS
from tests.layers.atom_problems import PROBLEMS, AtomProblem

# Neither convex nor concave: they belong to geometric programs and are refused here.
GEOMETRIC = {
    "prod", "cumprod", "one_minus_pos", "diff_pos", "eye_minus_inv", "resolvent",
    "pf_eigenvalue", "gmatmul",
}  # fmt: skip

TIGHT = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-11)
# The reference is as accurate as its gap allows: 1e-11 of |x - y|^2 is 3e-6 of x.
SOLUTION_TOLERANCE = 4e-6
OBJECTIVE_TOLERANCE = 1e-7
GRADIENT_TOLERANCE = 1e-5  # relative, against central differences
# Truncation is about STEP^2; the solutions' own error, 1e-10, is divided by it.
STEP = 1e-4
SAMPLES = 3

every_problem = pytest.mark.parametrize("problem", PROBLEMS, ids=str)


@functools.cache
def layer_of(problem: AtomProblem):
    return problem.declared().layer()


def weighted(out) -> torch.Tensor:
    """A fixed linear functional of every output, one number per sample."""
    tensors = [out.x, *out.dual.values(), out.objective]
    flat = torch.cat([one.reshape(one.shape[0], -1) for one in tensors], dim=1)
    generator = torch.Generator().manual_seed(0)
    return flat @ torch.randn(flat.shape[1], generator=generator, dtype=flat.dtype)


def test_every_atom_has_a_problem():
    assert {problem.name for problem in PROBLEMS} | GEOMETRIC == set(ATOMS)
    assert len(set(map(str, PROBLEMS))) == len(PROBLEMS)


@pytest.mark.parametrize("name", sorted(GEOMETRIC))
def test_atoms_of_geometric_programs_are_refused_elsewhere_with_a_word(name):
    @ol.problem(convex=True)
    def program(X=Variable("2 2", nonneg=True)):
        more = {"diff_pos": (X,), "resolvent": (3.0,)}.get(name, ())
        arguments = (np.ones((2, 2)), X) if name == "gmatmul" else (X, *more)
        return minimize(ol.sum(getattr(ol, name)(*arguments)))

    with pytest.raises(OptlayersError, match=r"@ol.problem\(geometric=True\)"):
        program()


# Clarabel says so where 1e-11 is out of reach; how far it came is what is asserted.
@pytest.mark.filterwarnings("ignore:Solution may be inaccurate:UserWarning")
@every_problem
def test_solution_multipliers_and_objective_are_cvxpys(problem):
    parameters = problem.batch(SAMPLES, seed=1)
    out = layer_of(problem)(**parameters)
    for sample in range(SAMPLES):
        numbers = {name: one[sample].numpy() for name, one in parameters.items()}
        reference, x, constraints = problem.reference(numbers)
        reference.solve(solver=cp.CLARABEL, canon_backend="COO", **TIGHT)
        near = {"rtol": SOLUTION_TOLERANCE, "atol": SOLUTION_TOLERANCE}
        assert_close(out.x[sample], torch.as_tensor(x.value), **near)
        for name, constraint in constraints.items():
            expected = torch.as_tensor(np.asarray(constraint.dual_value))
            actual = out.dual[name][sample]
            assert_close(actual, expected.reshape(actual.shape), **near)
        assert_close(
            out.objective[sample].item(), float(reference.value),
            rtol=OBJECTIVE_TOLERANCE, atol=OBJECTIVE_TOLERANCE,
        )  # fmt: skip


@every_problem
def test_gradients_are_central_differences(problem):
    layer, parameters = layer_of(problem), problem.batch(SAMPLES, seed=1)
    steps = problem.directions(SAMPLES, seed=2)
    leaves = {name: one.clone().requires_grad_() for name, one in parameters.items()}
    total = weighted(layer(**leaves)).sum()
    gradients = torch.autograd.grad(total, list(leaves.values()))

    # All moved parameters in one batch: [parameter, sign, sample].
    count = len(parameters)
    moved = {}
    for place, (name, value) in enumerate(parameters.items()):
        copies = value.repeat(count, 2, *(1,) * value.ndim)
        copies[place, 0] += STEP * steps[name]
        copies[place, 1] -= STEP * steps[name]
        moved[name] = copies
    ends = weighted(layer(**{k: v.flatten(0, 2) for k, v in moved.items()})).detach()
    ends = ends.reshape(count, 2, SAMPLES)
    differences = (ends[:, 0] - ends[:, 1]) / (2 * STEP)

    slopes = torch.stack(
        [
            (gradient * steps[name]).reshape(SAMPLES, -1).sum(dim=1)
            for name, gradient in zip(parameters, gradients, strict=True)
        ]
    )
    scale = 1 + differences.abs().amax().item()
    assert_close(
        slopes, differences, rtol=GRADIENT_TOLERANCE, atol=GRADIENT_TOLERANCE * scale
    )


def solved_by_cvxpy(problem, parameters) -> tuple[np.ndarray, float]:
    numbers = {name: one[0].numpy() for name, one in parameters.items()}
    reference, x, _ = problem.reference(numbers)
    reference.solve(solver=cp.CLARABEL, canon_backend="COO", **TIGHT)
    return np.asarray(x.value), float(reference.value)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Solution may be inaccurate:UserWarning")
@every_problem
def test_derivatives_are_the_differences_of_cvxpys_solutions(problem):
    """Along one direction that moves every parameter at once, of one sample."""
    parameters, steps = problem.batch(1, seed=1), problem.directions(1, seed=4)
    layer = layer_of(problem)

    def solution(given):
        out = layer(**given)
        return out.x, out.objective

    _, (slope, rise) = torch.func.jvp(solution, (parameters,), (steps,))
    # Five points: truncation is wide^4; a wider step would cross kinks.
    wide = 2e-3
    ends = {
        k: solved_by_cvxpy(
            problem, {n: v + k * wide * steps[n] for n, v in parameters.items()}
        )
        for k in (-2, -1, 1, 2)
    }
    slopes, rises = (
        (8 * (ends[1][j] - ends[-1][j]) - (ends[2][j] - ends[-2][j])) / (12 * wide)
        for j in (0, 1)
    )
    scale = 1 + float(np.abs(slopes).max())
    assert_close(rise.item(), rises, rtol=1e-6, atol=1e-6)
    # cvxpy knows x to 1e-7 or worse where its gap is 1e-11, its value much better.
    assert_close(slope[0], torch.as_tensor(slopes), rtol=0, atol=2e-4 * scale)
