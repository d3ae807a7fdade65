"""Short ways for the tests to run a body and to evaluate what it built."""

import inspect

import torch

from optlayers.modeling.evaluate import Evaluator
from optlayers.modeling.problem import declare


def trace(body, steps=None, **sizes):
    """The declaration of a body at these sizes."""
    return declare(body).trace(sizes, steps)


def built(body, steps=None, **sizes):
    """What a body builds, run for its value rather than for a problem.

    The body returns (goal, anything); `anything` comes back.
    """
    kept = []

    def declaration(**fields):
        goal, value = body(**fields)
        kept.append(value)
        return goal

    declaration.__signature__ = inspect.signature(body)
    trace(declaration, steps, **sizes)
    return kept[-1]


def value_of(expression, captured=None, **values):
    """The value of an expression of parameters."""
    tensors = {name: torch.as_tensor(one) for name, one in values.items()}
    return Evaluator([expression])(tensors, captured or {})[0]
