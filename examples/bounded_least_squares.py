"""Least squares with bounds: learn the matrix of a fit from the fits it should give."""

import torch
from torch import nn

import optlayers as ol
from optlayers import Parameter, Variable, minimize


@ol.problem
def fit(x=Variable("n", lower=0, upper=1), A=Parameter("m n"), b=Parameter("m")):
    return minimize(ol.sum_squares(A @ x - b))


def main():
    torch.manual_seed(0)
    truth = torch.randn(8, 3)
    b = truth @ torch.rand(40, 3, 1)
    b = b[..., 0] + 0.1 * torch.randn(40, 8)
    wanted = fit(A=truth, b=b).x

    layer = fit.layer(A=nn.Parameter(truth + 0.3 * torch.randn(8, 3)))
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.02)
    losses = []
    for _ in range(60):
        loss = (layer(b=b).x - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(f"mean squared distance to the wanted fits: {losses[0]:.4f} -> {loss:.6f}")
    assert losses[-1] < 0.05 * losses[0]


if __name__ == "__main__":
    main()
