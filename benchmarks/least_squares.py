"""Time a bundle adjustment by its pattern, by dense matrices, and by SciPy.

Cameras of six unknowns (small rotations) see every point of three; the same residuals
and start for all. Every answer's gradient is checked before its time is printed.

    python benchmarks/least_squares.py [--cameras 10] [--points 50] [--repeats 1]
"""

import argparse
import os
from collections.abc import Callable
from statistics import median
from time import perf_counter, process_time

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.optimize import least_squares as scipy_least_squares
from scipy.sparse import csr_array
from torch import Tensor

from optlayers import functional

CLOCKS = {"wall": perf_counter, "cpu": process_time}
DOUBLE = {"dtype": torch.float64}
# Relative to the terms of the gradient, as of our own solvers.
TOLERANCE = 1e-8
NOISE, PRIOR = 1e-3, 1e-2


class Bundle:
    """Pinhole cameras above a cloud of points, both to be found from their images.

    Attributes:
        start: [1, 6 c + 3 p], from where every method begins.
        sparsity: which residual depends on which unknown, bool [2 c p + n, n].
    """

    def __init__(self, cameras: int, points: int) -> None:
        generator = torch.Generator().manual_seed(0)

        def random(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, **DOUBLE)

        self.cameras, self.points = cameras, points
        pose = 0.1 * random(1, cameras, 6)
        cloud = random(1, points, 3) + torch.tensor([0.0, 0.0, 6.0], **DOUBLE)
        truth = torch.cat([pose.flatten(1), cloud.flatten(1)], 1)
        self.seen = self.images(truth) + NOISE * random(1, 2 * cameras * points)
        self.start = truth + 0.05 * random(*truth.shape)
        self.sparsity = self._sparsity()

    def images(self, x: Tensor) -> Tensor:
        """Where each camera sees each point, [B, n] -> [B, 2 c p]."""
        pose = x[:, : 6 * self.cameras].unflatten(1, (self.cameras, 1, 6))
        cloud = x[:, 6 * self.cameras :].unflatten(1, (1, self.points, 3))
        turn, shift = pose[..., :3], pose[..., 3:]
        turn = turn.expand(-1, -1, self.points, -1)
        local = cloud + torch.linalg.cross(turn, cloud.expand_as(turn)) + shift
        return (local[..., :2] / local[..., 2:]).flatten(1)

    def residuals(self, x: Tensor) -> Tensor:
        """Errors of the images, and a weak tie to the start, [B, n] -> [B, k]."""
        return torch.cat([self.images(x) - self.seen, PRIOR * (x - self.start)], 1)

    def gradient_size(self, x: Tensor) -> float:
        """The largest entry of the gradient at [1, n], relative to its terms."""
        jacobian = torch.func.jacrev(lambda one: self.residuals(one[None])[0])(x[0])
        r = self.residuals(x)[0]
        terms = (jacobian.abs().mT @ r.abs()).clamp_min(0.5)
        return float(((jacobian.mT @ r).abs() / terms).max())

    def _sparsity(self) -> Tensor:
        seer, seen = np.indices((self.cameras, self.points)).reshape(2, -1)
        n = self.start.shape[1]
        mask = np.zeros((2, len(seer), n), dtype=bool)
        pair = np.arange(len(seer))
        for k in range(6):
            mask[:, pair, 6 * seer + k] = True
        for k in range(3):
            mask[:, pair, 6 * self.cameras + 3 * seen + k] = True
        images = mask.transpose(1, 0, 2).reshape(-1, n)
        return torch.from_numpy(np.concatenate([images, np.eye(n, dtype=bool)]))


def ours(bundle: Bundle, sparsity: Tensor | None, batch: int = 1) -> Tensor:
    start = bundle.start.expand(batch, -1)
    return functional.least_squares(
        bundle.residuals, start, sparsity=sparsity, solver="levenberg_marquardt",
        tolerance=TOLERANCE,
    ).value[:1]  # fmt: skip


def scipys(bundle: Bundle) -> Tensor:
    def residuals(x: np.ndarray) -> np.ndarray:
        return bundle.residuals(torch.from_numpy(x)[None])[0].numpy()

    found = scipy_least_squares(
        residuals, bundle.start[0].numpy(), jac_sparsity=csr_array(bundle.sparsity),
        x_scale="jac", method="trf", ftol=1e-10, max_nfev=50,
    )  # fmt: skip
    return torch.from_numpy(found.x)[None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cameras", type=int, default=10)
    parser.add_argument("--points", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    clock = CLOCKS[options.clock]
    bundle = Bundle(options.cameras, options.points)
    entries: dict[str, Callable[[], Tensor]] = {
        "by its pattern": lambda: ours(bundle, bundle.sparsity),
        "four of them at once": lambda: ours(bundle, bundle.sparsity, 4),
        "dense": lambda: ours(bundle, None),
        "SciPy, by its pattern": lambda: scipys(bundle),
    }
    reference = entries["by its pattern"]()
    table = Table(title=f"{options.cameras} cameras, {options.points} points")
    for title in ("method", "gradient", "difference", "seconds (min, median, max)"):
        table.add_column(title)
    for name, entry in entries.items():
        x, times = entry(), []
        for _ in range(options.repeats):
            began = clock()
            entry()
            times.append(clock() - began)
        size, apart = bundle.gradient_size(x), float((x - reference).abs().max())
        seconds = f"{min(times):.2f} {median(times):.2f} {max(times):.2f}"
        table.add_row(name, f"{size:.0e}", f"{apart:.0e}", seconds)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
