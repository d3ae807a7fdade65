"""Footprints: the steps of a walk, kept in order and without a graph."""

import torch

from optlayers.solvers.ode import Dopri5
from optlayers.solvers.ode.grid import Footprints
from tests.solvers.ode.problems import oscillator, program_of

TIME = torch.tensor([0.0, 1.0], dtype=torch.float64)
STATE = torch.ones(2, 3, dtype=torch.float64)


def test_no_steps_are_an_empty_grid_of_the_right_form():
    grid = Footprints().grid(TIME, STATE)
    assert grid.times.shape == grid.sizes.shape == (0, 2)
    assert grid.states.shape == (0, 2, 3)
    assert grid.states.dtype == grid.times.dtype == torch.float64


def test_steps_stand_in_the_order_in_which_they_were_made():
    footprints = Footprints()
    for k in range(3):
        footprints.add(TIME + k, TIME * 0 + k, k * STATE)
    grid = footprints.grid(TIME, STATE)
    assert torch.equal(grid.times[:, 0], torch.arange(3.0, dtype=torch.float64))
    assert torch.equal(grid.sizes[:, 1], torch.arange(3.0, dtype=torch.float64))
    assert torch.equal(grid.states[2], 2 * STATE)


def test_no_graph_is_kept():
    footprints = Footprints()
    footprints.add(TIME, TIME, STATE.clone().requires_grad_() * 2)
    assert not footprints.grid(TIME, STATE).states.requires_grad


def test_a_grid_that_was_taken_is_forgotten():
    walk = Dopri5().walk(program_of(oscillator, [1.0, 0.0], [0.0, 4.0]), records=True)
    parts = []
    while walk.is_running:
        walk.advance()
        walk.advance()
        parts.append(walk.take_grid())
    assert [len(one.times) for one in parts] == [2] * len(parts)
    assert len(parts) * 2 == walk.count and not len(walk.grid().times)
    # Every step begins where the one before has ended.
    times, sizes = (torch.cat([one[k] for one in parts])[:, 0] for k in (0, 1))
    ends = torch.cumsum(sizes, 0)
    torch.testing.assert_close(times[1:], ends[:-1], rtol=0, atol=1e-14)
