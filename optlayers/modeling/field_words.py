"""Words that a field does not take: why, and what to write instead.

Most are cvxpy's; what has no gradient is refused with the reason.
"""

import difflib
from collections.abc import Mapping
from typing import Any

from optlayers.modeling.fields import Role

# What each role takes by keyword.
KNOWN: Mapping[Role, tuple[str, ...]] = {
    Role.VARIABLE: (
        *("nonneg", "nonpos", "symmetric", "psd", "lower", "upper", "start", "doc"),
    ),
    Role.PARAMETER: (
        *("nonneg", "nonpos", "symmetric", "psd", "lower", "upper", "pattern", "doc"),
    ),
    Role.STATE: ("nonneg", "nonpos", "lower", "upper", "start", "doc"),
    Role.CONTROL: ("nonneg", "nonpos", "lower", "upper", "start", "doc"),
    Role.TIME: ("doc",),
}

_DISCRETE = (
    "the solution of {an} program is piecewise constant in its parameters, so its "
    "gradient is zero or undefined"
)
_COMPLEX = (
    "every field is real: gradients and multipliers of the layers are those of real "
    "programs"
)

_REASONS: Mapping[str, str] = {
    "integer": (
        f"{_DISCRETE.format(an='an integer')}; relax it to bounds, as in "
        "lower=0, upper=10, and round the result, or fix the integers as a Parameter "
        "and solve for the rest."
    ),
    "boolean": (
        f"{_DISCRETE.format(an='a boolean')}; relax it to lower=0, upper=1 and round "
        "the result, or fix the choice as a Parameter and solve for the rest."
    ),
    "complex": f"{_COMPLEX}. Declare real and imaginary part as two fields.",
    "imag": f"{_COMPLEX}. Declare the imaginary part as a real field.",
    "hermitian": (
        f"{_COMPLEX}. A Hermitian matrix R + iS is the real symmetric "
        "[[R, -S], [S, R]], positive semidefinite together with it; declare R with "
        "symmetric=True and S, with S.T == -S as a constraint."
    ),
    "PSD": "it is written psd=True here.",
    "NSD": "declare the negative, psd=True, and put a minus before it in the body.",
    "pos": (
        "a strictly positive set is not closed, so an optimum need not be attained in "
        "it; write nonneg=True, or a least value, as in lower=1e-6."
    ),
    "neg": (
        "a strictly negative set is not closed, so an optimum need not be attained in "
        "it; write nonpos=True, or a largest value, as in upper=-1e-6."
    ),
    "bounds": "write lower=... and upper=..., each a number or an array.",
    "diag": (
        'a diagonal matrix has n unknowns: declare a vector, "n", and write '
        "ol.diag(...) of it in the body."
    ),
    "sparsity": (
        "declare the entries that are there as a vector and place them in the body; a "
        "Parameter takes pattern=."
    ),
    "value": (
        "a Parameter has its value from the call, a first guess of a Variable is "
        "start=..."
    ),
    "name": "the name of a field is that of its argument in the signature.",
    "shape": 'the shape comes first and has no name, as in Variable("k n").',
    "nonnegative": "it is written nonneg=True here.",
    "nonpositive": "it is written nonpos=True here.",
}


def word_refusal(role: Role, others: Mapping[str, Any]) -> str:
    """Why a field does not take the first of these keywords, and what to write.

    Args:
        role: the field that was declared.
        others: keywords it does not have, at least one.
    """
    word, value = next(iter(others.items()))
    written = f"{word}={value!r}"
    if word in _REASONS:
        if value is False or value is None:
            return f"{written}: {role.value} knows no {word}, nothing is; drop it."
        return f"{written}: {_REASONS[word]}"
    if any(word in words for words in KNOWN.values()) and word not in KNOWN[role]:
        return f"{written}: {_not_of(role, word)}"
    near = difflib.get_close_matches(word, KNOWN[role], n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"{written}: {role.value} takes {', '.join(KNOWN[role])}.{hint}"


def _not_of(role: Role, word: str) -> str:
    if word == "start":
        return "a Parameter has its value from the call, and needs no first guess."
    if role is Role.TIME:
        return "the time has no attributes; a call gives its save times."
    if word == "pattern":
        return (
            "only a Parameter has a pattern; of an unknown, declare the entries that "
            "are there as a vector."
        )
    return (
        f"a {role.value} is a vector or tensor at every knot; write the relation as a "
        "constraint in the body."
    )
