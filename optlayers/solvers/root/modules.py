"""Systems that call modules, as functions of the modules' tensors too.

An operator that transforms cannot look into must be given every tensor it reads.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from optlayers.solvers.root.plan import Modules, RootPlan, SystemFunction

Function = Callable[[Tensor, Sequence[Tensor], Modules], Tensor]


@torch.compiler.assume_constant_result
def standalone(plan: RootPlan, names: tuple[str, ...], *modules: nn.Module) -> int:
    """The handle of a plan that takes the tensors of modules as its last inputs.

    Dynamo runs this as it is, at trace time, so it takes modules one by one.

    Args:
        plan: of the system that calls them; keeps the plan that is made.
        names: of the modules, as the system knows them.
        *modules: as many.
    """
    shapes = tuple(one.ndim for one in tensors_of(modules))
    key = (*map(id, modules), *shapes)
    found = plan.standalone.get(key)
    if found is None:
        own = dict(zip(names, modules, strict=True))
        function = StandaloneSystem(plan.function, plan.input_ndims, own)
        made = replace(plan, function=function, input_ndims=function.input_ndims)
        found = plan.standalone.setdefault(key, made)
    return found.handle


def tensors_of(modules: Sequence[nn.Module]) -> list[Tensor]:
    """Parameters and buffers of modules, in the order in which `Standalone` takes them.

    One that stands in two places comes twice, as its places are told apart by name.
    """
    return [tensor for _, tensor in _named_tensors(modules)]


class Standalone:
    """A function of points that gets the tensors of its modules as its last inputs.

    Attributes:
        input_ndims: axes of one sample of each input, module tensors included.
    """

    def __init__(
        self, function: Function, input_ndims: Sequence[int], modules: Modules
    ) -> None:
        """Say which modules.

        Args:
            function: is called with these modules over the tensors given.
            input_ndims: axes of one sample of each of its own inputs.
            modules: that it calls, by name.
        """
        self._function = function
        self._count = len(input_ndims)
        self._holder = _Holder(modules)
        found = list(_named_tensors(list(modules.values())))
        self._names = tuple(f"modules_in_order.{name}" for name, _ in found)
        self.input_ndims = (*input_ndims, *(tensor.ndim for _, tensor in found))

    def __call__(
        self, point: Tensor, inputs: Sequence[Tensor], modules: Modules
    ) -> Tensor:
        """[B, n] -> [B, k]; `modules` are its own, no others are read."""
        return self._called(self._function, point, inputs)

    def _called(
        self, method: Function, point: Tensor, inputs: Sequence[Tensor]
    ) -> Tensor:
        pairs = zip(inputs, self.input_ndims, strict=True)
        axes = [0 if one.ndim > ndim else None for one, ndim in pairs]
        if all(axis is None for axis in axes[self._count :]):
            return self._over(method, point, inputs)

        def one_sample(z: Tensor, own: Sequence[Tensor]) -> Tensor:
            return self._over(method, z.unsqueeze(0), own)[0]

        # Weights of its own for every sample: a module takes one set at a time.
        mapped = torch.func.vmap(one_sample, (0, axes), randomness="different")
        return mapped(point, list(inputs))

    def _over(
        self, method: Function, point: Tensor, inputs: Sequence[Tensor]
    ) -> Tensor:
        own, tensors = inputs[: self._count], inputs[self._count :]
        return torch.func.functional_call(
            self._holder,
            dict(zip(self._names, tensors, strict=True)),
            (method, point, own),
            tie_weights=False,
        )


class StandaloneSystem(Standalone):
    """A system of equations that is standalone, with its Jacobian."""

    def __init__(
        self, function: SystemFunction, input_ndims: Sequence[int], modules: Modules
    ) -> None:
        """Say which modules; as of `Standalone`."""
        super().__init__(function, input_ndims, modules)
        self._jacobian = function.jacobian

    def jacobian(
        self, point: Tensor, inputs: Sequence[Tensor], modules: Modules
    ) -> Tensor:
        """dF/dz, [B, n, n], in a form that all transforms can see."""
        return self._called(self._jacobian, point, inputs)


class _Holder(nn.Module):
    """The modules as parts of one, whose tensors can be replaced for one call."""

    def __init__(self, modules: Modules) -> None:
        super().__init__()
        self.names = tuple(modules)
        self.modules_in_order = nn.ModuleList(modules.values())

    def forward(self, method: Function, point: Tensor, inputs: Sequence[Any]) -> Tensor:
        return method(
            point, inputs, dict(zip(self.names, self.modules_in_order, strict=True))
        )


def _named_tensors(modules: Sequence[nn.Module]) -> Iterator[tuple[str, Tensor]]:
    """The tensors under the names they have in a list of the modules."""
    for position, module in enumerate(modules):
        for named in (module.named_parameters, module.named_buffers):
            for name, tensor in named(remove_duplicate=False):
                yield f"{position}.{name}", tensor
