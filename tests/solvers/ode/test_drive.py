"""The walk: steps of each sample, statuses, records, what may be watched."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from optlayers.programs.initial_value import InitialValueProgram
from optlayers.solution import Status
from optlayers.solvers.ode import RK4, Dopri5, FixedStep
from tests.solvers.ode.problems import oscillator, program_of


def van_der_pol(stiffness: Tensor):
    def field(time, state):
        x, y = state.unbind(1)
        return torch.stack((y, stiffness * (1 - x * x) * y - x), 1)

    return field


def problems(stiffness: Tensor, end: float = 5.0) -> InitialValueProgram:
    batch = len(stiffness)
    start = torch.tensor([[2.0, 0.0]] * batch, dtype=torch.float64)
    times = torch.linspace(0, end, 6, dtype=torch.float64).expand(batch, -1)
    return InitialValueProgram(van_der_pol(stiffness), start, times)


def test_each_sample_takes_the_steps_it_would_take_alone():
    stiffness = torch.tensor([1.0, 20.0, 5.0, 0.1], dtype=torch.float64)
    together = Dopri5().solve(problems(stiffness))
    for row in range(4):
        alone = Dopri5().solve(problems(stiffness[row : row + 1]))
        for key in ("steps", "accepted", "rejected", "evaluations"):
            assert alone.stats[key][0] == together.stats[key][row]
        # Vectorized kernels round the last few rows of a batch otherwise.
        assert_close(alone.value[0], together.value[row], rtol=1e-10, atol=1e-10)
    assert len(set(together.stats["steps"].tolist())) == 4


def test_steps_are_accepted_or_rejected():
    stats = Dopri5().solve(problems(torch.tensor([20.0], dtype=torch.float64))).stats
    assert stats["accepted"] + stats["rejected"] == stats["steps"]
    assert stats["rejected"] > 0


def test_steps_of_a_failed_sample_are_counted_up_to_its_failure():
    def field(time, state):
        return torch.where(state > 1.5, torch.nan, state)

    start = torch.tensor([[0.1], [1.0]], dtype=torch.float64)
    times = torch.tensor([[0.0, 2.0]], dtype=torch.float64).expand(2, 2)
    solved = Dopri5().solve(InitialValueProgram(field, start, times))
    assert solved.status.tolist() == [Status.SOLVED, Status.STALLED]
    stats = solved.stats
    assert (stats["accepted"] > 0).all()
    assert torch.equal(stats["accepted"] + stats["rejected"], stats["steps"])
    # It cannot pass x = 1.5.
    assert_close(stats["time"][1], torch.tensor(1.5).double().log(), rtol=1e-3, atol=0)


def test_joint_steps_are_those_of_all_samples():
    stiffness = torch.tensor([1.0, 20.0], dtype=torch.float64)
    solver = Dopri5(joint=True)
    walk = solver.walk(problems(stiffness))
    while walk.is_running:
        assert walk.time[0] == walk.time[1]
        assert walk.size[0] == walk.size[1]
        walk.advance()
    apart = Dopri5().solve(problems(stiffness))
    assert walk.solution().stats["steps"][0] >= apart.stats["steps"].max()


def test_a_sample_that_cannot_begin_does_not_stop_a_joint_walk():
    start = torch.tensor([[torch.nan], [0.1]], dtype=torch.float64)
    times = torch.tensor([[0.0, 1.0]], dtype=torch.float64).expand(2, 2)
    program = InitialValueProgram(lambda time, state: state * state, start, times)
    solved = Dopri5(joint=True).solve(program)
    assert solved.status.tolist() == [Status.NOT_FINITE, Status.SOLVED]
    exact = torch.tensor(1 / 9, dtype=torch.float64)
    assert_close(solved.value[1, -1, 0], exact, rtol=1e-6, atol=0)


def test_a_record_tells_where_every_save_time_lies():
    walk = Dopri5().walk(problems(torch.tensor([1.0, 20.0]).double()), records=True)
    while walk.is_running:
        walk.advance()
    grid, places = walk.grid(), walk.saves.places()
    times = problems(torch.ones(2).double()).times
    assert (places.iteration[:, 0] == -1).all()
    index = places.iteration[:, 1:].t()
    begin, size = grid.times.gather(0, index), grid.sizes.gather(0, index)
    found = begin + places.fraction[:, 1:].t() * size
    assert_close(found.t(), times[:, 1:], rtol=1e-14, atol=1e-14)


def test_a_record_holds_the_path_of_accepted_steps():
    walk = Dopri5().walk(problems(torch.tensor([20.0]).double()), records=True)
    while walk.is_running:
        walk.advance()
    grid = walk.grid()
    assert (grid.sizes == 0).any()
    assert_close((grid.times + grid.sizes)[:-1], grid.times[1:], rtol=1e-14, atol=1e-14)
    stays = grid.sizes[:-1, 0] == 0
    assert torch.equal(grid.states[:-1][stays], grid.states[1:][stays])


def test_records_that_were_taken_are_forgotten():
    walk = Dopri5().walk(problems(torch.tensor([1.0]).double()), records=True)
    for _ in range(3):
        walk.advance()
    assert len(walk.take_grid().times) == 3
    walk.advance()
    assert len(walk.grid().times) == 1


def test_the_fraction_is_that_of_the_slowest_sample():
    walk = Dopri5().walk(problems(torch.tensor([1.0, 20.0]).double()))
    seen = [walk.fraction]
    while walk.is_running:
        walk.advance()
        seen.append(walk.fraction)
        slowest = walk.time[walk.running].amin() if walk.is_running else 5.0
        assert seen[-1] == pytest.approx(float(slowest) / 5)
    assert seen[0] == 0 and seen[-1] == 1
    assert seen == sorted(seen)


def test_a_watch_is_called_after_every_step():
    walk, counts = Dopri5().walk(problems(torch.tensor([1.0]).double())), []
    walk.watch = lambda one: counts.append(one.count)
    while walk.is_running:
        walk.advance()
    assert counts == list(range(1, walk.count + 1))


def test_a_fixed_step_that_overflows_ends_its_sample():
    start = torch.tensor([[0.5], [50.0]], dtype=torch.float64)
    times = torch.tensor([[0.0, 1.0]], dtype=torch.float64).expand(2, 2)
    program = InitialValueProgram(lambda time, state: state**20, start / 5, times)
    solved = RK4(control=FixedStep(size=0.1)).solve(program)
    assert solved.status.tolist() == [Status.SOLVED, Status.NOT_FINITE]
    assert solved.stats["steps"][1] == 1


def test_longest_and_shortest_steps_are_kept():
    limited = Dopri5(max_step=0.01).solve(
        program_of(oscillator, [1.0, 0.0], [0.0, 1.0])
    )
    assert limited.stats["steps"] >= 100
    stalled = Dopri5(min_step=0.5, rtol=1e-12).solve(
        program_of(oscillator, [1.0, 0.0], [0.0, 10.0])
    )
    assert stalled.status[0] == Status.STALLED


def test_the_first_step_may_be_given():
    walk = Dopri5(first_step=0.125).walk(program_of(oscillator, [1.0, 0.0], [0.0, 1.0]))
    assert walk.size[0] == 0.125
