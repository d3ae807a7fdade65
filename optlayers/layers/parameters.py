"""The parameters of one call: those bound before and those given, as tensors."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optlayers.compile.checks import outside
from optlayers.errors import ParameterError, UnknownName
from optlayers.layers.given import tensor_of, unified
from optlayers.layers.patterned import as_torch, read_entries
from optlayers.layers.unknown_parameter import unknown_parameter
from optlayers.modeling.fields import Role
from optlayers.modeling.problem import DeclaredProblem


def parameters_of(
    declared: DeclaredProblem,
    bound: Mapping[str, Tensor],
    weak: Collection[str],
    values: tuple,
    named: Mapping[str, Any],
) -> dict[str, Tensor]:
    """Tensors of one dtype and device, in declared order.

    Args:
        declared: the problem.
        bound: values bound when the layer was made, by name.
        weak: names of those among them that follow the others in dtype and device.
        values: of the call, those of the other parameters in declared order.
        named: of the call, by name.

    Raises:
        ParameterError: a parameter is missing, given twice or bound already, or of
            another dtype or device than the rest.
        UnknownName: there is no such parameter.
    """
    free = tuple(name for name in declared.parameter_names if name not in bound)
    if len(values) > len(free):
        raise ParameterError(
            f"{declared.name}: {len(values)} positional values for "
            f"{len(free)} parameters ({', '.join(free) or 'none'})."
        )
    given = dict(zip(free, values, strict=False))
    for name, value in named.items():
        if name in given:
            raise ParameterError(f"{declared.name}: {name} given twice.")
        if name in bound:
            raise ParameterError(
                f"{declared.name}: {name} was bound when the layer was "
                "made; make another layer to vary it in the call."
            )
        if name not in free:
            raise UnknownName(unknown_parameter(declared, name))
        given[name] = value
    missing = [name for name in free if name not in given]
    if missing:
        fields = declared.fields
        wanted = ", ".join(f"{name} ({fields[name].text})" for name in missing)
        raise ParameterError(f"{declared.name}: missing {wanted}.")
    return _unified(declared, bound, weak, given)


def _unified(
    declared: DeclaredProblem,
    bound: Mapping[str, Tensor],
    weak: Collection[str],
    given: Mapping[str, Any],
) -> dict[str, Tensor]:
    tensors, weak = {}, set(weak)
    off_pattern: dict[str, Tensor] = {}
    for name in declared.parameter_names:
        field = declared.fields[name]
        if name in bound:
            tensors[name] = bound[name]
            if field.pattern is not None:
                off_pattern[name] = tensors[name].new_zeros(())
            continue
        value = given[name]
        if not isinstance(value, Tensor):
            weak.add(name)
            value = tensor_of(name, as_torch(value))
        elif field.role is Role.TIME and value.dtype in (torch.int32, torch.int64):
            # Counted times are numbers, as in a list.
            weak.add(name)
            value = value.to(torch.get_default_dtype())
        if value.is_complex():
            raise ParameterError(
                f"{declared.name}: {name} is complex ({value.dtype}); "
                "every field is real. Give real and imaginary parts apart."
            )
        if field.pattern is not None:
            value, off_pattern[name] = read_entries(name, field, value)
        if value.layout != torch.strided:
            raise ParameterError(
                f"{declared.name}: {name} is sparse ({value.layout}); give "
                "it dense, with .to_dense(), or declare its pattern=."
            )
        tensors[name] = value
    arrays = [name for name in weak if isinstance(given.get(name), np.ndarray)]
    tensors = unified(declared.name, tensors, weak, arrays)
    return tensors | {outside(name): value for name, value in off_pattern.items()}
