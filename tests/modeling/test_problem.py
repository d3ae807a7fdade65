"""A declared problem: traced once per sizes, from any thread; copied by reference."""

import copy
import inspect
import pickle
import threading

import pytest
from torch import nn

from optlayers.errors import DeclarationError, OptlayersError
from optlayers.modeling.field_kinds import Control, Parameter, State, Time, Variable
from optlayers.modeling.problem import declare
from optlayers.modeling.verbs import minimize


@declare
def module_level(x=Variable("n"), p=Parameter("n")):
    """Find the nearest point."""
    return minimize((x - p) @ (x - p))


def test_a_body_runs_once_per_set_of_sizes():
    runs = []

    @declare
    def problem(x=Variable("n"), p=Parameter("n")):
        runs.append(x.shape)
        return minimize((x - p) @ (x - p))

    assert runs == []
    first = problem.trace({"n": 2})
    assert problem.trace({"n": 2}) is first
    problem.trace({"n": 3})
    assert runs == [(2,), (3,)]


def test_a_body_whose_sizes_are_numbers_runs_at_decoration():
    runs = []

    @declare
    def problem(x=Variable("2"), p=Parameter(2)):
        runs.append(x.shape)
        return minimize((x - p) @ (x - p))

    assert runs == [(2,)]
    problem.trace()
    assert runs == [(2,)]


def test_a_failed_trace_is_not_remembered():
    attempts = []

    @declare
    def problem(x=Variable("n")):
        attempts.append(1)
        return None if len(attempts) == 1 else minimize(x @ x)

    with pytest.raises(DeclarationError, match="returns nothing"):
        problem.trace({"n": 2})
    assert problem.trace({"n": 2}).sense == "minimize"


def test_eight_threads_trace_once():
    runs, found, start = [], [], threading.Barrier(8)

    @declare
    def problem(x=Variable("n"), p=Parameter("n")):
        runs.append(1)
        return minimize((x - p) @ (x - p))

    def trace():
        start.wait()
        found.extend(problem.trace({"n": size}) for size in range(1, 6))

    plain = nn.Module.__call__
    threads = [threading.Thread(target=trace) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(runs) == 5
    assert len({id(one) for one in found}) == 5
    assert nn.Module.__call__ is plain


def test_names_by_role_follow_the_signature():
    @declare
    def problem(x=State("n"), u=Control("m"), q=Parameter("n"), t=Time()):
        return minimize(x.last @ x.last)

    assert problem.parameter_names == ("q", "t")
    assert problem.variable_names == ("x", "u")
    assert problem.dimension_names == ("n", "m")
    assert problem.uses_stages
    assert not problem.is_sized


def test_a_problem_presents_itself_as_the_function_it_was():
    assert module_level.__name__ == "module_level"
    assert module_level.__doc__ == "Find the nearest point."
    assert module_level.__wrapped__ is module_level.function
    assert list(inspect.signature(module_level.function).parameters) == ["x", "p"]
    shown = repr(module_level).splitlines()[0]
    assert "module_level" in shown


def test_copies_are_the_problem_itself():
    assert copy.copy(module_level) is module_level
    assert copy.deepcopy({"problem": module_level})["problem"] is module_level


def test_a_problem_at_module_level_pickles_by_reference(monkeypatch):
    import sys
    import types

    home = types.ModuleType("home_of_problems")
    home.module_level = module_level
    monkeypatch.setitem(sys.modules, "home_of_problems", home)
    monkeypatch.setattr(module_level, "__module__", "home_of_problems")
    assert pickle.loads(pickle.dumps(module_level)) is module_level


def test_a_problem_inside_a_function_says_that_it_cannot_be_pickled():
    @declare
    def local(x=Variable(2)):
        return minimize(x @ x)

    with pytest.raises(OptlayersError, match="Declare it at module level"):
        pickle.dumps(local)


def test_expressions_are_copied_by_reference_and_hash_by_identity():
    objective = module_level.trace({"n": 2}).objective
    assert copy.deepcopy(objective) is objective
    assert len({objective, objective}) == 1


def test_only_functions_are_decorated():
    for thing in (3, Variable("n"), int):
        with pytest.raises(DeclarationError, match="decorates a function"):
            declare(thing)


def test_a_loop_of_thousands_of_terms_is_traced():
    @declare
    def problem(x=Variable("3000")):
        cost = 0
        for k in range(3000):
            cost = cost + x[k] ** 2
        return minimize(cost)

    assert problem.trace().objective.field_names == {"x"}
