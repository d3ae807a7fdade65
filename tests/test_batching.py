"""Many leading axes outside, one inside."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optlayers.batching import align, position, restore
from optlayers.errors import ShapeError


def test_nobody_with_a_batch_means_one_sample():
    aligned, shape = align({"a": torch.ones(3), "c": torch.ones(())}, {"a": 1, "c": 0})
    assert shape == ()
    assert aligned["a"].shape == (3,)
    assert restore(torch.ones(1, 3), shape).shape == (3,)


def test_a_shared_tensor_stays_as_it_is():
    shared = torch.ones(2, 3)
    aligned, shape = align({"A": shared, "b": torch.ones(4, 5, 2)}, {"A": 2, "b": 1})
    assert shape == (4, 5)
    assert aligned["A"] is shared
    assert aligned["b"].shape == (20, 2)


def test_leading_axes_broadcast_in_row_major_order():
    left, right = torch.arange(3.0).view(3, 1, 1), torch.arange(2.0).view(2, 1)
    aligned, shape = align({"l": left, "r": right}, {"l": 1, "r": 1})
    assert shape == (3, 2)
    assert aligned["l"][:, 0].tolist() == [0, 0, 1, 1, 2, 2]
    assert aligned["r"][:, 0].tolist() == [0, 1, 0, 1, 0, 1]


def test_the_gradient_of_a_broadcast_tensor_is_the_sum():
    price = torch.ones(1, 2, requires_grad=True)
    aligned, _ = align({"p": price, "q": torch.ones(5, 2)}, {"p": 1, "q": 1})
    aligned["p"].sum().backward()
    assert price.grad.tolist() == [[5.0, 5.0]]


def test_axes_that_do_not_broadcast_name_everyone():
    with pytest.raises(ShapeError) as caught:
        align(
            {"a": torch.ones(4, 2), "b": torch.ones(3), "c": torch.ones(5, 3)},
            {"a": 1, "b": 1, "c": 1},
        )
    assert str(caught.value) == (
        "the batch axes of c do not fit those before it.\n"
        "  a [4, 2]: batch [4]\n"
        "  c [5, 3]: batch [5]\n"
        "  Leading axes must be equal or 1; a tensor without any is shared by all."
    )


def test_too_few_axes_name_the_tensor():
    with pytest.raises(ShapeError, match=r"^A \[3\] has 1 axes, but one sample of it"):
        align({"A": torch.ones(3)}, {"A": 2})


@given(st.lists(st.integers(0, 3), max_size=3), st.lists(st.integers(0, 3), max_size=2))
def test_restore_undoes_align(batch, sample):
    value = torch.rand([*batch, *sample])
    aligned, shape = align({"v": value}, {"v": len(sample)})
    flat = aligned["v"] if batch else aligned["v"][None]
    assert torch.equal(restore(flat, shape), value)


@given(st.lists(st.integers(0, 3), max_size=3), st.lists(st.integers(0, 3), max_size=3))
def test_alignment_broadcasts_as_torch_does(first, second):
    given_tensors = {"a": torch.rand(*first, 2), "b": torch.rand(*second, 2)}
    try:
        expected = torch.broadcast_shapes(first, second)
    except RuntimeError:
        with pytest.raises(ShapeError):
            align(given_tensors, {"a": 1, "b": 1})
        return
    aligned, shape = align(given_tensors, {"a": 1, "b": 1})
    assert shape == expected
    for name, batch in (("a", first), ("b", second)):
        if batch:
            full = given_tensors[name].expand(*expected, 2).reshape(-1, 2)
            assert torch.equal(aligned[name], full)


def test_alignment_compiles_without_a_break_and_with_any_batch():
    def both(a, b):
        aligned, shape = align({"a": a, "b": b}, {"a": 1, "b": 1})
        return restore(aligned["a"] + aligned["b"], shape)

    compiled = torch.compile(both, fullgraph=True, dynamic=True, backend="eager")
    for size in (2, 5, 7):
        a, b = torch.rand(size, 3, 4), torch.rand(3, 4)
        assert torch.equal(compiled(a, b), a + b)


def test_alignment_works_under_vmap():
    def both(a, b):
        aligned, shape = align({"a": a, "b": b}, {"a": 1, "b": 1})
        return restore(aligned["a"] * aligned["b"], shape)

    a, b = torch.rand(6, 2, 3, 4), torch.rand(4)
    assert torch.equal(torch.func.vmap(both, in_dims=(0, None))(a, b), a * b)


def test_positions_are_unravelled_in_row_major_order():
    assert [position(5, shape) for shape in ((8,), (2, 4), (2, 2, 2))] == [
        "5",
        "[1, 1]",
        "[1, 0, 1]",
    ]
