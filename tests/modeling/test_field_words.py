"""Words that fields do not take: each is refused with a reason and a remedy."""

import inspect

import numpy as np
import pytest
import torch

import optlayers as ol
from optlayers.errors import DeclarationError, ParameterError
from optlayers.modeling.field_words import KNOWN
from optlayers.modeling.fields import Role

KINDS = [ol.Variable, ol.Parameter, ol.State, ol.Control]

REASONS = {
    "integer": ["zero or undefined", "relax it", "round"],
    "boolean": ["zero or undefined", "lower=0, upper=1", "round"],
    "complex": ["every field is real", "two fields"],
    "imag": ["every field is real", "imaginary part"],
    "hermitian": ["[[R, -S], [S, R]]", "symmetric=True"],
    "PSD": ["psd=True"],
    "NSD": ["the negative, psd=True"],
    "pos": ["not closed", "nonneg=True", "lower=1e-6"],
    "neg": ["not closed", "nonpos=True", "upper=-1e-6"],
    "bounds": ["lower=", "upper="],
    "diag": ["ol.diag"],
    "sparsity": ["as a vector"],
    "value": ["from the call", "start="],
    "name": ["its argument in the signature"],
    "shape": ['Variable("k n")'],
    "nonnegative": ["nonneg=True"],
}


@pytest.mark.parametrize("word", REASONS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda one: one.__name__)
def test_a_word_of_cvxpy_is_refused_with_its_place_and_a_remedy(kind, word):
    line = inspect.currentframe().f_lineno + 2
    with pytest.raises(DeclarationError) as caught:
        kind("n", **{word: True})
    text = str(caught.value)
    assert text.startswith(
        f"test_field_words.py:{line}: {kind.__name__}: {word}=True: "
    )
    for part in REASONS[word]:
        assert part in text


def test_the_word_on_integers_reads_as_a_whole():
    with pytest.raises(DeclarationError) as caught:
        ol.Variable("n", integer=True)
    assert str(caught.value).split(": ", 1)[1] == (
        "Variable: integer=True: the solution of an integer program is piecewise "
        "constant in its parameters, so its gradient is zero or undefined; relax it to "
        "bounds, as in lower=0, upper=10, and round the result, or fix the integers as "
        "a Parameter and solve for the rest."
    )


def test_a_word_that_says_nothing_is_dropped():
    with pytest.raises(DeclarationError, match=r"integer=False: .* drop it"):
        ol.Variable("n", integer=False)


def test_a_misspelt_word_names_the_nearest():
    with pytest.raises(DeclarationError, match="Did you mean nonneg"):
        ol.Variable("n", nonnegg=True)
    with pytest.raises(DeclarationError, match="takes nonneg, nonpos, lower"):
        ol.State("n", colour="red")


def test_a_word_of_another_kind_of_field_says_what_to_do_here():
    with pytest.raises(DeclarationError, match="needs no first guess"):
        ol.Parameter("n", start=0.0)
    with pytest.raises(DeclarationError, match="as a constraint in the body"):
        ol.State("n", psd=True)
    with pytest.raises(DeclarationError, match="no attributes"):
        ol.Time(nonneg=True)


@pytest.mark.parametrize("role", Role)
def test_the_known_words_are_those_of_the_signature(role):
    kind = getattr(ol, role.value)
    named = inspect.signature(kind).parameters.values()
    words = {one.name for one in named if one.kind is one.KEYWORD_ONLY}
    assert set(KNOWN[role]) - {"pattern"} == words - {"pattern"}


def test_shapes_may_be_tuples_as_in_cvxpy():
    assert ol.Variable((3, 4), nonneg=True).text == 'Variable("3 4", nonneg=True)'


COMPLEX = [1j, np.array([1 + 1j, 2]), [1j, 2.0], torch.tensor([1j, 2.0])]


@pytest.mark.parametrize("value", COMPLEX, ids=lambda one: type(one).__name__)
def test_complex_constants_are_refused(value):
    @ol.problem
    def shifted(x=ol.Variable("n")):
        return ol.minimize(ol.sum_squares(x - value))

    with pytest.raises(DeclarationError, match="real and imaginary parts apart"):
        shifted(n=2)


@pytest.mark.parametrize("value", COMPLEX[1:], ids=lambda one: type(one).__name__)
def test_complex_parameters_are_refused(value):
    @ol.problem
    def shifted(x=ol.Variable("n"), y=ol.Parameter("n")):
        return ol.minimize(ol.sum_squares(x - y))

    with pytest.raises(ParameterError, match=r"y is complex.* apart"):
        shifted(y=value)
