"""How fields, constants, stages, entries and foreign calls are written."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from optlayers.modeling.expressions import Expression
from optlayers.modeling.formulas import Formulas, Rule, StageIndex, stage_name
from optlayers.modeling.notation import Binding, Piece

# ---- leaves --------------------------------------------------------------------------


def _field(on: Formulas, e: Expression) -> Piece:
    name = on.notation.name(e.options["field"].name)
    if e.stages is None:
        return Piece(name)
    return Piece(on.notation.subscript(name, on.stage.written(on.notation)))


def _constant(on: Formulas, e: Expression) -> Piece:
    value = e.options["value"].double()
    if value.numel() and bool((value == value.reshape(-1)[0]).all()):
        return _number(on, value.reshape(-1)[0].item())
    if value.ndim == 1 and value.numel() <= 4:
        entries = ", ".join(on.notation.number(one) for one in value.tolist())
        return Piece(on.notation.grouped(entries))
    if value.ndim == 2 and torch.equal(value, torch.eye(*value.shape).to(value)):
        return Piece(on.notation.name("I"))
    sizes = "×".join(map(str, e.shape))
    return Piece(on.notation.word(f"constant[{sizes}]".replace("×", "x")))


def _number(on: Formulas, value: float) -> Piece:
    binding = Binding.ATOM if value >= 0 else Binding.PREFIX
    return Piece(on.notation.number(value), binding)


def _learned(on: Formulas, e: Expression) -> Piece:
    return Piece(on.notation.name(e.options["name"]))


# ---- stages and entries --------------------------------------------------------------


def _next(on: Formulas, e: Expression) -> Piece:
    later = replace(on.stage, offset=on.stage.offset + e.options["shift"])
    return on.at(later).write(e.arguments[0])


def _at(on: Formulas, e: Expression) -> Piece:
    assert on.steps is not None
    return on.at(stage_name(e.options["stage"], on.steps)).write(e.arguments[0])


def _stages(on: Formulas, e: Expression) -> Piece:
    (whole,) = e.arguments
    index, assumed = e.options["index"], whole.stages
    assert assumed is not None
    chosen = assumed[index] if isinstance(index, slice) else index
    base = on.notation.name(whole.options["field"].name)
    if isinstance(chosen, range) and chosen.step == 1 and len(chosen):
        first, last = on.window(chosen)
        return Piece(on.notation.subscript(base, f"{first}:{last}"))
    return Piece(f"{base}{_bracketed(on, (index,))}")


def _total(on: Formulas, e: Expression) -> Piece:
    (term,) = e.arguments
    assert term.stages is not None
    sign = on.notation.sum_sign(*on.window(term.stages))
    inner = on.at(StageIndex()).tight(term, Binding.QUOTIENT)
    return Piece(f"{sign} {inner}", Binding.PREFIX)


def _index(on: Formulas, e: Expression) -> Piece:
    entries = e.options["index"]
    if entries and entries[0] is Ellipsis:
        entries = entries[1:]
    inner = on.tight(e.arguments[0], Binding.ATOM)
    return Piece(inner + _bracketed(on, entries))


def _bracketed(on: Formulas, entries: tuple[Any, ...]) -> str:
    return f"[{', '.join(_entry(on, one) for one in entries)}]"


def _entry(on: Formulas, entry: Any) -> str:
    if isinstance(entry, int):
        return on.notation.number(entry)
    if isinstance(entry, slice):
        ends = ("" if one is None else str(one) for one in (entry.start, entry.stop))
        step = "" if entry.step in (None, 1) else f":{entry.step}"
        return ":".join(ends) + step
    if entry is None:
        return on.notation.word("None")
    if isinstance(entry, tuple | list | np.ndarray) and len(entry) <= 4:
        return f"[{', '.join(map(str, entry))}]"
    return on.notation.ellipsis


def _pattern(on: Formulas, e: Expression) -> Piece:
    (values,) = e.arguments
    if values.name != "constant":
        return on.write(values)
    sizes = "x".join(map(str, e.shape))
    return Piece(on.notation.word(f"sparse[{sizes}]"))


def _inside(on: Formulas, e: Expression) -> Piece:
    return on.write(e.arguments[0])


# ---- calls of torch ------------------------------------------------------------------


def _torch(on: Formulas, e: Expression) -> Piece:
    function = e.options["function"]
    if function is torch.pow:
        return _raised(on, e)
    name = getattr(function, "__name__", type(function).__name__)
    return on.called(e, on.notation.word(name.strip("_<>")))


def _raised(on: Formulas, e: Expression) -> Piece:
    base, exponent = e.arguments
    raised = on.write(exponent).text
    text = on.notation.superscript(on.tight(base, Binding.ATOM), raised)
    return Piece(text, Binding.SUPERSCRIPT)


def _module(on: Formulas, e: Expression) -> Piece:
    return on.called(e, on.notation.word(e.options["name"]))


STRUCTURE: Mapping[str, Rule] = {
    "field": _field,
    "constant": _constant,
    "learned": _learned,
    "next": _next,
    "at": _at,
    "stages": _stages,
    "total": _total,
    "index": _index,
    "assert": _inside,
    "pattern": _pattern,
    "torch": _torch,
    "module": _module,
}
