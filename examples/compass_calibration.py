"""Compasses calibrated from readings of which one in six is disturbed by other magnets.

A turned compass reads points of an ellipse: minimize the sum of rho(|S (m - c)| - 1)
over its center c and S, which makes a unit circle of it. The derivative of the fit
says how much each reading counts.
"""

import math

import torch

import optlayers as ol
from optlayers import Parameter, Variable, minimize

SENSORS, READINGS, NOISE = 12, 60, 0.01


def off_circle(center, shape, m):
    """How far each reading is from the circle, once corrected."""
    u, v = m[:, 0] - center[0], m[:, 1] - center[1]
    east, north = shape[0] * u + shape[1] * v, shape[2] * v
    return ol.sqrt(east**2 + north**2) - 1


@ol.problem
def squares(
    center=Variable("2", start=0), shape=Variable("3", start=(1, 0, 1)),
    m=Parameter("k 2"),
):  # fmt: skip
    return minimize(ol.sum_squares(off_circle(center, shape, m)))


@ol.problem
def robust(
    center=Variable("2", start=0), shape=Variable("3", start=(1, 0, 1)),
    m=Parameter("k 2"), scale=Parameter(nonneg=True),
):  # fmt: skip
    r = off_circle(center, shape, m)
    return minimize(scale**2 * ol.sum(ol.log(1 + (r / scale) ** 2)))


def readings():
    """Readings [S, k, 2], the true centers [S, 2], and which are disturbed, [S, k]."""
    torch.manual_seed(0)
    double = {"dtype": torch.float64}
    angle = torch.rand(SENSORS, READINGS, **double) * 2 * math.pi
    circle = torch.stack([angle.cos(), angle.sin()], -1)
    bend = torch.eye(2, **double) + 0.15 * torch.randn(SENSORS, 2, 2, **double)
    center = 0.2 * torch.randn(SENSORS, 2, **double)
    m = circle @ bend.mT + center[:, None]
    m = m + NOISE * torch.randn_like(m)
    disturbed = torch.rand(SENSORS, READINGS) < 1 / 6
    magnet = torch.rand(SENSORS, READINGS, 2, **double) + 0.2
    return m + disturbed[..., None] * magnet, center, disturbed


def draw(folder):
    """The readings of one compass, both fits, and how much each reading counts."""
    import matplotlib.pyplot as plt

    m, _, disturbed = readings()
    m = m[:1].requires_grad_()
    fits = {"squares": squares(m), "robust": robust(m=m, scale=3 * NOISE)}
    figure, axes = plt.subplots(
        1, 2, sharex=True, sharey=True, figsize=(8, 4), layout="constrained"
    )
    angle = torch.linspace(0, 2 * math.pi, 200, dtype=torch.float64)
    for axis, (name, out) in zip(axes, fits.items(), strict=True):
        (a, b, c), center = out.shape[0].tolist(), out.center[0].detach()
        S = torch.tensor([[a, b], [0.0, c]], dtype=torch.float64)
        ellipse = torch.stack([angle.cos(), angle.sin()], -1) @ S.inverse().mT + center
        weight = influence(out, m)[0]
        points = m[0].detach()
        for own, color in ((~disturbed[0], "C0"), (disturbed[0], "C3")):
            size = 10 + 150 * (weight / weight.max())[own]
            axis.scatter(*points[own].T, s=size, color=color, alpha=0.5, lw=0)
        axis.plot(*ellipse.T, "k", lw=1)
        axis.set(title=name, aspect="equal")
    figure.savefig(f"{folder}/compass.png", dpi=120)


def influence(out, m):
    """How far the center moves with each reading, [S, k]."""
    rows = [
        torch.autograd.grad(out.center[:, k].sum(), m, retain_graph=True)[0]
        for k in range(2)
    ]
    return torch.stack(rows).square().sum((0, 3)).sqrt()


def main():
    m, center, disturbed = readings()
    m.requires_grad_()
    plain, careful = squares(m), robust(m=m, scale=3 * NOISE)
    errors = [
        float((out.center.detach() - center).norm(dim=1).mean())
        for out in (plain, careful)
    ]
    print(f"mean error of the centers: {errors[0]:.4f} by squares, {errors[1]:.4f} not")
    weight = influence(careful, m)
    inside, outside = weight[~disturbed].mean(), weight[disturbed].mean()
    print(f"a reading moves its center by {inside:.4f}, a disturbed one {outside:.4f}")
    print("steps", plain.stats["steps"].tolist(), careful.stats["steps"].tolist())
    # What the noise alone leaves of the center is about a third of it.
    assert errors[1] < NOISE < errors[0] / 3
    assert outside < inside / 2


if __name__ == "__main__":
    main()
