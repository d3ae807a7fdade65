"""Which fields the leapfrog method takes."""

import pytest
import torch
from torch.testing import assert_close

from optlayers.errors import SolverRefused
from optlayers.functional import integrate
from optlayers.solvers.ode import Leapfrog
from optlayers.solvers.ode.control import FixedStep

D = torch.float64
TIMES = torch.tensor([0.0, 1.0], dtype=D)


def follow(field, start):
    solver = Leapfrog(control=FixedStep(size=1e-3))
    return integrate(field, torch.tensor([start], dtype=D), TIMES, solver=solver)


def field_of(speed, force):
    return lambda t, x: torch.cat(
        (speed(t, *x.chunk(2, 1)), force(t, *x.chunk(2, 1))), 1
    )


def test_friction_is_refused_by_the_rate_of_the_velocity():
    damped = field_of(lambda t, q, v: v, lambda t, q, v: -q - 0.1 * v)
    with pytest.raises(SolverRefused, match=r"the rate of velocity 0 changes.*RK4"):
        follow(damped, [1.0, 0.0])


def test_a_speed_that_depends_on_the_place_is_refused_also_at_rest():
    curved = field_of(lambda t, q, v: v * (1 + q), lambda t, q, v: -q)
    with pytest.raises(SolverRefused, match="the rate of position 0 changes"):
        follow(curved, [0.0, 0.0])


def test_a_separable_field_is_taken_also_where_time_enters_and_terms_cancel():
    # q'' = cos t - q + (v - v): q = (t sin t) / 2 from rest.
    driven = field_of(
        lambda t, q, v: v + (q - q), lambda t, q, v: torch.cos(t)[:, None] - q + (v - v)
    )
    found = follow(driven, [0.0, 0.0]).value[0, -1, 0]
    # h^2 = 1e-6, with a constant below 1.
    assert_close(found, torch.sin(torch.tensor(1.0, dtype=D)) / 2, rtol=0, atol=1e-6)
