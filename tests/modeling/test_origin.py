"""Origins: the user's own line and source, whatever called what in between."""

import pickle

from optlayers.modeling.field_kinds import Parameter, Variable
from optlayers.modeling.language import between
from optlayers.modeling.origin import NOWHERE, Origin, quoting
from optlayers.modeling.verbs import minimize
from tests.modeling.traced import built, trace


def test_an_expression_knows_its_own_source():
    def body(x=Variable(2), p=Parameter(2)):
        return minimize(x @ x), (p + 2 * p, p.sum(), p[0])

    added, summed, entry = built(body)
    assert added.origin.text == "p + 2 * p"
    assert added.arguments[1].origin.text == "2 * p"
    assert summed.origin.text == "p.sum()"
    assert entry.origin.text == "p[0]"
    line = test_an_expression_knows_its_own_source.__code__.co_firstlineno
    assert added.origin.place == f"test_origin.py:{line + 2}"


def test_a_constraint_knows_the_keyword_it_was_given_by():
    def body(x=Variable(2), p=Parameter(2)):
        return minimize(x @ x, x <= p, inside=x + p <= 1, box=between(0, x, p))

    plain, inside, lower, _ = trace(body).constraints
    assert (plain.origin.text, plain.origin.context) == ("x <= p", "x <= p")
    assert inside.origin.text == "x + p <= 1"
    assert inside.origin.context == "inside=x + p <= 1"
    assert lower.origin.context == "box=between(0, x, p)"


def test_columns_count_characters_not_bytes():
    def body(x=Variable(2), θ=Parameter(2), ü=Parameter(2)):
        return minimize(x @ x), (θ * ü, ü)[0]

    assert built(body).origin.text == "θ * ü"


def test_code_without_source_has_a_line_and_no_text():
    namespace = {"Variable": Variable, "minimize": minimize}
    exec("\n\ndef body(x=Variable(2)):\n    return minimize(x @ x)", namespace)
    origin = trace(namespace["body"]).objective.origin
    assert (origin.line, origin.text, origin.context) == (4, "", "")


def test_an_origin_survives_pickling_as_nowhere():
    here = pickle.loads(pickle.dumps(Origin.here()))
    assert (here.code, here.text) == (None, "")
    assert NOWHERE.place == "<unknown>:0"


def test_what_is_built_from_something_else_quotes_it():
    with quoting("cvxpy problem", [1, 2]):
        here = Origin.here()
        with quoting("cvxpy problem", "inner"):
            inner = Origin.here()
    assert (here.place, here.text, here.context) == (
        "cvxpy problem",
        "[1, 2]",
        "[1, 2]",
    )
    assert (inner.text, inner.keyword, inner.enclosing()) == ("inner", None, [])
    assert Origin.here().text == "Origin.here()"
