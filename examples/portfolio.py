"""Decide, then learn: a forecast trained on the profit of the portfolio it leads to.

Each day has features; returns depend on them linearly, with noise. The portfolio is a
second-order cone program, and its realized profit is differentiated through it.
"""

import torch
from torch import nn

import optlayers as ol
from optlayers import Parameter, Variable, maximize


@ol.problem
def portfolio(
    w=Variable("n", nonneg=True),
    mu=Parameter("n"),
    L=Parameter("n n"),
    risk=Parameter(nonneg=True),
):
    return maximize(mu @ w, budget=ol.sum(w) == 1, cap=ol.norm(L @ w) <= risk)


def main():
    torch.manual_seed(0)
    assets, features = 5, 3
    truth = torch.randn(features, assets)
    days = torch.randn(48, features)
    returns = days @ truth + 0.5 * torch.randn(48, assets)

    allocate = portfolio.layer(n=assets, L=0.3 * torch.eye(assets), risk=0.2)
    forecast = nn.Linear(features, assets)
    optimizer = torch.optim.Adam(forecast.parameters(), lr=0.05)

    def profit():
        return (allocate(mu=forecast(days)).w * returns).sum(dim=-1).mean()

    before = profit().item()
    for _ in range(40):
        optimizer.zero_grad()
        (-profit()).backward()
        optimizer.step()
    after, best = (
        profit().item(),
        (allocate(mu=days @ truth).w * returns).sum(-1).mean(),
    )
    print(
        f"mean profit: {before:.3f} before, {after:.3f} after, {best:.3f} knowing all"
    )
    assert after > 0.9 * best


if __name__ == "__main__":
    main()
