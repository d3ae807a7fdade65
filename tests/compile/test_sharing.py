import torch
from torch.testing import assert_close

from optlayers import (
    Control,
    Parameter,
    State,
    Variable,
    minimize,
    problem,
    sum_squares,
    total,
)
from optlayers.compile.sharing import shared

DOUBLE = {"dtype": torch.float64}


@problem
def shooting(u=Variable("T"), x0=Parameter("2"), A=Parameter("2 2"), B=Parameter("2")):
    """Every state is used twice in the next one."""
    x, cost = x0, 0
    for k in range(u.shape[0]):
        x = x + 0.1 * (A @ x + B * u[k])
        cost = cost + sum_squares(x)
    return minimize(cost + sum_squares(u), end=x == 0)


@problem
def stages(
    x=State("2"), u=Control(), x0=Parameter("2"), A=Parameter("2 2"), B=Parameter("2")
):
    """The same, written by stages."""
    step = x + 0.1 * (A @ x + B * u)
    return minimize(
        total(sum_squares(x.next) + u**2),
        start=x.first == x0,
        end=x.last == 0,
        dynamics=x.next == step,
    )


def inputs():
    A = torch.tensor([[-0.5, 1.0], [0.0, -0.5]], **DOUBLE).requires_grad_()
    B = torch.tensor([0.0, 1.0], **DOUBLE).requires_grad_()
    return {"x0": torch.tensor([[1.0, 1.0], [0.5, -1.0]], **DOUBLE), "A": A, "B": B}


def test_states_used_twice_in_a_loop_do_not_double_the_work():
    given, again = inputs(), inputs()
    steps = 40  # a tree of 2^40 nodes
    loop = shooting.layer(T=steps)(**given).u
    staged = stages.layer(steps=steps)(**again).u
    assert_close(loop, staged, rtol=1e-7, atol=1e-8)
    loop[:, :5].sum().backward()
    staged[:, :5].sum().backward()
    assert_close(given["A"].grad, again["A"].grad, rtol=1e-6, atol=1e-7)
    assert_close(given["B"].grad, again["B"].grad, rtol=1e-6, atol=1e-7)


def test_what_is_small_or_used_once_is_not_shared():
    declaration = shooting.declared.trace({"T": 3})
    roots = [declaration.objective, *(c.left for c in declaration.constraints)]
    assert not shared(roots)


def test_few_of_the_states_become_variables():
    declaration = shooting.declared.trace({"T": 40})
    found = shared([one.left for one in declaration.constraints])
    assert 0 < len(found) < 20
