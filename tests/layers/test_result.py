"""How the outcome of a call is read, and what is said of other ways."""

import pytest
import torch

from optlayers.layers.result import Result


@pytest.fixture
def out():
    values = {"x": torch.zeros(2), "y": torch.ones(2)}
    return Result(values, {}, None, torch.zeros(2, dtype=torch.int8), {})


def test_names_are_asked_for_by_in(out):
    assert "x" in out and "z" not in out and 0 not in out


@pytest.mark.parametrize("read", [list, lambda out: [*out], lambda out: dict(out)])
def test_a_result_is_not_read_in_order(out, read):
    with pytest.raises(TypeError, match=r"by name, not in order: out\.x, out\.y, or"):
        read(out)


def test_a_position_is_no_name(out):
    with pytest.raises(KeyError, match="no variable 0; there are x, y"):
        out[0]
