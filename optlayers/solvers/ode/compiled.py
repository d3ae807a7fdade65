"""Trial steps through `torch.compile`, or as they are where that cannot be done.

What was compiled is shared by all solvers and fields of the same code; tensors that a
field closes over, tolerances and batch sizes may differ from call to call.
"""

import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from types import CodeType, FunctionType, MethodType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from optlayers.errors import CompileWarning
from optlayers.programs.initial_value import FieldFunction, InitialValueProgram
from optlayers.solvers.ode.attempt import Attempt, attempt
from optlayers.solvers.ode.pace import Pace
from optlayers.solvers.ode.stepper import Step, Stepper

# How deep functions may lie in the closures of functions.
DEEPEST = 8
BACKEND = "inductor"

_compiled: dict[tuple[Any, ...], Callable[..., Attempt]] = {}
_hopeless: set[tuple[Any, ...]] = set()
_calls: list["_Call"] = []


class _Call(NamedTuple):
    """The last call of a compiled graph: the graph, its inputs and its outputs."""

    graph: Callable[..., Sequence[Any]]
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]


class CompiledAttempt:
    """`attempt`, compiled, of one walk.

    The first step goes through torch's checks of what may have changed since it was
    compiled; the others go straight to the graph, which halves the time of a step.
    """

    def __init__(self, field: FieldFunction, *, is_fixed: bool) -> None:
        """Nothing is compiled before the first step.

        Args:
            field: f as it was given, whose code decides what is compiled anew.
            is_fixed: whether what the field closes over stays as it is on the walk.
        """
        parts = tuple(_parts(field, DEEPEST))
        self._codes = tuple(_code(one) for one in parts)
        self._objects = tuple(
            one if isinstance(one, CodeType) else id(one) for one in parts
        )
        self._is_fixed = is_fixed
        self._replay: _Replay | None = None
        self._stepper: Stepper | None = None

    def __call__(
        self,
        stepper: Stepper,
        pace: Pace,
        field: FieldFunction,
        time: Tensor,
        size: Tensor,
        state: Tensor,
        carry: Tensor,
        running: Tensor,
        earlier: tuple[Tensor, ...],
        workspace: Any,
    ) -> Attempt:
        """Try a step; the arguments are those of `attempt`."""
        # Compiled code knows strides; those of a user's start may be others.
        state, carry = state.detach().contiguous(), carry.detach().contiguous()
        moving = time, size, state, carry, running, *earlier
        if self._replay is not None and self._stepper is stepper:
            return self._replay(moving)
        rest = stepper, pace, field, time, size, state, carry, running, earlier
        tried = type(stepper), *self._objects
        if tried in _hopeless:
            return attempt(*rest, workspace)
        try:
            function = _function((stepper, *self._codes), time.device)
            _calls.clear()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what torch says while it compiles
                result = function(*rest)
        # Of dynamo and inductor; errors of the field come back from the field itself.
        except RuntimeError as error:
            result = attempt(*rest, workspace)
            _hopeless.add(tried)
            _warn(error)
            return result
        if self._is_fixed and len(_calls) == 1:
            self._replay = _Replay.of(_calls[0], moving, result)
            self._stepper = stepper
        _calls.clear()
        return result


class _Replay(NamedTuple):
    """A compiled graph with what stays the same from step to step.

    Attributes:
        graph: takes all inputs.
        inputs: of the first step.
        moving: where an input is the j-th tensor that moves, (i, j).
        outputs: which output each field of the step is, then the ratio and the factor;
            -1 of None.
    """

    graph: Callable[..., Sequence[Any]]
    inputs: list[Any]
    moving: list[tuple[int, int]]
    outputs: list[int]

    @classmethod
    def of(
        cls, call: _Call, moving: tuple[Tensor, ...], result: Attempt
    ) -> "_Replay | None":
        """From the first step; None if it does more than call the graph."""
        if len({id(one) for one in moving}) < len(moving):
            return None  # which is which cannot be told
        leaves = *result.step, result.ratio, result.factor
        places = {id(one): i for i, one in enumerate(call.outputs)}
        outputs = [-1 if one is None else places.get(id(one), -2) for one in leaves]
        if -2 in outputs:
            return None
        order = {id(one): j for j, one in enumerate(moving)}
        found = [
            (i, order[id(one)]) for i, one in enumerate(call.inputs) if id(one) in order
        ]
        return cls(call.graph, list(call.inputs), found, outputs)

    def __call__(self, moving: tuple[Tensor, ...]) -> Attempt:
        """The step from other tensors, of the same shapes."""
        inputs = self.inputs
        for i, j in self.moving:
            inputs[i] = moving[j]
        outputs = self.graph(*inputs)
        found: list[Any] = [None if k < 0 else outputs[k] for k in self.outputs]
        *step, ratio, factor = found
        return Attempt(Step(*step), ratio, factor)


def has_compiler() -> bool:
    """Whether there is a C++ compiler, as `torch.compile` looks for one."""
    return shutil.which(os.environ.get("CXX", "g++")) is not None


def _function(key: tuple[Any, ...], device: torch.device) -> Callable[..., Attempt]:
    """A compiled copy of `attempt` for one method and the fields of one code.

    Each has its own code object, as what torch compiles, and how often, is counted by
    code object.
    """
    found = _compiled.get(key)
    if found is None:
        if device.type == "cpu" and not has_compiler():
            raise RuntimeError("no C++ compiler: install g++, or set CXX to another")
        own = FunctionType(
            attempt.__code__.replace(), attempt.__globals__,
            argdefs=attempt.__defaults__,
        )  # fmt: skip
        found = torch.compile(own, fullgraph=True, backend=_noting)
        _compiled[key] = found
    return found


def _noting(module: Any, examples: Any, **options: Any) -> Callable[..., Any]:
    """The graphs of a backend, whose calls are noted."""
    graph = torch._dynamo.lookup_backend(BACKEND)(module, examples, **options)

    def noted(*inputs: Any) -> Any:
        outputs = graph(*inputs)
        _calls.append(_Call(graph, inputs, tuple(outputs)))
        return outputs

    return noted


def _warn(error: RuntimeError) -> None:
    reason = str(error).strip().splitlines() or [type(error).__name__]
    warnings.warn(
        f"compile=True has no effect: {reason[0]}. Steps are taken as they are.",
        CompileWarning,
        stacklevel=4,
    )


def _code(one: Any) -> Any:
    return one if isinstance(one, CodeType) else type(one)


def _parts(one: Any, depth: int) -> Iterator[Any]:
    """The codes of a function and of those in its closure, and other objects there."""
    if isinstance(one, MethodType):
        yield from _parts(one.__func__, depth)
        yield from _parts(one.__self__, depth)
    elif isinstance(one, FunctionType) and depth:
        yield one.__code__
        for cell in one.__closure__ or ():
            yield from _parts(cell.cell_contents, depth - 1)
    elif isinstance(one, InitialValueProgram):
        yield from _parts(one.field, depth - 1)
    elif not isinstance(one, Tensor):
        yield one
