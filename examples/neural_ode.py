"""A network learns the field of a spiral from pieces of noisy trajectories.

x' = A tanh(x) is what is to be found; the network sees states at 16 times only.
Source: Chen, Rubanova, Bettencourt, Duvenaud, Neural Ordinary Differential Equations
(2018), section 5.
"""

import torch
from torch import nn

import optlayers as ol

A = torch.tensor([[-0.1, 2.0], [-2.0, -0.1]])
TIMES = torch.linspace(0, 1.5, 16)
STEPS, PIECES = 300, 64


def spiral(time, state):
    return torch.tanh(state) @ A.T


def trajectories(count, times, seed):
    """Exact pieces that start anywhere, [count, T, 2]."""
    generator = torch.Generator().manual_seed(seed)
    start = 4 * torch.rand(count, 2, generator=generator) - 2
    return ol.functional.integrate(spiral, start, times).value


def model():
    net = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 2))
    return ol.NeuralODE(net, rtol=1e-4, atol=1e-5)


def train(layer, pieces):
    """Follow the pieces, from where each starts."""
    optimizer = torch.optim.Adam(layer.parameters(), lr=2e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for step in range(STEPS):
        rows = torch.randint(len(pieces), (32,))
        path = layer(pieces[rows, 0], TIMES)
        loss = (path - pieces[rows]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(f"step {step:3}: error {loss.item() ** 0.5:.4f}")


def error_ahead(layer):
    """The error over a span three times as long as any that was seen."""
    times = torch.linspace(0, 4.5, 46)
    wanted = trajectories(20, times, seed=7)
    with torch.no_grad():
        return (layer(wanted[:, 0], times) - wanted).norm(dim=2).mean().item()


def draw(folder):
    """Phase portraits of the field, and of the network before and after."""
    import matplotlib.pyplot as plt

    torch.manual_seed(0)
    layer = model()
    times = torch.linspace(0, 6, 200)
    start = torch.tensor([[2.0, 0.0], [-1.0, 1.5], [0.5, -1.8]])
    grid = torch.stack(
        torch.meshgrid(*[torch.linspace(-2.4, 2.4, 17)] * 2, indexing="xy"), -1
    )
    figure, axes = plt.subplots(
        1, 3, figsize=(12, 4.3), sharex=True, sharey=True, layout="constrained"
    )

    def portrait(axis, field, path, title):
        rate = field(grid.view(-1, 2)).detach().view(17, 17, 2)
        axis.quiver(*grid.unbind(2), *rate.unbind(2), color="0.7")
        for one in path.detach():
            axis.plot(*one.T)
        axis.set(title=title, xlim=(-2.5, 2.5), ylim=(-2.5, 2.5), aspect="equal")

    portrait(axes[1], layer.field, layer(start, times), "network before")
    train(layer, trajectories(PIECES, TIMES, seed=1))
    exact = ol.functional.integrate(spiral, start, times).value
    portrait(axes[0], lambda x: spiral(None, x), exact, "true field")
    portrait(axes[2], layer.field, layer(start, times), "network after")
    figure.savefig(f"{folder}/neural_ode.png", dpi=120)


def main():
    torch.manual_seed(0)
    pieces = trajectories(PIECES, TIMES, seed=1)
    pieces = pieces + 0.01 * torch.randn_like(pieces)
    layer = model()
    before = error_ahead(layer)
    train(layer, pieces)
    after = error_ahead(layer)
    print(f"mean error ahead: {before:.3f} before, {after:.3f} after learning")
    assert after < 0.1 < 1.0 < before


if __name__ == "__main__":
    main()
