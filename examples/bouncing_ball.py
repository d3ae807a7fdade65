"""When a ball hits the floor, and how that depends on where it was dropped.

h' = v, v' = -g; at h = 0 the speed is reversed and e of it is kept. The impacts are at
t_1 = sqrt(2 h0 / g) and then 2 e^k t_1 apart, so that all derivatives are known.
"""

import torch

import optlayers as ol
from optlayers import Parameter, State, Time, integrate

COUNT = 4


@ol.problem
def ball(h=State(), v=State(), h0=Parameter(), e=Parameter(), g=Parameter(), t=Time()):
    return integrate(
        ol.der(h) == v,
        ol.der(v) == -g,
        h.first == h0,
        v.first == 0,
        impact=ol.event(h, direction=-1, jump={v: -e * v}),
    )


def exact_impacts(h0, e, g):
    """The first impacts in closed form, [*batch, COUNT]."""
    first = torch.sqrt(2 * h0 / g)
    gaps = [first] + [2 * e**k * first for k in range(1, COUNT)]
    return torch.stack(gaps, -1).cumsum(-1)


def draw(folder):
    """Height over time, and the impacts."""
    import matplotlib.pyplot as plt

    e = torch.tensor([0.9, 0.8, 0.7], dtype=torch.float64)
    one = torch.tensor(1.0, dtype=torch.float64)
    t = torch.linspace(0, 2, 600, dtype=torch.float64)
    out = ball(h0=one, e=e, g=9.81 * one, t=t)
    figure, axis = plt.subplots(figsize=(8, 3.2), layout="constrained")
    for k, kept in enumerate(e.tolist()):
        axis.plot(t, out.h[k], color=f"C{k}", label=f"e = {kept}")
        hits = out.events.impact.times[k]
        axis.plot(hits, 0 * hits, "o", color=f"C{k}")
    axis.set(xlabel="time in s", ylabel="height in m")
    axis.legend()
    figure.savefig(f"{folder}/bouncing_ball.png", dpi=120)


def main():
    h0 = torch.tensor([1.0, 1.5], dtype=torch.float64, requires_grad=True)
    e = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    g = torch.tensor(9.81, dtype=torch.float64, requires_grad=True)
    t = torch.linspace(0, 3.5, 6, dtype=torch.float64)
    found = ball(h0=h0, e=e, g=g, t=t).events.impact.times[..., :COUNT]
    exact = exact_impacts(h0, e, g)
    print("impacts", [[round(s, 4) for s in row] for row in found.tolist()])
    ours = torch.autograd.grad(found[:, -1].sum(), (h0, e, g))
    theirs = torch.autograd.grad(exact[:, -1].sum(), (h0, e, g))
    gaps = [(a - b).abs().max().item() for a, b in zip(ours, theirs, strict=True)]
    print("d t_4 / d (h0, e, g) within", max(gaps), "of the closed form")
    assert torch.allclose(found, exact, rtol=0, atol=1e-8) and max(gaps) < 1e-7


if __name__ == "__main__":
    main()
