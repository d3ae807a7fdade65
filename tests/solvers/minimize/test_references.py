"""IPOPT, SLSQP and trust-constr: closed forms, and the native interior point."""

import sys
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

import optlayers as ol
from optlayers import registry
from optlayers.errors import ParameterError, SolverRefused
from optlayers.interfaces import Kind
from optlayers.programs.minimize import MinimizeProgram
from optlayers.solution import Status
from optlayers.testing import check_minimizer
from tests.solvers.minimize.constrained import kkt_errors, program_of
from tests.solvers.minimize.hock_schittkowski import PROBLEMS

REFERENCES = ("ipopt", "slsqp", "trust_constr")
NATIVE = ("newton", "newton_cg", "lbfgs", "bfgs", "interior_point", "sqp", "auto")
# With equalities (71, 39), inequalities (43, 76) and bounds alone (1, 45).
NUMBERS = (71, 39, 43, 76, 1, 45)


@pytest.fixture(params=REFERENCES)
def reference(request):
    if request.param == "ipopt":
        pytest.importorskip("casadi")
    return registry.create("minimize", request.param)


def test_it_passes_the_shipped_conformance_suite(reference):
    # Samples without a solution are given up after so many steps.
    check_minimizer(replace(reference, max_steps=300))


@pytest.mark.parametrize("name", NATIVE)
def test_the_native_methods_pass_it_too(name):
    check_minimizer(registry.create("minimize", name))


@pytest.mark.parametrize("number", NUMBERS)
def test_point_value_and_multipliers_are_those_of_the_native_method(reference, number):
    problem = PROBLEMS[number]
    program = program_of(problem)
    start = problem.start[None]
    ours = registry.create("minimize", "interior_point").solve(program, start)
    theirs = reference.solve(program, start)
    assert ours.ok.all()
    assert theirs.ok.all()
    # Both satisfy the KKT conditions to 1e-8, and these problems are well posed.
    assert_close(theirs.value, ours.value, atol=1e-5, rtol=1e-5)
    for name in ("equalities", "inequalities"):
        assert_close(theirs.duals[name], ours.duals[name], atol=1e-5, rtol=1e-5)
    value = program.value(theirs.value)[0]
    assert float(value) == pytest.approx(problem.minimum, abs=1e-6, rel=1e-6)
    assert max(float(e.max()) for e in kkt_errors(program, theirs).values()) < 1e-6


def test_the_value_of_problem_71_is_that_of_the_book(reference):
    program = program_of(PROBLEMS[71])
    found = reference.solve(program, PROBLEMS[71].start[None])
    assert float(program.value(found.value)) == pytest.approx(17.0140173, abs=1e-6)


def test_bounds_that_only_some_samples_have_get_multipliers_in_these(reference):
    upper = torch.tensor([[1.0, torch.inf], [torch.inf, 0.5]], dtype=torch.float64)
    program = MinimizeProgram(lambda x: (x - 2).square().sum(1), 2, 2, upper=upper)
    found = reference.solve(program)
    assert_close(found.value, upper.clamp(max=2))
    expected = torch.tensor([[2.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
    assert_close(found.duals["inequalities"], expected)


def test_an_unknown_between_equal_bounds_keeps_its_multiplier(reference):
    free = torch.tensor([torch.inf, 3.0], dtype=torch.float64)
    low = torch.tensor([-torch.inf, 3.0], dtype=torch.float64)
    program = MinimizeProgram(lambda x: x.square().sum(1), 1, 2, lower=low, upper=free)
    found = reference.solve(program)
    assert_close(found.value, torch.tensor([[0.0, 3.0]], dtype=torch.float64))
    # Two rows say the same: the lower one holds x up with 2 x = 6 more than the other.
    lower, upper = found.duals["inequalities"][0]
    assert float(lower - upper) == pytest.approx(6.0)


def test_single_precision_in_gives_single_precision_out(reference):
    program = MinimizeProgram(lambda x: (x - 1).square().sum(1), 2, 3)
    found = reference.solve(program, torch.zeros(2, 3))
    assert found.value.dtype == torch.float32
    assert_close(found.value, torch.ones(2, 3), atol=1e-4, rtol=0)


def test_few_steps_are_said_to_be_too_few(reference):
    steps = registry.create("minimize", _name(reference), max_steps=1)
    found = steps.solve(program_of(PROBLEMS[71]), PROBLEMS[71].start[None])
    assert found.status.tolist() == [Status.STEP_LIMIT]


def test_options_out_of_range_are_refused(reference):
    with pytest.raises(ParameterError, match="max_steps=0"):
        registry.create("minimize", _name(reference), max_steps=0)


def test_a_layer_takes_it_by_name_and_differentiates_what_it_finds(reference):
    @ol.problem
    def rectangle(side=ol.Variable("2", lower=0.1, start=1), length=ol.Parameter()):
        return ol.maximize(side[0] * side[1], rope=2 * ol.sum(side) == length)

    length = torch.tensor([8.0, 12.0], dtype=torch.float64, requires_grad=True)
    out = rectangle(length, solver=_name(reference))
    out.side.sum().backward()
    assert_close(out.side, (length / 4)[:, None].expand(2, 2))
    assert_close(length.grad, torch.full_like(length, 0.5))


def test_auto_never_takes_one():
    ranked = registry.names("minimize")
    assert ranked[-3:] == REFERENCES
    tried = {type(one).__name__ for one in _attempts_of_auto()}
    assert not tried & {"Ipopt", "Slsqp", "TrustConstr"}


def test_without_casadi_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "casadi", None)
    monkeypatch.delitem(sys.modules, "optlayers.solvers.minimize.ipopt", raising=False)
    monkeypatch.setattr(registry, "_factories", {})
    monkeypatch.setattr(registry, "_unavailable", {})
    with pytest.raises(SolverRefused, match=r"pip install optlayers\[ipopt\]"):
        registry.create("minimize", "ipopt")


def _attempts_of_auto():
    auto = registry.create("minimize", "auto")
    plain = MinimizeProgram(lambda x: x.square().sum(1), 1, 2)
    for program in (plain, program_of(PROBLEMS[71])):
        yield from auto._attempts(program)


def _name(solver):
    assert solver.kind is Kind.MINIMIZE
    names = {"Ipopt": "ipopt", "Slsqp": "slsqp", "TrustConstr": "trust_constr"}
    return names[type(solver).__name__]
