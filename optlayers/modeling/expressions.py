"""Expressions as data: an operation, its arguments, and what is known of the result.

One sample, no batch dimension. Operators live in `algebra`, words of stages in
`staged`, rules in `inference`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from optlayers.errors import DeclarationError, ShapeError
from optlayers.linalg.pattern import Pattern
from optlayers.modeling.algebra import Algebra
from optlayers.modeling.atoms import ATOMS, translate
from optlayers.modeling.constants import check_constant, constant_tensor, sign_of
from optlayers.modeling.constraints import Between, Constraint
from optlayers.modeling.fields import Field
from optlayers.modeling.foreign import BatchModule, Likeness, record
from optlayers.modeling.indexing import Step, index_entries, select
from optlayers.modeling.inference import (
    describe,
    fields_of,
    infer_shape,
    infer_stages,
    located,
)
from optlayers.modeling.options import is_unknown, not_static, static_option
from optlayers.modeling.origin import Origin
from optlayers.modeling.relations import related
from optlayers.modeling.signs import Sign
from optlayers.modeling.sparse import is_sparse, sparse_constant
from optlayers.modeling.staged import Staged
from optlayers.modeling.stages import at_one_time, no_stages
from optlayers.modeling.torch_functions import (
    refuse_access,
    relation,
    tensor_method,
)
from optlayers.modeling.tracing import captured_name

__all__ = ["Expression", "Sign", "apply", "as_expression", "relate"]


@dataclass(frozen=True, eq=False, repr=False)
class Expression(Algebra, Staged):
    """One node of a declaration.

    Structural names and their options (every other name is an atom's):
        "field" {field: BoundField}; "constant" {value: Tensor, float64 or the dtype of
        an index or mask}; "learned" {name, tensor: nn.Parameter}; "index" {index:
        tuple}; "pattern" {pattern: Pattern}, the sparse matrix of these values; "next"
        {shift}; "at" {stage}, unstaged; "stages" {index: slice or tuple of ints},
        unstaged, [length, *shape]; "total" {}, unstaged; "der" {} and "first" {}, the
        rate and the initial value of a State in a differential equation; "torch"
        {function, arguments, keywords, output, dtype}; "module" {name, module,
        is_smooth, arguments, keywords, output, dtype}; "assert" {attribute: nonneg,
        nonpos, pos or psd}.
        `output` is the position in a returned tuple, or None.

    Attributes:
        name: the operation.
        arguments: what it is applied to.
        options: static keyword options (axis=, p=, index=, ...).
        shape: shape of one sample at one stage.
        stages: the stages it lives on, `range(first, stop)`; None if not staged.
        sign: what is known of the sign of every entry.
        origin: where it was written.
        depends_on_variables: whether the solver's choice enters it.
        field_names: names of the fields it is built from.
        leads_with_stages: whether its first axis runs over stages, as in x[1:].
    """

    name: str
    arguments: tuple["Expression", ...]
    options: Mapping[str, Any]
    shape: tuple[int, ...]
    stages: range | None
    sign: Sign
    origin: Origin
    depends_on_variables: bool = field(init=False)
    field_names: frozenset[str] = field(init=False)
    leads_with_stages: bool = field(init=False)

    def __post_init__(self) -> None:
        # At once, not on demand: a loop in the body nests deeper than Python recurses.
        depends, names, leads = False, frozenset[str](), self.name == "stages"
        for one in self.arguments:
            depends = depends or one.depends_on_variables
            names = names | one.field_names if names else one.field_names
            leads |= one.leads_with_stages and self.shape[:1] == one.shape[:1]
        if self.name == "field":
            bound = self.options["field"]
            depends, names = bound.is_variable, frozenset((bound.name,))
        object.__setattr__(self, "depends_on_variables", depends)
        object.__setattr__(self, "field_names", names)
        object.__setattr__(self, "leads_with_stages", leads)

    # ---- what is known of it -----------------------------------------------------

    @property
    def ndim(self) -> int:
        """Number of axes of one sample at one stage."""
        return len(self.shape)

    @property
    def dtype(self) -> torch.dtype:
        """The floating dtype in force; the values decide when it is evaluated."""
        return torch.get_default_dtype()

    # ---- building on it ----------------------------------------------------------

    def _apply(self, name: str, *arguments: Any, **options: Any) -> "Expression":
        return _build(name, *arguments, **options)

    def _relate(self, relation: str, left: Any, right: Any) -> Constraint:
        return relate(relation, left, right)

    def _select(self, index: Any) -> "Expression":
        if any(isinstance(one, Algebra) for one in index_entries(index)):
            raise located(
                DeclarationError(
                    "an expression cannot be an index, it has no value while the "
                    "problem is declared.\n  Index with numbers; for sizes use x.shape."
                )
            )
        try:
            found = self
            for step in select(self, index):
                found = found._grow(step)
            return found
        except (DeclarationError, ShapeError) as reason:
            if self.name == "field" and self.options["field"].is_continuous:
                reason = type(reason)(f"{reason}\n  {at_one_time(describe(self))}")
            raise located(reason) from None

    def _grow(self, step: Step) -> "Expression":
        return Expression(
            step.name,
            (self,),
            step.options,
            step.shape,
            step.stages,
            self.sign,
            Origin.here(),
        )

    def _why_unstaged(self, word: str) -> str:
        states = [one.name for one in fields_of((self,)) if one.is_continuous]
        return no_stages(word, describe(self), states)

    def __rpow__(self, base: Any) -> "Expression":
        return _power(base, self)

    def __len__(self) -> int:
        if not self.shape:
            raise located(DeclarationError(f"{describe(self)} is a scalar, no vector."))
        return self.shape[0]

    def __iter__(self) -> Iterator["Expression"]:
        whole = self if self.name != "field" or not self.is_staged else None
        for position in range(len(self)):
            yield self[position] if whole is self else self[..., position]

    # ---- torch -------------------------------------------------------------------

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return call_torch(function, tuple(args), dict(kwargs or {}))

    def __getattr__(self, name: str) -> Any:
        method = tensor_method(name)
        if method is None:
            raise AttributeError(f"an expression has no attribute {name!r}")
        return partial(call_torch_method, method, self)

    def __copy__(self) -> "Expression":
        return self

    def __deepcopy__(self, memo: object) -> "Expression":
        return self

    def __repr__(self) -> str:
        staged = "" if self.stages is None else f" at {self.stages}"
        return f"Expression({describe(self)}, {list(self.shape)}{staged})"


def apply(name: str, arguments: Sequence[Any], **options: Any) -> Expression:
    """Build the node of an atom.

    Args:
        name: the atom's name.
        arguments: expressions, numbers, arrays, tensors, nn.Parameters, nested lists.
        **options: its static options, such as axis=.

    Raises:
        ShapeError: the atom does not take these shapes.
        DeclarationError: an argument that is no term, an option that has no value yet,
            terms that share no stage.
    """
    nodes = tuple(as_expression(one) for one in arguments)
    fixed = {key: static_option(name, key, value) for key, value in options.items()}
    atom = ATOMS[name]
    shape = infer_shape(name, atom.shape, nodes, fixed)
    sign = atom.sign(tuple(one.sign for one in nodes), fixed)
    if atom.elementwise and len(nodes) == 1 and nodes[0].name == "next":
        # The power of the whole trajectory, shifted: one atom for x and x.next.
        (inner,) = nodes[0].arguments
        return apply(name, (inner,), **fixed)._grow(
            Step("next", nodes[0].options, shape, nodes[0].stages)
        )
    stages = infer_stages(name, nodes)
    return Expression(name, nodes, fixed, shape, stages, sign, Origin.here())


def relate(relation: str, left: Any, right: Any) -> Constraint:
    """Build the unnamed constraint `left relation right`; >= is <= the other way.

    Raises:
        ShapeError: the sides do not broadcast, or << is not between square matrices.
        DeclarationError: they share no stage.
    """
    return related(relation, as_expression(left), as_expression(right))


def as_expression(value: Any) -> Expression:
    """The expression of a term: a number, array, tensor, nn.Parameter or nested list.

    Raises:
        DeclarationError: something that is no term, with what to do about it.
    """
    if isinstance(value, Expression):
        return value
    if is_sparse(value):
        return _sparse_matrix(value)
    if isinstance(value, nn.Parameter):
        options = {"name": captured_name(value), "tensor": value}
        shape = tuple(value.shape)
        return Expression(
            "learned", (), options, shape, None, Sign.UNKNOWN, Origin.here()
        )
    if isinstance(value, list | tuple) and any(is_unknown(one) for one in value):
        return call_torch(torch.stack, ([as_expression(one) for one in value],), {})
    if isinstance(value, Constraint | Between):
        raise located(DeclarationError("a constraint is no term of an expression."))
    if isinstance(value, Field):
        raise located(
            DeclarationError(
                f"{value.text} is a field; declare it in the signature, as in "
                f"def problem(x={value.text}): ..."
            )
        )
    try:
        tensor = constant_tensor(value)
    except DeclarationError as reason:
        raise located(reason) from None
    return constant_of(tensor, Origin.here())


# ---- torch functions and modules -----------------------------------------------------


def call_torch(function: Any, values: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """What a torch function called on expressions builds."""
    try:
        refuse_access(function, values)
        related = relation(function)
    except DeclarationError as reason:
        raise located(reason) from None
    if related is not None:
        return relate(related, *values)
    found = translate(_build, function, values, named)
    if found is not None:
        return found
    return _called("torch", {"function": function}, function, values, named)


def call_torch_method(method: Any, expression: Expression, *args: Any, **kwargs: Any):
    """What `expression.method(...)` builds, or tells of its shape."""
    if method.__name__ in ("size", "dim", "ndimension", "numel", "is_floating_point"):
        return method(torch.empty(expression.shape, device="meta"), *args, **kwargs)
    return call_torch(method, (expression, *args), kwargs)


def call_opaque(function: Any, values: tuple, named: dict[str, Any]) -> Any:
    """The node of any function of tensors, taken as it is."""
    if not is_unknown((*values, *named.values())):
        return function(*values, **named)
    return _called("torch", {"function": function}, function, values, named)


def call_module(module: nn.Module, values: tuple, named: dict[str, Any]) -> Any:
    """The node of a module called on expressions, recorded whole."""
    is_smooth = isinstance(module, BatchModule)
    own = module.module if is_smooth else module
    options = {"name": captured_name(own), "module": own, "is_smooth": is_smooth}
    return _called("module", options, module, values, named)


def _called(
    name: str, options: dict[str, Any], function: Any, values: tuple, named: dict
) -> Any:
    call = record(function, values, named, _as_argument)
    stages = infer_stages(name, call.arguments)

    def node(returned: Any, output: int | None) -> Any:
        if not isinstance(returned, Likeness):
            return returned
        found = {"output": output, "dtype": returned.dtype}
        return Expression(
            name,
            call.arguments,
            {**options, **call.options, **found},
            returned.shape,
            stages,
            Sign.UNKNOWN,
            Origin.here(),
        )

    if isinstance(call.returned, list):
        return tuple(node(one, place) for place, one in enumerate(call.returned))
    return node(call.returned, None)


def _as_argument(value: Any) -> Expression:
    """Like `as_expression`, but indices and masks keep their dtype."""
    is_tensor = isinstance(value, Tensor) and not isinstance(value, nn.Parameter)
    if is_tensor and not is_sparse(value):
        try:
            check_constant(value)
        except DeclarationError as reason:
            raise located(reason) from None
        if not value.is_floating_point():
            return constant_of(value.detach().clone(), Origin.here())
    return as_expression(value)


def constant_of(value: Tensor, origin: Origin) -> Expression:
    """A tensor as an expression, in its own precision and without a copy."""
    shape = tuple(value.shape)
    return Expression(
        "constant", (), {"value": value}, shape, None, sign_of(value), origin
    )


def on_pattern(values: Expression, pattern: Pattern) -> Expression:
    """The matrix with these values, [nnz], where the pattern has entries, else zero."""
    return Expression(
        "pattern",
        (values,),
        {"pattern": pattern},
        pattern.shape,
        None,
        values.sign,
        values.origin,
    )


def _sparse_matrix(value: Any) -> Expression:
    """A constant held by its entries; a sparse vector is held whole."""
    if isinstance(value, nn.Parameter):
        raise located(
            DeclarationError(
                "a sparse tensor cannot be learned as it is; learn its values: declare "
                "Parameter(..., pattern=S) and bind nn.Parameter(values)."
            )
        )
    try:
        found = sparse_constant(value)
    except DeclarationError as reason:
        raise located(reason) from None
    if isinstance(found, Tensor):
        return constant_of(found, Origin.here())
    pattern, values = found
    return on_pattern(constant_of(values, Origin.here()), pattern)


def _build(name: str, *arguments: Any, **options: Any) -> Expression:
    """An atom; or a power of unknown exponent, where one is possible."""
    if name == "power" and is_unknown(options["p"]):
        return _power(arguments[0], options["p"])
    return apply(name, arguments, **options)


def _power(base: Any, exponent: Any) -> Expression:
    """A power whose exponent is no plain number."""
    base, exponent = as_expression(base), as_expression(exponent)
    if exponent.name == "constant" and not exponent.shape:
        return apply("power", (base,), p=exponent.options["value"].item())
    if not exponent.depends_on_variables:
        options = {"function": torch.pow}
        return _called("torch", options, torch.pow, (base, exponent), {})
    if base.name == "constant" and base.sign.is_nonneg:
        logarithm = torch.log(base.options["value"])
        if bool(logarithm.isfinite().all()):
            return apply("exp", (apply("multiply", (exponent, logarithm)),))
    raise located(not_static("power", "p", exponent))
