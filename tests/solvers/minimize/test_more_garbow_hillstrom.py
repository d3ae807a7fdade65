import pytest
import torch

from optlayers import registry
from optlayers.programs.squares import slope_terms
from tests.solvers.minimize.more_garbow_hillstrom import PROBLEMS, Problem

# The printed minima have six digits; sums of squares near zero are below the square of
# a residual that a gradient of 1e-8 allows in the flattest of these valleys.
DIGITS, ZERO = 1e-5, 1e-7
# Badly scaled by a factor of 1e8 and more: a method without scaling or residuals
# creeps. Named here, so that one that begins to work is seen.
MEYER = "meyer"
HARD = {
    "newton": {MEYER, "powell_badly_scaled"},
    "newton_cg": {MEYER},
    "lbfgs": {MEYER},
    # Large residuals, of which it knows the slopes alone.
    "levenberg_marquardt": {"brown_dennis"},
    "auto": set(),
}
# Their gradient counts relative to the terms that it is the sum of.
FOR_SQUARES = ("levenberg_marquardt", "auto")
# Their many steps take a few seconds.
CHEAP_STEPS = ("lbfgs", "newton_cg")


def at_minimum(problem: Problem, x: torch.Tensor) -> torch.Tensor:
    """Whether the sum of squares is one of those printed, bool [B]."""
    value = problem.residuals(x).square().sum(1, keepdim=True)
    minima = torch.tensor(problem.minima, dtype=torch.float64)
    return ((value - minima).abs() <= DIGITS * minima + ZERO).any(1)


@pytest.mark.parametrize(
    "solver",
    [
        pytest.param(name, marks=pytest.mark.slow if name in CHEAP_STEPS else ())
        for name in HARD
    ],
)
def test_a_method_finds_the_printed_minima(solver):
    missed = set()
    for problem in PROBLEMS:
        program = problem.program()
        found = registry.create("minimize", solver).solve(program, problem.starts())
        gradient = program.gradient(found.value)
        if solver in FOR_SQUARES:
            gradient = gradient / slope_terms(program, found.value).clamp_min(1)
        assert bool(found.ok) == bool(gradient.abs().amax() <= 1e-8)
        if not found.ok or not at_minimum(problem, found.value):
            missed.add(problem.name)
    assert missed == HARD[solver]


@pytest.mark.parametrize("name", ["wood", "kowalik", "helical_valley"])
def test_a_batch_of_starts_reaches_the_minimum_together(name):
    (problem,) = (one for one in PROBLEMS if one.name == name)
    generator = torch.Generator().manual_seed(0)
    start = problem.starts(16)
    noise = torch.randn(start.shape, generator=generator, dtype=torch.float64)
    start = start * (1 + 0.05 * noise)
    found = registry.create("minimize", "auto").solve(problem.program(16), start)
    assert found.ok.all()
    assert at_minimum(problem, found.value).all()
