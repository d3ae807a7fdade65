import pytest
import torch
from torch.testing import assert_close

from optlayers.implicit.attach import attach_gradient
from optlayers.implicit.failed import replace_failed, with_zero_gradient
from optlayers.programs.cone_program import ConeProgram
from tests.programs.known import QP, known_program


def test_failed_rows_take_the_numbers_of_the_first_good_one():
    ok = torch.tensor([False, True, False, True])
    vector, matrix = torch.randn(4), torch.randn(4, 2, 3)
    vector[0] = matrix[2, 1, 1] = torch.nan
    replaced = replace_failed([vector, matrix], ok)
    for given, result in zip((vector, matrix), replaced, strict=True):
        assert torch.equal(result, given[torch.tensor([1, 1, 1, 3])])


def test_good_batches_pass_unchanged():
    values = torch.randn(3, 2)
    (same,) = replace_failed([values], torch.ones(3, dtype=torch.bool))
    assert torch.equal(same, values)


def test_failed_rows_have_a_gradient_of_exactly_zero():
    values = torch.randn(3, 2).requires_grad_()
    (replaced,) = replace_failed([values], torch.tensor([True, False, True]))
    replaced.square().sum().backward()
    assert torch.equal(values.grad[1], torch.zeros(2))
    # The stand-in for row 1 is row 0 without its derivative.
    assert_close(values.grad[0], 2 * values[0].detach())


def test_a_batch_without_a_good_sample_becomes_finite():
    values = torch.tensor([[torch.nan, 1.0], [torch.inf, 2.0]])
    (replaced,) = replace_failed([values], torch.zeros(2, dtype=torch.bool))
    assert torch.equal(replaced, torch.tensor([[0.0, 1.0], [0.0, 1.0]]))


def test_empty_batches_stay_empty():
    (empty,) = replace_failed([torch.zeros(0, 3)], torch.zeros(0, dtype=torch.bool))
    assert empty.shape == (0, 3)


def test_it_needs_no_look_at_the_numbers():
    ok = torch.tensor([[False, True], [True, False]])
    values = torch.randn(2, 2, 3)
    mapped = torch.vmap(lambda v, o: replace_failed([v], o)[0])(values, ok)
    looped = [replace_failed([v], o)[0] for v, o in zip(values, ok, strict=True)]
    assert torch.equal(mapped, torch.stack(looped))
    compiled = torch.compile(replace_failed, fullgraph=True, backend="eager")
    assert torch.equal(compiled([values[0]], ok[0])[0], looped[0])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_bad_sample_never_reaches_a_shared_parameter(bad):
    program, point = known_program(QP, batch=3, is_shared=True)
    P, q, A, b = program.tensors()
    ok = torch.tensor([True, False, True])
    q = q.clone()
    q[1] = bad
    point = point.clone()
    point[1] = torch.nan
    shared = torch.randn(3).double().requires_grad_()

    def loss(rows):
        kept, A_rows, b_rows, q_rows, values = rows
        scaled = q_rows * kept.exp().sum(1, keepdim=True)
        program = ConeProgram(P, scaled, A_rows, b_rows, QP)
        return attach_gradient(values, program)

    rows = [shared.expand(3, 3), A.expand(3, 5, 4), b, q, point]
    good = replace_failed(rows, ok)
    loss(good)[ok].sin().sum().backward()
    kept = [row[ok] for row in rows]
    (expected,) = torch.autograd.grad(loss(kept).sin().sum(), shared)
    assert bool(shared.grad.isfinite().all())
    assert_close(shared.grad, expected)


def test_a_gradient_of_zero_does_not_ask_what_numbers_it_is_taken_at():
    broken = torch.tensor([torch.nan, torch.inf, 1.0], requires_grad=True)
    value = torch.tensor([1.0, torch.nan])
    connected = with_zero_gradient(value, [broken, torch.ones(2)])
    assert torch.equal(connected.isnan(), value.isnan()) and connected[0] == 1
    total = connected.sum()
    for _ in range(3):
        (slope,) = torch.autograd.grad(total, broken, create_graph=True)
        assert torch.equal(slope, torch.zeros(3))
        total = slope.sum()
