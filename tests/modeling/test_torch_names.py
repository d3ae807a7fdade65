"""Torch functions and Tensor methods that mean an atom: node, shape and value."""

import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close

from optlayers.modeling.field_kinds import Parameter, Variable
from optlayers.modeling.verbs import minimize
from tests.modeling.traced import built, value_of

# What is called, on x [2, 3] and u [3] and M [3, 3], and the atom it must become.
SAID = [
    (lambda x, u, M: torch.abs(x), "abs"),
    (lambda x, u, M: x.abs(), "abs"),
    (lambda x, u, M: torch.negative(x), "negate"),
    (lambda x, u, M: torch.exp(x), "exp"),
    (lambda x, u, M: torch.log(x), "log"),
    (lambda x, u, M: x.log1p(), "log1p"),
    (lambda x, u, M: torch.sqrt(x), "sqrt"),
    (lambda x, u, M: x.square(), "square"),
    (lambda x, u, M: torch.relu(x - 1), "pos"),
    (lambda x, u, M: functional.relu(x - 1), "pos"),
    (lambda x, u, M: functional.softplus(x), "logistic"),
    (lambda x, u, M: torch.special.entr(x), "entr"),
    (lambda x, u, M: torch.clamp(x, min=1), "maximum"),
    (lambda x, u, M: x.clamp(max=1), "minimum"),
    (lambda x, u, M: torch.clamp(x, 0.5, 1), "minimum"),
    (lambda x, u, M: x.clamp_min(1), "maximum"),
    (lambda x, u, M: torch.maximum(x, u), "maximum"),
    (lambda x, u, M: torch.minimum(x, u), "minimum"),
    (lambda x, u, M: torch.add(x, u, alpha=2), "add"),
    (lambda x, u, M: torch.sub(x, u, alpha=2), "add"),
    (lambda x, u, M: torch.rsub(x, u), "add"),
    (lambda x, u, M: torch.ones(3) - x, "add"),
    (lambda x, u, M: torch.mul(x, u), "multiply"),
    (lambda x, u, M: torch.ones(3) * x, "multiply"),
    (lambda x, u, M: torch.div(x, u), "divide"),
    (lambda x, u, M: torch.ones(3) / x, "divide"),
    (lambda x, u, M: x.reciprocal(), "divide"),
    (lambda x, u, M: torch.pow(x, 3), "power"),
    (lambda x, u, M: torch.matmul(x, M), "matmul"),
    (lambda x, u, M: torch.ones(4, 2) @ x, "matmul"),
    (lambda x, u, M: x @ torch.ones(3, 4), "matmul"),
    (lambda x, u, M: torch.mm(x, M), "matmul"),
    (lambda x, u, M: torch.mv(M, u), "matmul"),
    (lambda x, u, M: torch.dot(u, u), "matmul"),
    (lambda x, u, M: functional.linear(u, x, torch.ones(2)), "add"),
    (lambda x, u, M: torch.outer(u, u), "outer"),
    (lambda x, u, M: torch.kron(x, M), "kron"),
    (lambda x, u, M: torch.einsum("ij,j->i", x, u), "einsum"),
    (lambda x, u, M: torch.movedim(x, 0, 1), "transpose"),
    (lambda x, u, M: torch.triu(x, diagonal=1), "triu"),
    (lambda x, u, M: x.tril(-1), "tril"),
    (lambda x, u, M: torch.broadcast_to(u, (2, *u.shape)), "broadcast_to"),
    (lambda x, u, M: torch.sum(x), "sum"),
    (lambda x, u, M: torch.sum(x, 0), "sum"),
    (lambda x, u, M: torch.sum(x, dim=(0, 1), keepdim=True), "sum"),
    (lambda x, u, M: torch.sum(x, axis=-1, keepdims=True), "sum"),
    (lambda x, u, M: x.sum(dim=1), "sum"),
    (lambda x, u, M: torch.mean(x, dim=1), "mean"),
    (lambda x, u, M: torch.amax(x, dim=1), "max"),
    (lambda x, u, M: torch.amin(x, dim=(0, 1)), "min"),
    (lambda x, u, M: torch.max(x), "max"),
    (lambda x, u, M: torch.max(x, x + 1), "maximum"),
    (lambda x, u, M: torch.min(x), "min"),
    (lambda x, u, M: torch.logsumexp(x, dim=1, keepdim=True), "log_sum_exp"),
    (lambda x, u, M: torch.var(x), "var"),
    (lambda x, u, M: torch.var(x, dim=1, correction=0), "var"),
    (lambda x, u, M: torch.std(x, 1, True), "std"),
    (lambda x, u, M: torch.std(x, unbiased=False), "std"),
    (lambda x, u, M: torch.norm(x), "pnorm"),
    (lambda x, u, M: x.norm(p=1, dim=1), "pnorm"),
    (lambda x, u, M: torch.linalg.norm(x), "pnorm"),
    (lambda x, u, M: torch.linalg.norm(u, 3), "pnorm"),
    (lambda x, u, M: torch.linalg.norm(x, 2), "norm"),
    (lambda x, u, M: torch.linalg.norm(x, "nuc"), "norm"),
    (lambda x, u, M: torch.linalg.norm(x, float("inf")), "norm"),
    (lambda x, u, M: torch.linalg.norm(x, 1, dim=1), "pnorm"),
    (lambda x, u, M: torch.linalg.vector_norm(x, float("inf"), dim=0), "pnorm"),
    (lambda x, u, M: torch.linalg.matrix_norm(x), "norm"),
    (lambda x, u, M: torch.cumsum(x, dim=1), "cumsum"),
    (lambda x, u, M: torch.diff(x), "diff"),
    (lambda x, u, M: torch.diff(x, dim=0), "diff"),
    (lambda x, u, M: torch.stack([u, u + 1], dim=1), "stack"),
    (lambda x, u, M: torch.cat([x, M]), "concatenate"),
    (lambda x, u, M: torch.cat((x, x), dim=-1), "concatenate"),
    (lambda x, u, M: torch.hstack([u, u]), "hstack"),
    (lambda x, u, M: torch.vstack([u, x]), "vstack"),
    (lambda x, u, M: torch.reshape(x, (3, -1)), "reshape"),
    (lambda x, u, M: x.reshape(3, 2), "reshape"),
    (lambda x, u, M: x.view(6), "reshape"),
    (lambda x, u, M: torch.flatten(x), "reshape"),
    (lambda x, u, M: x.flatten(), "reshape"),
    (lambda x, u, M: torch.ravel(x), "reshape"),
    (lambda x, u, M: x.unsqueeze(-1), "reshape"),
    (lambda x, u, M: torch.squeeze(x.unsqueeze(0)), "reshape"),
    (lambda x, u, M: x.unsqueeze(1).squeeze(1), "reshape"),
    (lambda x, u, M: torch.transpose(x, 0, 1), "transpose"),
    (lambda x, u, M: x.transpose(-1, -2), "transpose"),
    (lambda x, u, M: torch.t(x), "transpose"),
    (lambda x, u, M: torch.permute(x, (1, 0)), "transpose"),
    (lambda x, u, M: x.permute(1, 0), "transpose"),
    (lambda x, u, M: torch.diag(u), "diag"),
    (lambda x, u, M: torch.diag(M, 1), "diag"),
    (lambda x, u, M: torch.diagonal(M), "diag"),
    (lambda x, u, M: torch.diag_embed(u), "diag"),
    (lambda x, u, M: torch.trace(M), "trace"),
]

# Ways of calling the same functions that no atom means: torch's own call is kept.
KEPT = [
    lambda x, u, M: torch.max(x, 0)[0],
    lambda x, u, M: torch.div(x, u, rounding_mode="floor"),
    lambda x, u, M: torch.diff(u, prepend=torch.zeros(1)),
    lambda x, u, M: torch.norm(x, float("-inf")),
    lambda x, u, M: torch.linalg.norm(x, -1),
    lambda x, u, M: torch.diag(x),
    lambda x, u, M: torch.diagonal(x, offset=1),
    lambda x, u, M: functional.softplus(x, beta=2),
    lambda x, u, M: torch.sum(x, dtype=torch.float64),
    lambda x, u, M: torch.sin(x),
]


def node_and_value(call):
    """The node of a call, its value, and what torch says."""

    def body(v=Variable(), x=Parameter("2 3"), u=Parameter("3"), M=Parameter("3 3")):
        return minimize(v**2), call(x, u, M)

    generator = torch.Generator().manual_seed(0)
    point = {
        "x": torch.rand(2, 3, generator=generator) + 0.5,
        "u": torch.rand(3, generator=generator) + 0.5,
        "M": torch.rand(3, 3, generator=generator) + 0.5,
    }
    node = built(body)
    return node, value_of(node, **point), call(**point)


@pytest.mark.parametrize(("call", "atom"), SAID)
def test_a_torch_call_becomes_its_atom(call, atom):
    node, value, expected = node_and_value(call)
    assert node.name == atom
    assert node.shape == tuple(expected.shape)
    assert_close(value, expected, check_dtype=False)


@pytest.mark.parametrize("call", KEPT)
def test_a_call_that_no_atom_means_stays_torchs(call):
    node, value, expected = node_and_value(call)
    assert node.name == "torch"
    assert_close(value, expected, check_dtype=False)
