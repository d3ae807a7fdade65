"""The DETEST problems A1 to E5 with each adaptive explicit method."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from optlayers import registry
from tests.solvers.ode.problems import DETEST, program_of

TOLERANCE = 1e-6
ADAPTIVE = ("dopri5", "tsit5", "dopri8", "bosh3")
_references: dict[str, np.ndarray] = {}


def reference(name: str) -> np.ndarray:
    """The solution at t = 20 by SciPy's DOP853, to about 1e-12."""
    if name not in _references:
        problem = DETEST[name]

        def field(time, state):
            at = torch.tensor([time], dtype=torch.float64)
            return problem.field(at, torch.from_numpy(state)[None])[0].numpy()

        found = solve_ivp(
            field, (0, 20), problem.initial, method="DOP853", rtol=1e-13, atol=1e-13
        )
        _references[name] = found.y[:, -1]
    return _references[name]


def check(method: str, name: str) -> None:
    """The global error is at most what local errors of the tolerance can add up to."""
    problem = DETEST[name]
    # Methods of order two take up to 22,000 steps at this tolerance.
    solver = registry.create(
        "ode", method, rtol=TOLERANCE, atol=TOLERANCE, max_steps=30_000
    )
    solved = solver.solve(program_of(problem.field, list(problem.initial), [0.0, 20.0]))
    assert bool(solved.ok.all())
    found, wanted = solved.value[0, -1].numpy(), reference(name)
    error = np.abs(found - wanted).max() / max(1.0, np.abs(wanted).max())
    # The orbits of class D amplify early errors by up to a thousand over 20 units; on
    # B1 bosh3 is 320 tolerances off, at 1e-5 as at 1e-6.
    assert error < TOLERANCE * (5000 if name[0] == "D" else 500)


@pytest.mark.parametrize("name", DETEST)
def test_dopri5_solves(name):
    check("dopri5", name)


@pytest.mark.slow
@pytest.mark.parametrize("name", DETEST)
@pytest.mark.parametrize("method", [*ADAPTIVE[1:], "heun", "midpoint"])
def test_every_adaptive_explicit_method_solves(method, name):
    check(method, name)
