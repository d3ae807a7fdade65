"""Learn from measured designs: what does a designer think a unit of delay is worth?

Wires of five segments are sized by a geometric program: the area, and the Elmore delay
into a load, weighted. The exponent of the area is a parameter too, and both are
recovered from the widths alone.
"""

import torch
from torch import nn

import optlayers as ol
from optlayers import Parameter, Variable, minimize

SEGMENTS = 5


@ol.problem(geometric=True)
def wire(
    w=Variable("5", lower=0.1, upper=10.0),
    load=Parameter(),
    worth=Parameter(),
    exponent=Parameter(nonneg=True),
):
    """Widths of least cost: area to some power, and what the delay is worth."""
    delay = 0.0
    for k in range(SEGMENTS):
        # Each segment charges itself, all that follow, and the load.
        delay = delay + (ol.sum(w[k:]) + load) / w[k]
    return minimize(ol.sum(w) ** exponent + worth * delay)


def main():
    torch.manual_seed(0)
    double = {"dtype": torch.float64}
    loads = 1 + 4 * torch.rand(4, **double)
    design = wire.layer()
    truth = {
        "worth": torch.tensor(2.0, **double),
        "exponent": torch.tensor(1.5, **double),
    }
    seen = design(load=loads, **truth).w

    # Logarithms keep both positive.
    guess = nn.Parameter(torch.zeros(2, **double))
    optimizer = torch.optim.LBFGS(
        [guess], max_iter=20, line_search_fn="strong_wolfe", tolerance_change=1e-12
    )

    def loss():
        optimizer.zero_grad()
        worth, exponent = guess.exp()
        found = design(load=loads, worth=worth, exponent=exponent).w
        apart = ((found / seen).log() ** 2).mean()
        apart.backward()
        return apart

    optimizer.step(loss)
    worth, exponent = guess.detach().exp().tolist()
    print(
        f"a unit of delay is worth {worth:.3f} (2), area counts to {exponent:.3f} (1.5)"
    )
    assert abs(worth - 2) < 0.05 and abs(exponent - 1.5) < 0.02


if __name__ == "__main__":
    main()
