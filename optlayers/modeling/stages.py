"""Discrete stages: where an expression lives, its shifts, and its sum over stages.

A State has knots 0..T, a Control stages 0..T-1. A combination lives where all of its
terms live. Stage k of `x.next` is stage k + 1 of x.
"""

from collections.abc import Collection, Iterable
from typing import Any

from optlayers.errors import DeclarationError
from optlayers.modeling.indexing import Step, stage_of


def shifted(shape: tuple[int, ...], stages: range, shift: int) -> Step:
    """The node whose stage k is stage k + shift of the argument."""
    window = range(max(stages.start - shift, 0), stages.stop - shift)
    if not window:
        raise DeclarationError(
            f"nothing comes after stage {stages.stop - 1}, the only one there is."
        )
    return Step("next", {"shift": shift}, shape, window)


def at_stage(shape: tuple[int, ...], stages: range, stage: Any) -> Step:
    """The node of one stage, which is not staged any more."""
    if isinstance(stage, bool) or not isinstance(stage, int):
        raise DeclarationError(f"at({stage!r}): a stage is an integer.")
    return Step("at", {"stage": stage_of(stages, stage)}, shape, None)


def summed(shape: tuple[int, ...]) -> Step:
    """The node of the sum over all stages of the argument."""
    return Step("total", {}, shape, None)


def intersection(windows: Iterable[range | None]) -> range | None:
    """The stages common to all windows; None if nothing is staged.

    The result may be empty, which callers refuse with the names they know.
    """
    found: range | None = None
    for window in windows:
        if window is None:
            continue
        if found is None:
            found = window
        elif window is not found:
            found = range(max(found.start, window.start), min(found.stop, window.stop))
    return found


def no_stages(word: str, name: str, states: Collection[str]) -> str:
    """Why something without stages has no `.word`, and what to write.

    Args:
        word: next, first, last, at or total.
        name: what it was asked of.
        states: states of a differential equation that it is built of.
    """
    if word == "total" and not states:
        return (
            f"{name} has no stages to sum over; for the sum of its entries write "
            "ol.sum(...)."
        )
    if not states:
        return (
            f"{name} has no stages, so no .{word}; only what is built of a State or "
            "Control has."
        )
    return f"{at_one_time(name)}\n  {_CONTINUOUS[word].format(state=min(states))}"


def at_one_time(name: str) -> str:
    """What a state, or what is built of it, is in a differential equation."""
    return f"{name} is a value at one time, the present one, and has no stages."


# What to write instead in a differential equation.
_CONTINUOUS = {
    "next": "Its change is stated by ol.der({state}) == ....",
    "first": "The initial value is that of a State by itself, {state}.first.",
    "last": "The last value is read off the result, at the last save time.",
    "at": "Values at given times are read off the result, at the save times.",
    "total": (
        "For an integral over time declare one more State c, ol.der(c) == ... and "
        "c.first == 0, and read its last value."
    ),
}


def window_text(stages: range | None) -> str:
    """Words for a window, e.g. `stages 0 to 19`."""
    if stages is None:
        return "no stage"
    if len(stages) == 1:
        return f"stage {stages.start}"
    return f"stages {stages.start} to {stages.stop - 1}"
