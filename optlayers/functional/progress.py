"""A bar for long integrations."""

import time
from typing import Any

from rich.console import Console
from rich.progress import Progress

from optlayers.solvers.ode.drive import Walk

# Seconds between two looks at how far the samples are, each of which waits for them.
PAUSE = 0.1


class ProgressBar:
    """Shows the share of its time that the slowest sample has covered.

    Once left it stays silent, whoever goes on to call it.
    """

    def __init__(self, title: str) -> None:
        self._progress = Progress(console=Console(stderr=True))
        self._task = self._progress.add_task(title, total=1.0)
        self._next = 0.0
        self._is_shown = False

    def __enter__(self) -> "ProgressBar":
        self._progress.start()
        self._is_shown = True
        return self

    def __exit__(self, *error: Any) -> None:
        self._is_shown = False
        self._progress.stop()

    def update(self, walk: Walk) -> None:
        """Look at a walk after one of its steps."""
        if not self._is_shown:
            return
        now = time.perf_counter()
        if now < self._next and walk.is_running:
            return
        self._next = now + PAUSE
        self._progress.update(self._task, completed=walk.fraction)
