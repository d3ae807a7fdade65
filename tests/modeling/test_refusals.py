"""What Python would silently misread is refused, with what to write instead."""

import importlib.util
import sys
import textwrap

import numpy as np
import pytest
import torch

from optlayers.errors import DeclarationError, OptlayersError
from optlayers.modeling.differential import integrate
from optlayers.modeling.field_kinds import Parameter, Variable
from optlayers.modeling.verbs import maximize, minimize, solve
from tests.modeling.traced import trace

HEAD = """
from optlayers.modeling.field_kinds import Control, Parameter, State, Variable
from optlayers.modeling.language import between, total
from optlayers.modeling.problem import declare
from optlayers.modeling.verbs import minimize

"""


@pytest.fixture
def message(tmp_path, monkeypatch):
    """The error of a declaration that stands in a file planner.py, first line 7."""

    def run(body, **sizes):
        steps = sizes.pop("steps", None)
        path = tmp_path / "planner.py"
        path.write_text(HEAD + textwrap.dedent(body).lstrip())
        spec = importlib.util.spec_from_file_location("planner", path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)

        def load_and_trace():
            spec.loader.exec_module(module)
            module.plan.trace(sizes, steps)

        with pytest.raises(OptlayersError) as caught:
            load_and_trace()
        return f"{type(caught.value).__name__}: {caught.value}"

    return run


def test_a_wrong_product_names_shapes_declarations_and_the_fitting_one(message):
    body = """
    @declare
    def plan(x=Variable("m"), A=Parameter("k n"), b=Parameter("k")):
        return minimize(
            x @ x,
            inside=A @ x <= b,
        )
    """
    assert message(body, m=4, k=5, n=3) == (
        "ShapeError: planner.py:11: `inside=A @ x <= b`: cannot multiply A [5, 3] by "
        'x [4].\n  x was declared Variable("m"), A Parameter("k n"): did you mean '
        'Variable("n")?'
    )


def test_a_chained_comparison_names_between(message):
    body = """
    @declare
    def plan(x=Variable(3), top=Parameter()):
        return minimize(x @ x, box=0 <= x <= 2 * top)
    """
    assert message(body) == (
        "DeclarationError: planner.py:9: `0 <= x <= 2 * top`: Python reads a chained "
        "comparison as `and`.\n  Write ol.between(0, x, 2 * top)."
    )


def test_a_falling_chain_is_turned_around(message):
    body = """
    @declare
    def plan(x=Variable(3)):
        return minimize(x @ x, 1 >= x >= 0)
    """
    assert "Write ol.between(0, x, 1)." in message(body)


def test_a_lone_index_on_a_trajectory_teaches_both_readings(message):
    body = """
    @declare
    def plan(x=State(2), u=Control(1)):
        return minimize(total(x @ x), x[0] == 0)
    """
    assert message(body, steps=3) == (
        "DeclarationError: planner.py:9: `x[0]`: x[0] could be a stage or a component "
        "of x.\n  Write x.at(0) or x.first for the stage, x[..., 0] for the component "
        "at every stage."
    )


def test_an_exponent_that_is_a_variable_is_refused_by_name(message):
    body = """
    @declare
    def plan(x=Variable(), p=Variable()):
        return minimize((x - 1) ** p)
    """
    assert message(body) == (
        "DeclarationError: planner.py:9: `(x - 1) ** p`: the exponent of power depends "
        "on p; it must be a plain number, since one compiled problem serves all values "
        "of parameters."
    )


def test_mixing_a_term_per_stage_with_a_written_out_trajectory_is_refused(message):
    body = """
    @declare
    def plan(x=State(2), u=Control(2)):
        return minimize(total(x @ x), moves=x.next == x[:-1] + u[:])
    """
    assert message(body, steps=3) == (
        "DeclarationError: planner.py:9: `moves=x.next == x[:-1] + u[:]`: x.next [2] "
        "is a term per stage, but x[:-1] + u[:] [3, 2] has the stages as its first "
        "axis.\n  Write the whole trajectory (x[:]) on both sides, or a term per stage "
        "(.next, .first, .at(k)) on both."
    )


def test_errors_of_numbered_declarations_appear_at_import(message):
    body = """
    @declare
    def plan(x=Variable(2), y=Parameter(3)):
        return minimize(x @ x, x <= y)

    raise AssertionError("the error above must come first")
    """
    assert message(body).startswith(
        "ShapeError: planner.py:9: `x <= y`: cannot compare x [2] with y [3]."
    )


def test_a_message_over_several_lines_shows_the_source_on_one(message):
    body = """
    @declare
    def plan(x=Variable(2), y=Parameter(3)):
        return minimize(
            x @ x,
            close=(
                x
                + y
            ) <= 1,
        )
    """
    assert "planner.py:12: `close=( x + y ) <= 1`: cannot add x [2]" in message(body)


def refused(body):
    with pytest.raises(DeclarationError) as caught:
        trace(body)
    return str(caught.value)


def test_a_truth_value_is_refused_with_what_can_choose():
    def body(x=Variable()):
        if x:
            return minimize(x)

    assert "neither true nor false" in refused(body)


def test_strict_inequalities_are_refused_from_either_side():
    def less(x=Variable(2)):
        return minimize(x @ x, x < 1)

    def tensor_more(x=Variable(2)):
        return minimize(x @ x, torch.ones(2) > x)

    def array_less(x=Variable(2)):
        return minimize(x @ x, np.ones(2) < x)

    for body in (less, tensor_more, array_less):
        assert "closed feasible set" in refused(body)


def test_a_strict_inequality_is_told_of_switches_in_rates():
    def less(x=Variable(2)):
        return minimize(x @ x, x < 1)

    assert "a switch in an equation or a rate, write torch.lt(" in refused(less)


def test_unequal_is_refused():
    def body(x=Variable()):
        return minimize(x, x != 1)

    assert "!= describes no" in refused(body)


def test_and_or_not_are_refused_by_their_names():
    def both(x=Variable()):
        return minimize(x, x >= 0 and x <= 1)

    def either(x=Variable()):
        return minimize(x, x >= 0 or x <= 1)

    def neither(x=Variable()):
        return minimize(x, not x >= 0)

    assert "`and` cannot join constraints; give both: x >= 0, x <= 1" in refused(both)
    assert "`or` cannot join constraints" in refused(either)
    assert "`not` cannot negate a constraint" in refused(neither)


def test_membership_is_refused_not_guessed():
    def body(x=Variable(2), y=Variable(2)):
        return minimize(x @ x) if x in [y] else None

    def inside(x=Variable(2)):
        return minimize(x @ x) if 3 in x else None

    assert "`in` asks for a value" in refused(body)
    assert "`in` asks for a value" in refused(inside)


@pytest.mark.parametrize("convert", [float, int, complex, np.asarray, range, hash])
def test_conversions_to_numbers_are_refused_and_hashing_is_not(convert):
    def body(x=Variable()):
        convert(x)
        return minimize(x)

    if convert is hash:
        assert trace(body).objective.name == "field"
        return
    assert "has one while the problem" in refused(body) or "has no value" in refused(
        body
    )


def test_assignments_into_expressions_and_tensors_are_refused():
    def into_expression(x=Variable(2)):
        x[0] = 1
        return minimize(x @ x)

    def into_tensor(x=Variable(2)):
        whole = torch.zeros(2)
        whole[0] = x[0]
        return minimize(x @ x)

    assert "cannot be assigned into" in refused(into_expression)
    assert "torch.stack" in refused(into_tensor)


def test_an_expression_is_no_index():
    def body(x=Variable(2), p=Parameter()):
        return minimize(x @ x, x[p] <= 1)

    def tensor_body(x=Variable(2), p=Parameter()):
        return minimize(x @ x, x <= torch.ones(3)[p])

    assert "cannot be an index" in refused(body)
    assert "cannot be an index" in refused(tensor_body)


def test_verbs_send_plain_functions_and_tensors_to_functional():
    with pytest.raises(DeclarationError, match=r"functional\.minimize\(objective"):
        minimize(lambda x: x**2, torch.zeros(3))
    with pytest.raises(DeclarationError, match="not a tensor"):
        maximize(torch.zeros(()))
    with pytest.raises(DeclarationError, match=r"functional\.root"):
        solve(lambda x: x, torch.zeros(3))
    with pytest.raises(DeclarationError, match=r"functional\.integrate"):
        integrate(lambda t, x: -x, torch.zeros(3), torch.zeros(2))


def test_functions_of_numpy_are_refused_where_they_are_called():
    def pointwise(x=Variable(), w=Parameter()):
        return solve(np.sin(x) == w)

    def whole(x=Variable(3), w=Parameter()):
        return solve(np.linalg.norm(x) == w)

    words = r"test_refusals.py:\d+: `np.sin\(x\)`: numpy's functions.*\n.*ol.sin\(x\)"
    with pytest.raises(DeclarationError, match=words):
        trace(pointwise)
    words = r"test_refusals.py:\d+: `np.linalg.norm\(x\)`: .* numpy array"
    with pytest.raises(DeclarationError, match=words):
        trace(whole)


def test_other_mistakes_of_types_in_a_body_stay_as_they_are():
    def body(x=Variable()):
        return solve(len(3) == x)

    with pytest.raises(TypeError, match="has no len"):
        trace(body)


def test_a_bound_by_name_says_where_such_bounds_are_possible():
    with pytest.raises(
        DeclarationError, match=r"that\s+minimizes or maximizes. A solve"
    ):
        Variable(lower="lo")
