"""Statistics of a walk: counts of steps and evaluations, over several methods."""

import torch
from torch.testing import assert_close

from optlayers.solvers.ode.tally import Tally

TWO = torch.zeros(2, dtype=torch.float32)


def flags(*values: bool) -> torch.Tensor:
    return torch.tensor(values)


def test_only_steps_that_a_sample_tried_are_counted():
    tally = Tally(TWO)
    tally.add(flags(True, True), flags(True, False))
    # A sample at rest accepts its step of length zero, which is none.
    tally.add(flags(False, True), flags(True, True))
    stats = tally.stats(3, TWO)
    assert stats["steps"].tolist() == [1, 2]
    assert stats["accepted"].tolist() == [1, 1]
    assert stats["rejected"].tolist() == [0, 1]


def test_evaluations_are_two_to_begin_and_so_many_a_step_of_each_method():
    tally = Tally(TWO)
    tally.add(flags(True, True), flags(True, True))
    tally.change(6)
    tally.add(flags(False, True), flags(False, True))
    tally.add(flags(False, True), flags(False, False))
    assert tally.stats(10, TWO)["evaluations"].tolist() == [2 + 6, 2 + 6 + 20]


def test_counting_goes_on_after_statistics_were_taken():
    tally = Tally(TWO)
    tally.add(flags(True, False), flags(True, False))
    tally.change(4)
    for _ in range(2):  # asking twice counts nothing twice
        assert tally.stats(1, TWO)["evaluations"].tolist() == [6, 2]
    tally.add(flags(True, True), flags(True, True))
    assert tally.stats(1, TWO)["evaluations"].tolist() == [7, 3]


def test_the_time_reached_is_passed_on_and_seconds_are_shared():
    reached = torch.tensor([1.5, -2.0])
    stats = Tally(TWO).stats(1, reached)
    assert_close(stats["time"], reached, rtol=0, atol=0)
    assert stats["seconds"].dtype == torch.float64
    assert 0 < float(stats["seconds"][0]) == float(stats["seconds"][1])


def test_nobody_costs_nothing():
    none = torch.zeros(0)
    assert all(len(one) == 0 for one in Tally(none).stats(6, none).values())
