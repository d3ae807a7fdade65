"""Dense output that is a polynomial in theta with the increments as coefficients.

x(t + theta h) = x + sum_i u_i sum_p d_ip theta^p
"""

import torch
from torch import Tensor


def weighted(dense: Tensor, state: Tensor, stages: Tensor, fraction: Tensor) -> Tensor:
    """The solution within a step, [B, M, n].

    Args:
        dense: d, powers before increments, [P, S].
        state: x, [B, n].
        stages: u, [S, B, n].
        fraction: theta, [B, M].
    """
    count, powers = len(stages), len(dense)
    power = fraction.unsqueeze(2).expand(-1, -1, powers).cumprod(2)
    weight = torch.mm(power.view(-1, powers), dense)
    weight = weight.t().view(count, *fraction.shape, 1)
    # Broadcasting beats a batch of tiny products: 15 us against 22 at B = 256.
    return (stages.unsqueeze(2) * weight).sum(0).add_(state.unsqueeze(1))
