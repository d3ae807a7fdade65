"""Promises of a declaration, found broken before any solver runs."""

import numpy as np
import pytest

from optlayers.solution import Status
from optlayers.solvers.checks import Check, first_faults

GOOD, BAD, NAN = Status.SOLVED, Status.INVALID_DATA, Status.NOT_FINITE


def statuses(check: Check, value) -> list[int]:
    faults = first_faults([check], [np.asarray(value, dtype=float)], 3)
    return [GOOD] * 3 if faults is None else faults[0].tolist()


@pytest.mark.parametrize(
    ("attribute", "bound", "values", "expected"),
    [
        ("finite", None, [0, np.nan, np.inf], [GOOD, NAN, NAN]),
        ("nonneg", None, [0, -1e-12, np.nan], [GOOD, BAD, NAN]),
        ("nonpos", None, [-1, 1e-12, -np.inf], [GOOD, BAD, NAN]),
        ("lower", 2.0, [2, 1.9, 3], [GOOD, BAD, GOOD]),
        ("upper", 2.0, [2, 1.9, 3], [GOOD, GOOD, BAD]),
        ("finite", None, [1e308, 1e308, 1e308], [GOOD, GOOD, GOOD]),
        ("finite", None, [np.inf, -np.inf, 1], [NAN, NAN, GOOD]),
    ],
)
def test_each_sample_is_judged_alone(attribute, bound, values, expected):
    assert statuses(Check("r", attribute, "", 0, bound), values) == expected


def test_a_shared_value_is_judged_for_all():
    check = Check("r", "nonneg", "Parameter(nonneg=True)", 0)
    assert statuses(check, -0.5) == [BAD] * 3
    assert statuses(check, 0.5) == [GOOD] * 3


MATRICES = {
    "positive": [[2.0, 1.0], [1.0, 2.0]],
    "singular": [[1.0, 1.0], [1.0, 1.0]],
    "zero": [[0.0, 0.0], [0.0, 0.0]],
    "indefinite": [[1.0, 2.0], [2.0, 1.0]],
    "skewed": [[1.0, 0.5], [0.0, 1.0]],
    "nan": [[np.nan, 0.0], [0.0, 1.0]],
}


@pytest.mark.parametrize(
    ("attribute", "names", "expected"),
    [
        ("psd", ["positive", "singular", "zero"], [GOOD, GOOD, GOOD]),
        ("psd", ["indefinite", "positive", "nan"], [BAD, GOOD, NAN]),
        ("psd", ["skewed", "positive", "singular"], [BAD, GOOD, GOOD]),
        ("symmetric", ["indefinite", "skewed", "nan"], [GOOD, BAD, NAN]),
    ],
)
def test_matrices_are_judged_by_eigenvalue_and_symmetry(attribute, names, expected):
    value = [MATRICES[name] for name in names]
    assert statuses(Check("Q", attribute, "", 2), value) == expected


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_gram_matrix_is_psd_in_its_own_precision(dtype, generator):
    L = generator.normal(size=(20, 12, 3)).astype(dtype)
    value = L @ L.swapaxes(1, 2)
    assert first_faults([Check("Q", "psd", "", 2)], [value], 20) is None


def test_the_first_broken_check_is_the_one_reported():
    checks = [Check("a", "nonneg", "", 0), Check("b", "nonneg", "", 0)]
    values = [np.array([1.0, -1.0, 1.0]), np.array([1.0, -1.0, -1.0])]
    faults = first_faults(checks, values, 3)
    assert faults is not None
    assert faults[1].tolist() == [-1, 0, 1]


@pytest.mark.parametrize(
    ("check", "value", "message"),
    [
        (
            Check("risk", "nonneg", "Parameter(nonneg=True)", 0),
            [0.1, -0.25],
            "risk is -0.25, declared Parameter(nonneg=True)",
        ),
        (
            Check("mu", "finite", 'Parameter("n")', 1),
            [[0.0, 0.0], [1.0, np.nan]],
            'mu[1] is nan, declared Parameter("n")',
        ),
        (
            Check("u", "upper", "upper=1", 1, 1.0),
            [[0.0, 0.0], [1.5, 4.0]],
            "u[1] is 4, declared upper=1",
        ),
        (
            Check("Q", "psd", "psd=True", 2),
            [MATRICES["positive"], MATRICES["indefinite"]],
            "Q has eigenvalue -1, declared psd=True",
        ),
        (
            Check("Q", "symmetric", "symmetric=True", 2),
            [MATRICES["positive"], MATRICES["skewed"]],
            "Q[0, 1] is 0.5 but 0 across the diagonal, declared symmetric=True",
        ),
    ],
)
def test_a_fault_names_the_number_and_the_declaration(check, value, message):
    assert check.describe(np.asarray(value), 1) == message


def test_an_empty_batch_breaks_nothing():
    check = Check("Q", "psd", "", 2)
    assert first_faults([check], [np.zeros((0, 2, 2))], 0) is None
