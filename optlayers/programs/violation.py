"""How far a point of a constrained program is from the KKT conditions."""

import torch
from torch import Tensor


def largest_violation(
    value: Tensor,
    gradient: Tensor,
    pulled: Tensor,
    equality: Tensor,
    rows: Tensor,
    slack: Tensor,
    own_terms: Tensor | None = None,
) -> Tensor:
    """The largest entry of F(z), relative, [B]; inf where one, or f, is not finite.

    An entry of grad f + Jh'y + Jr'lam counts relative to the terms it is the sum of
    where these are above 1, an entry of r + s to s; h counts as it is.

    Args:
        value: f(x), [B].
        gradient: grad f, [B, n].
        pulled: Jh'y + Jr'lam, [B, n].
        equality: h(x), [B, me].
        rows: r(x), [B, m].
        slack: s, [B, m], not negative.
        own_terms: how large the terms of grad f itself are, where it is known of what
            it is the sum, [B, n].
    """
    terms = torch.maximum(gradient.abs(), pulled.abs())
    largest = terms.amax(1, keepdim=True).clamp_min(1) if terms.numel() else 1
    if own_terms is not None:
        largest = torch.maximum(own_terms, torch.as_tensor(largest).to(own_terms))
    slope = (gradient + pulled) / largest
    every = torch.cat([slope, equality, (rows + slack) / slack.clamp_min(1)], 1).abs()
    worst = every.amax(1) if every.shape[1] else every.new_zeros(len(every))
    worst = worst.masked_fill(~value.isfinite(), torch.inf)
    return torch.where(worst.isnan(), torch.inf, worst)
