"""The demonstration: the plant is gymnasium's, the expert is what it says it is."""

import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control import CartPoleEnv
from numpy.testing import assert_allclose
from rich.console import Console

from optlayers.demo import show as demonstration
from optlayers.demo.cartpole import QUICK, expert, linearize, roll_out


def always_right(states):
    return torch.ones(len(states))


def test_linearization_is_that_of_the_equations_of_motion():
    cart = CartPoleEnv()
    # Barto, Sutton and Anderson (1983), linearized at rest; one Euler step.
    mass, pole = cart.total_mass, cart.masspole * cart.length
    lever = cart.length * (4 / 3 - cart.masspole / mass)
    A, B = np.eye(4), np.zeros((4, 1))
    A[0, 1] = A[2, 3] = cart.tau
    A[3, 2] = cart.tau * cart.gravity / lever
    A[1, 2] = -A[3, 2] * pole / mass
    B[3, 0] = -cart.tau * cart.force_mag / mass / lever
    B[1, 0] = cart.tau * cart.force_mag / mass - B[3, 0] * pole / mass
    found_A, found_B = linearize()
    # Central differences with a step of 1e-3: an error of its square.
    assert_allclose(found_A, A, atol=1e-6)
    assert_allclose(found_B, B, atol=1e-6)


def test_expert_balances_the_pole_to_the_end():
    assert roll_out(expert(), range(4), longest=200).lengths.tolist() == [200] * 4


def test_rollout_repeats_itself_with_its_seeds():
    first, second = (roll_out(always_right, [3, 4], explore=0.5) for _ in range(2))
    assert torch.equal(first.steps.following, second.steps.following)


def test_rollout_records_each_step_of_each_cart():
    rollout = roll_out(always_right, [0, 1])
    assert len(rollout.steps.states) == rollout.lengths.sum()
    assert (rollout.steps.forces == 1).all()
    assert [len(path) for path in rollout.paths] == (rollout.lengths + 1).tolist()


@pytest.mark.slow
def test_demonstration_learns_and_draws(tmp_path):
    console = Console(quiet=True)
    lesson = demonstration.show(tmp_path, settings=QUICK, console=console)
    names = ("dynamics.png", "learning.png", "pole.gif", "pole.png", "portrait.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    # Right pushes go right: the sign that was wrong at the start is learned.
    assert lesson.controller.plan.bound()["B"][3, 0] < -0.1
