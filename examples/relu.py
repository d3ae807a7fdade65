"""ReLU is a projection onto the nonnegative orthant, in value and in gradient."""

import torch

import optlayers as ol
from optlayers import Parameter, Variable, minimize


@ol.problem
def relu(x=Variable("n", nonneg=True), y=Parameter("n")):
    return minimize(ol.sum_squares(x - y))


def main():
    torch.manual_seed(0)
    y = torch.randn(16, 10, dtype=torch.float64, requires_grad=True)
    ours, theirs = relu(y=y).x, torch.relu(y)
    (gradient,) = torch.autograd.grad(ours.square().sum(), y)
    (expected,) = torch.autograd.grad(theirs.square().sum(), y)
    print(f"largest difference: {(ours - theirs).abs().max():.1e} in value")
    print(f"                    {(gradient - expected).abs().max():.1e} in gradient")
    assert torch.allclose(ours, theirs)
    assert torch.allclose(gradient, expected)


if __name__ == "__main__":
    main()
