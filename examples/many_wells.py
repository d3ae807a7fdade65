"""An egg box of a hundred wells: many starts find the lowest, and follow its shift.

f(x) = |x - a|^2 + 20 - 10 sum(cos 2 pi (x - a)), Rastrigin's function, is zero at a;
one start ends in a well near itself. `draw("docs/assets")` makes the picture.
"""

import math

import torch

import optlayers as ol
from optlayers import Parameter, Variable, minimize


@ol.problem
def egg_box(x=Variable("2", lower=-5, upper=5), a=Parameter("2")):
    waves = ol.sum(torch.cos(2 * math.pi * (x - a)))
    return minimize(20 + ol.sum_squares(x - a) - 10 * waves)


def shifts(count):
    """Where the lowest wells lie, [count, 2]."""
    generator = torch.Generator().manual_seed(4)
    return 6 * torch.rand(count, 2, generator=generator, dtype=torch.float64) - 3


def draw(folder):
    """The wells, where 128 starts of one problem end, and which is kept."""
    import matplotlib.pyplot as plt

    a = torch.tensor([1.3, -0.6], dtype=torch.float64)
    every = egg_box(a, starts=128, all_starts=True, on_failure="keep")
    best = egg_box(a, starts=128).x
    side = torch.linspace(-5, 5, 301, dtype=torch.float64)
    points = torch.cartesian_prod(side, side).reshape(301, 301, 2)
    height = 20 + (points - a).square().sum(-1)
    height = height - 10 * torch.cos(2 * math.pi * (points - a)).sum(-1)
    figure, axis = plt.subplots(figsize=(5.2, 4.4), layout="constrained")
    shades = axis.contourf(side, side, height.T, 24, cmap="viridis")
    axis.scatter(*every.x[every.ok].T, s=12, color="w", lw=0, label="128 starts end")
    axis.scatter(*best, s=90, marker="*", color="C3", label="kept")
    axis.legend(loc="upper left", facecolor="0.6", framealpha=1)
    figure.colorbar(shades)
    figure.savefig(f"{folder}/many_wells.png", dpi=120)


def main():
    a = shifts(8).requires_grad_()
    found = {}
    for starts in (1, 16, 128):
        out = egg_box(a, starts=starts, on_failure="keep")
        found[starts] = int((out.objective < 1e-8).sum())
        print(f"{starts:4d} starts: the lowest well of {found[starts]} of 8")
    at_lowest = out.objective.detach() < 1e-8
    (slope,) = torch.autograd.grad(out.x[at_lowest].sum(), a)
    # The lowest well moves with a; a well that is kept elsewhere counts for nothing.
    moves = torch.allclose(slope, at_lowest[:, None].to(slope).expand_as(slope))
    assert moves and found[1] <= 1 and found[128] >= 6


if __name__ == "__main__":
    main()
