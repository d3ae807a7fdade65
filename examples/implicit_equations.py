"""Three equations for y that define it as a function of x, and its slope dy/dx.

Each slope is that of the implicit function theorem, -(dF/dy)^-1 dF/dx.
"""

import torch

import optlayers as ol
from optlayers import Parameter, Variable, solve


@ol.problem
def phase(y=Variable(), x=Parameter()):
    return solve(torch.sin(y + x) == 0)


@ol.problem
def upper(y=Variable(lower=0, start=0.5), x=Parameter()):
    return solve(x**2 + y**2 == 1)


@ol.problem
def lower(y=Variable(upper=0, start=-0.5), x=Parameter()):
    return solve(x**2 + y**2 == 1)


# For x > 1 there is a root beside y = 0, of which the bound is kept clear.
@ol.problem
def wave(y=Variable(lower=0.1, start=1), x=Parameter()):
    return solve(torch.sin(x * y) == y)


# By hand.
SLOPES = {
    phase: lambda x, y: -torch.ones_like(x),
    upper: lambda x, y: -x / y,
    lower: lambda x, y: -x / y,
    wave: lambda x, y: y * torch.cos(x * y) / (1 - x * torch.cos(x * y)),
}
POINTS = {
    phase: torch.linspace(-1, 1, 5, dtype=torch.float64),
    upper: torch.linspace(-0.8, 0.8, 5, dtype=torch.float64),
    lower: torch.linspace(-0.8, 0.8, 5, dtype=torch.float64),
    wave: torch.linspace(1.2, 2.5, 5, dtype=torch.float64),
}


def main():
    errors = []
    for problem, by_hand in SLOPES.items():
        x = POINTS[problem].clone().requires_grad_()
        y = problem(x=x).y
        (slope,) = torch.autograd.grad(y.sum(), x)
        expected = by_hand(x, y).detach()
        errors.append((slope - expected).abs().max())
        print(problem)
        for row in zip(x.tolist(), y.tolist(), slope.tolist(), strict=True):
            print("    x = {:5.2f}   y = {:7.4f}   dy/dx = {:7.4f}".format(*row))
    print(f"largest difference from the slopes by hand: {max(errors):.1e}")
    assert max(errors) < 1e-8


if __name__ == "__main__":
    main()
