"""Rosenbrock's valley on disks: the minimum, the price of the radius, and its slope.

Where the disk is small its rim holds the minimum, and the multiplier says how much the
value falls as the disk grows: d value / d radius = -2 radius * multiplier.
"""

import torch

import optlayers as ol
from optlayers import Parameter, Variable, minimize


@ol.problem
def ring(x=Variable("2", start=(0.5, 0.5)), a=Parameter(), r=Parameter(nonneg=True)):
    return minimize(
        (1 - x[0]) ** 2 + a * (x[1] - x[0] ** 2) ** 2, outer=ol.sum_squares(x) <= r**2
    )


def main() -> None:
    """Solve for five radii at once and print a line for each."""
    radii = torch.tensor([0.5, 0.75, 1.0, 1.25, 2.0], dtype=torch.float64)
    radii.requires_grad_()
    out = ring(a=torch.tensor(100.0, dtype=torch.float64), r=radii)
    (slope,) = torch.autograd.grad(out.objective.sum(), radii, retain_graph=True)
    (motion,) = torch.autograd.grad(out.x.sum(), radii)
    value, price = out.objective.tolist(), out.dual.outer.tolist()
    print("radius      x                 value   multiplier   d value   d sum(x)")
    for k, radius in enumerate(radii.tolist()):
        x, y = out.x[k].tolist()
        print(
            f"{radius:6.2f}  ({x:.4f}, {y:.4f})  {value[k]:8.4f}  {price[k]:9.4f}"
            f"  {slope[k]:9.4f}  {motion[k]:9.4f}"
        )
    priced = torch.allclose(slope, -2 * radii * out.dual.outer)
    free = torch.allclose(out.x[-1], torch.ones(2, dtype=torch.float64))
    assert priced and free


if __name__ == "__main__":
    main()
