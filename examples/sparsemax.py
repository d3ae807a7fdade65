"""Sparsemax: attention as the projection of scores onto the simplex.

Source: Martins and Astudillo, From Softmax to Sparsemax (2016), Algorithm 1.
"""

import torch

import optlayers as ol
from optlayers import Parameter, Variable, minimize


@ol.problem
def sparsemax(p=Variable("n", nonneg=True), z=Parameter("n")):
    return minimize(ol.sum_squares(p - z), simplex=ol.sum(p) == 1)


def closed_form(z):
    """The projection by sorting, rows of [B, n]."""
    ordered = z.sort(dim=-1, descending=True).values
    count = torch.arange(1, z.shape[-1] + 1, dtype=z.dtype)
    excess = ordered.cumsum(dim=-1) - 1
    support = (ordered > excess / count).sum(dim=-1, keepdim=True)
    threshold = excess.gather(-1, support - 1) / support
    return (z - threshold).clamp_min(0)


def main():
    torch.manual_seed(0)
    z = torch.randn(16, 12, dtype=torch.float64, requires_grad=True)
    out = sparsemax(z=z)
    expected = closed_form(z)
    weight = torch.randn_like(expected)
    (gradient,) = torch.autograd.grad((out.p * weight).sum(), z)
    (reference,) = torch.autograd.grad((expected * weight).sum(), z)
    zeros = (out.p < 1e-9).double().mean()
    print(f"{zeros:.0%} of the attention is exactly zero")
    assert torch.allclose(out.p, expected)
    assert torch.allclose(gradient, reference)


if __name__ == "__main__":
    main()
