"""Samples on a pool of threads: each exactly once, faults not swallowed."""

import multiprocessing
import threading
import time

import pytest

from optlayers.solvers import get_num_threads, set_num_threads
from optlayers.solvers.per_instance import WORTH_SHARING, per_instance


@pytest.fixture
def threads():
    """Set the number of threads for one test."""
    yield set_num_threads
    set_num_threads(None)


def run(batch_size: int, seconds: float) -> tuple[list[int], int, set[str]]:
    """Samples solved, how often threads prepared, and which threads took part."""
    seen: list[int] = []
    names: set[str] = set()
    prepared: list[int] = []

    def prepare():
        prepared.append(1)

        def solve(sample):
            time.sleep(seconds)
            seen.append(sample)
            names.add(threading.current_thread().name)

        return solve

    per_instance(prepare, batch_size)
    return seen, len(prepared), names


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("batch_size", [0, 1, 2, 13])
def test_every_sample_is_solved_once(threads, count, batch_size):
    threads(count)
    seen, _, _ = run(batch_size, 2 * WORTH_SHARING)
    assert sorted(seen) == list(range(batch_size))


def test_one_thread_solves_in_order_where_it_is_called(threads):
    threads(1)
    seen, prepared, names = run(5, 2 * WORTH_SHARING)
    assert seen == [0, 1, 2, 3, 4]
    assert prepared == 1
    assert names == {threading.current_thread().name}


def test_long_work_is_shared_and_each_thread_prepares_once(threads):
    threads(3)
    _, prepared, names = run(12, 5 * WORTH_SHARING)
    assert prepared == 3
    assert len(names) == 3


def test_short_work_stays_where_it_is(threads, monkeypatch):
    # A busy machine may take any time over nothing; the clock says it took none.
    monkeypatch.setattr("optlayers.solvers.per_instance.perf_counter", lambda: 0.0)
    threads(3)
    _, prepared, _ = run(3, 0.0)
    assert prepared == 1


def test_an_exception_of_a_sample_reaches_the_caller(threads):
    threads(4)

    def prepare():
        def solve(sample):
            time.sleep(2 * WORTH_SHARING)
            if sample == 5:
                raise ArithmeticError("sample 5")

        return solve

    with pytest.raises(ArithmeticError, match="sample 5"):
        per_instance(prepare, 12)


def test_the_number_of_threads_follows_torch_unless_set(threads):
    assert get_num_threads() == 1  # as conftest sets torch's
    threads(3)
    assert get_num_threads() == 3
    with pytest.raises(ValueError, match="at least 1, not 0"):
        set_num_threads(0)


def share_in_a_child(results) -> None:
    set_num_threads(2)
    results.put(sorted(run(6, 2 * WORTH_SHARING)[0]))


# Python 3.12 warns of any fork beside threads, which is what is tested here.
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_makes_a_pool_of_its_own(threads):
    threads(2)
    run(4, 2 * WORTH_SHARING)
    fork = multiprocessing.get_context("fork")
    results = fork.Queue()
    child = fork.Process(target=share_in_a_child, args=(results,))
    child.start()
    try:
        assert results.get(timeout=60) == list(range(6))
    finally:
        child.join(timeout=10)
        child.close()
        results.close()
        results.join_thread()
