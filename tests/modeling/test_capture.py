"""Parameters and modules of a body get names that a state_dict can hold."""

import pytest
import torch
from torch import nn

from optlayers.errors import DeclarationError
from optlayers.modeling.capture import Captures, lookup, mentions, referenced
from optlayers.modeling.field_kinds import Parameter, Variable
from optlayers.modeling.problem import declare
from optlayers.modeling.verbs import minimize

GLOBAL_NET = nn.Linear(2, 2)
NETS = {"first": nn.Linear(2, 2), "rest": [nn.Linear(2, 2)], "word": "ignored"}


def through_a_function(p):
    return GLOBAL_NET(p)


class Planner(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
        self.heads = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
        self.scale = nn.Parameter(torch.ones(2))
        self.horizon = 3

        @declare
        def problem(x=Variable(2), p=Parameter(2)):
            cost = (x - self.net(p) * self.scale) @ x * self.horizon
            rows = [head(p) <= x for head in self.heads]
            return minimize(cost + self.extra(p), *rows, part=self.net[0](p) <= x)

        self.problem = problem

    def extra(self, p):
        return self.heads[0](p).sum()

    @property
    def trap(self):
        raise AssertionError("naming must not run properties")


def test_globals_closures_and_parameters_are_named_after_themselves():
    weight = nn.Parameter(torch.ones(2))
    local_net = nn.Linear(2, 2)

    def body(x=Variable(2), p=Parameter(2)):
        return minimize(x @ (weight * local_net(GLOBAL_NET(p))))

    found = referenced(body)
    assert list(found) == ["weight", "local_net", "GLOBAL_NET"]
    assert found["weight"] is weight


def test_containers_give_their_entries():
    def body(x=Variable(2), p=Parameter(2)):
        return minimize(x @ NETS["first"](p))

    assert list(referenced(body)) == ["NETS_first", "NETS_rest_0"]


def test_functions_that_the_body_calls_are_read_too():
    def body(x=Variable(2), p=Parameter(2)):
        return minimize(x @ through_a_function(p))

    assert referenced(body) == {"GLOBAL_NET": GLOBAL_NET}


def test_attributes_of_the_model_are_named_without_self_and_never_the_model():
    planner = Planner()
    names = ["net", "scale", "heads_0", "heads_1"]
    assert sorted(planner.problem.captured()) == sorted(names)
    assert sorted(planner.problem.trace().captured) == sorted(names)


def test_a_part_of_a_captured_module_is_read_through_the_whole():
    planner = Planner()
    part = planner.problem.trace().constraints[-1].left
    assert part.options["name"] == "net.0"
    assert lookup(planner.problem.captured(), "net.0") is planner.net[0]


def test_properties_do_not_run():
    planner = Planner()

    def body(x=Variable(2)):
        return planner.trap

    assert referenced(body) == {}


def test_names_are_legal_and_unique():
    class Holder:
        pass

    holder, holder_net = Holder(), nn.Linear(2, 2)
    holder.net = nn.Linear(2, 2)

    def body(x=Variable(2), p=Parameter(2)):
        return minimize(x @ holder.net(p) + x @ holder_net(p))

    assert list(referenced(body)) == ["holder_net", "holder_net_2"]


def test_what_only_running_reveals_is_named_after_its_class():
    captures = Captures({})
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    assert captures.name_of(first) == "linear"
    assert captures.name_of(second) == "linear_2"
    assert captures.name_of(first) == "linear"
    assert captures.objects == {"linear": first, "linear_2": second}


def test_a_module_that_only_running_reveals_is_known_once_it_was_met():
    class Secretive:
        def __init__(self):
            self._hidden = (lambda: made,)

        @property
        def net(self):
            return self._hidden[0]()

    made, secretive = nn.Linear(2, 2), Secretive()

    @declare
    def problem(x=Variable("n"), p=Parameter("n")):
        return minimize(x @ secretive.net(p))

    assert problem.captured() == {}
    captured = problem.trace({"n": 2}).captured
    assert captured == {"linear": made}
    assert problem.captured() == captured


def test_a_module_made_in_the_body_is_refused():
    def body(x=Variable(2), p=Parameter(2)):
        return minimize(x @ nn.Linear(2, 2)(p))

    with pytest.raises(DeclarationError, match="outside of the body"):
        declare(body)


def test_a_rebound_global_is_traced_anew():
    nets = [nn.Linear(2, 2)]

    @declare
    def problem(x=Variable(2), p=Parameter(2)):
        return minimize(x @ nets[0](p))

    first = problem.trace()
    nets[0] = nn.Linear(2, 2)
    assert problem.trace() is not first
    assert problem.trace().captured == {"nets_0": nets[0]}


def test_an_object_is_mentioned_as_a_global_an_attribute_or_in_a_closure():
    holder = {"net": GLOBAL_NET}
    planner = Planner()

    def by_closure(p):
        return planner.net(p)

    assert mentions(through_a_function, GLOBAL_NET)
    assert mentions(lambda p: through_a_function(p), GLOBAL_NET)
    assert mentions(by_closure, planner.net)
    assert mentions(planner.extra, planner.heads)
    assert not mentions(lambda p: holder["net"](p), GLOBAL_NET)
    assert not mentions(lambda p: p.GLOBAL_NET, GLOBAL_NET)
    assert not mentions(GLOBAL_NET, GLOBAL_NET)


def test_functions_that_call_each_other_are_looked_into_once():
    def even(n):
        return n == 0 or odd(n - 1)

    def odd(n):
        return n != 0 and even(n - 1)

    assert not mentions(even, GLOBAL_NET)
    assert mentions(even, odd)
