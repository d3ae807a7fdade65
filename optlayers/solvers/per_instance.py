"""Lift a solver of one sample over a batch, on a shared pool of threads.

Worth it only for solvers that release the interpreter lock; results never depend on
the number of threads, because every sample is solved alone.
"""

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import torch

# Below this much work (seconds) a hand-over to another thread costs more than it saves.
WORTH_SHARING = 1e-3
# Threads start on demand; this many can serve several callers at once.
POOL_SIZE = max(32, os.cpu_count() or 1)

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_requested: int | None = None


def set_num_threads(count: int | None) -> None:
    """Solve the samples of a batch on `count` threads; None follows torch.

    Raises:
        ValueError: `count` is below one.
    """
    global _requested
    if count is not None and count < 1:
        raise ValueError(f"the number of threads is at least 1, not {count}.")
    _requested = count


def get_num_threads() -> int:
    """How many threads a batch is solved on; `torch.get_num_threads()` by default."""
    return _requested or torch.get_num_threads()


def per_instance(prepare: Callable[[], Callable[[int], None]], batch_size: int) -> None:
    """Solve samples 0..B - 1, each exactly once.

    The first sample is solved here; when the time it took says that the rest is worth
    sharing, threads of the pool join in and take sample after sample.

    Args:
        prepare: called once on each thread that takes part; returns a function that
            solves the sample of a given number and stores what it finds.
        batch_size: the number of samples B.
    """
    if batch_size == 0:
        return
    solve = prepare()
    threads = min(get_num_threads(), batch_size, POOL_SIZE)
    if threads <= 1:
        for sample in range(batch_size):
            solve(sample)
        return
    started = perf_counter()
    solve(0)
    remaining = (perf_counter() - started) * (batch_size - 1)
    if remaining <= WORTH_SHARING:
        for sample in range(1, batch_size):
            solve(sample)
        return
    _share(prepare, solve, batch_size, threads)


def _share(
    prepare: Callable[[], Callable[[int], None]],
    solve: Callable[[int], None],
    batch_size: int,
    threads: int,
) -> None:
    """Solve samples 1..B - 1 on this thread and `threads` - 1 others."""
    tickets = itertools.count(1)  # next() on it is atomic

    def work(solve: Callable[[int], None]) -> None:
        for sample in tickets:
            if sample >= batch_size:
                return
            solve(sample)

    pool = _executor()
    waiting = [pool.submit(lambda: work(prepare())) for _ in range(threads - 1)]
    try:
        work(solve)
    finally:
        # Those that never started have nothing left to do.
        for future in waiting:
            future.cancel()
    for future in waiting:
        if not future.cancelled():
            future.result()


def _executor() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(POOL_SIZE, thread_name_prefix="optlayers")
        return _pool


def _forget_pool() -> None:
    """A forked child inherits the pool but none of its threads."""
    global _pool, _lock
    _pool = None
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_pool)
