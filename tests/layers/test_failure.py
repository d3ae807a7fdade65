"""One infeasible, one unbounded and one NaN sample among 64."""

import pytest
import torch
from torch.testing import assert_close

import optlayers as ol
from optlayers import Parameter, Variable, minimize
from optlayers.errors import InvalidDataError, SolveError
from optlayers.solution import Status

INFEASIBLE, UNBOUNDED, NAN = 5, 17, 40
BAD = [INFEASIBLE, UNBOUNDED, NAN]
GOOD = [row for row in range(64) if row not in BAD]


@ol.problem
def fragile(
    x=Variable("n"),
    c=Parameter("n"),
    w=Parameter("n", nonneg=True),
    floor=Parameter(),
    ceiling=Parameter(),
    price=Parameter("n"),
):
    """Unbounded where w is zero and c points down; infeasible where floor > ceiling."""
    return minimize(
        w @ x**2 / 2 + (c * price) @ x,
        above=ol.sum(x) >= floor,
        below=x[0] <= ceiling,
        wall=x[0] >= floor,
    )


def parameters(rows=range(64)) -> dict:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    c, w = draw(64, 3), 0.5 + draw(64, 3).abs()
    floor, ceiling = -1 - draw(64).abs(), 1 + draw(64).abs()
    floor[INFEASIBLE] = 10.0
    w[UNBOUNDED] = 0.0
    c[NAN, 1] = float("nan")
    rows = list(rows)
    return {"c": c[rows], "w": w[rows], "floor": floor[rows], "ceiling": ceiling[rows]}


def solve(rows=range(64), on_failure="nan"):
    given = {k: v.requires_grad_() for k, v in parameters(rows).items()}
    price = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64, requires_grad=True)
    out = fragile(**given, price=price, on_failure=on_failure)
    return out, given, price


def loss(out, rows) -> torch.Tensor:
    terms = (out.x.sin().sum(-1), out.dual.below.cos(), out.objective)
    return sum(term[rows] for term in terms).sum()


def test_each_bad_sample_gets_its_own_status():
    out, *_ = solve()
    assert out.status[INFEASIBLE] == Status.INFEASIBLE
    assert out.status[UNBOUNDED] == Status.UNBOUNDED
    assert out.status[NAN] in (Status.NOT_FINITE, Status.INVALID_DATA)
    assert out.ok[GOOD].all()
    assert not out.ok[BAD].any()


def test_bad_rows_are_nan_and_the_others_as_if_solved_alone():
    out, *_ = solve()
    alone, *_ = solve(GOOD, on_failure="raise")
    assert out.x[BAD].isnan().all()
    assert out.objective[BAD].isnan().all()
    assert out.dual.below[BAD].isnan().all()
    assert torch.equal(out.x[GOOD], alone.x)
    assert torch.equal(out.dual.wall[GOOD], alone.dual.wall)
    assert_close(out.objective[GOOD], alone.objective, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("on_failure", ["nan", "keep"])
def test_gradients_of_the_others_are_untouched_and_shared_ones_clean(on_failure):
    out, given, price = solve(on_failure=on_failure)
    loss(out, GOOD).backward()
    alone, apart, alone_price = solve(GOOD, on_failure="raise")
    loss(alone, slice(None)).backward()
    for name in given:
        assert_close(given[name].grad[GOOD], apart[name].grad, rtol=1e-12, atol=1e-12)
        assert (given[name].grad[BAD] == 0).all()
    assert_close(price.grad, alone_price.grad, rtol=1e-12, atol=1e-12)


def test_a_loss_over_every_row_is_finite_in_gradient_when_rows_are_kept():
    out, given, price = solve(on_failure="keep")
    loss(out, slice(None)).backward()
    assert price.grad.isfinite().all()
    assert all(value.grad.isfinite().all() for value in given.values())
    assert all((value.grad[BAD] == 0).all() for value in given.values())


def test_a_batch_of_nothing_but_failures_keeps_gradients_zero():
    out, given, price = solve(BAD, on_failure="nan")
    torch.nan_to_num(out.x).sum().backward()
    assert (price.grad == 0).all()
    assert all((value.grad == 0).all() for value in given.values())


def test_raise_names_samples_status_and_constraint():
    rows = [row for row in range(64) if row not in (UNBOUNDED, NAN)]
    with pytest.raises(SolveError) as caught:
        solve(rows, on_failure="raise")
    text = str(caught.value)
    assert "fragile" in text
    assert "sample 5" in text
    assert "INFEASIBLE" in text.upper()
    assert "below" in text or "wall" in text
    assert 'on_failure="nan"' in text


def test_raise_names_the_variable_of_an_unbounded_sample():
    rows = [row for row in range(64) if row not in (INFEASIBLE, NAN)]
    with pytest.raises(SolveError, match=r"(?s)UNBOUNDED.*x"):
        solve(rows, on_failure="raise")


def test_values_that_break_the_declaration_raise_before_the_solver():
    given = parameters(GOOD) | {"price": torch.ones(3, dtype=torch.float64)}
    given["w"][2, 1] = -0.25
    with pytest.raises(InvalidDataError) as caught:
        fragile(**given)
    text = str(caught.value)
    assert "w" in text and "-0.25" in text and "nonneg" in text and "sample 2" in text


def test_samples_of_several_batch_axes_are_named_by_their_index():
    given = parameters(GOOD[:6]) | {"price": torch.ones(3, dtype=torch.float64)}
    given = {
        k: v.reshape(2, 3, *v.shape[1:]) if k != "price" else v
        for k, v in given.items()
    }
    given["floor"][1, 2] = 50.0
    with pytest.raises(SolveError, match=r"\(1, 2\)|\[1, 2\]"):
        fragile(**given)


def test_a_shared_parameter_that_is_invalid_fails_every_sample():
    given = parameters(GOOD[:3])
    price = torch.tensor([1.0, float("inf"), 0.0], dtype=torch.float64)
    out = fragile(**given, price=price, on_failure="nan")
    assert not out.ok.any()
