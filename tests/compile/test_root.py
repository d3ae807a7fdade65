"""What a system of equations is compiled to."""

import torch
from torch import nn
from torch.testing import assert_close

import optlayers as ol
from optlayers import Parameter, Variable, solve
from optlayers.compile.root import compile_root
from tests.modeling.traced import trace

net = nn.Linear(2, 2, dtype=torch.float64)
DOUBLE = {"dtype": torch.float64}


def compiled(body, **sizes):
    return compile_root(trace(body, **sizes))


def pair(x=Variable("2", start=(1, 2)), y=Variable(lower=0), w=Parameter("2")):
    return solve(first=x * y == w, second=ol.sum(x) == y)


def test_the_residual_is_left_less_right_of_every_equation():
    template = compiled(pair)
    assert not template.is_fixed_point
    assert template.row_names == ("first", "first", "second")
    assert_close(template.start, torch.tensor([1.0, 2.0, 0.0], **DOUBLE))
    inf = torch.inf
    assert_close(template.lower, torch.tensor([-inf, -inf, 0.0], **DOUBLE))
    assert template.upper is None
    z, w = torch.randn(4, 3, **DOUBLE), torch.randn(4, 2, **DOUBLE)
    x, y = z[:, :2], z[:, 2:]
    expected = torch.cat([x * y - w, x.sum(1, keepdim=True) - y], 1)
    assert_close(template.function(z, [w], {}), expected)


def test_shared_inputs_and_batches_of_one_evaluate_alike():
    function = compiled(pair).function
    z, w = torch.randn(4, 3, **DOUBLE), torch.randn(2, **DOUBLE)
    together = function(z, [w], {})
    apart = [function(z[i : i + 1], [w.unsqueeze(0)], {}) for i in range(4)]
    assert_close(together, torch.cat(apart))


def test_the_jacobian_of_transforms_is_that_of_autograd():
    function = compiled(pair).function
    z, w = torch.randn(2, 3, **DOUBLE), torch.randn(2, **DOUBLE)
    expected = [
        torch.autograd.functional.jacobian(
            lambda one: function(one.unsqueeze(0), [w], {})[0], row
        )
        for row in z
    ]
    assert_close(function.jacobian(z, [w], {}), torch.stack(expected))


def test_bounds_are_the_tightest_of_sign_and_limit():
    def body(x=Variable(nonneg=True, lower=-1), y=Variable(nonpos=True, upper=-2)):
        return solve(x == 1, y == x - 4)

    template = compiled(body)
    assert_close(template.lower, torch.tensor([0.0, -torch.inf], **DOUBLE))
    assert_close(template.upper, torch.tensor([torch.inf, -2.0], **DOUBLE))


def test_variables_alone_on_one_side_make_a_fixed_point_of_either_order():
    def body(x=Variable(), y=Variable("2"), w=Parameter()):
        return solve(net(y) + x == y, x == torch.cos(w * x))

    template = compiled(body)
    assert template.is_fixed_point and "fixed point" in template.why
    assert template.row_names == ("equation_1", "equation_0", "equation_0")
    z, w = torch.randn(3, 3, **DOUBLE), torch.randn(3, **DOUBLE)
    image = template.function(z, [w], {"net": net})
    assert_close(image[:, 0], torch.cos(w * z[:, 0]))
    assert_close(image[:, 1:], net(z[:, 1:]) + z[:, :1])


def test_a_scalar_map_of_a_vector_fills_it():
    def body(x=Variable("2"), w=Parameter()):
        return solve(x == ol.sum(x) * w)

    template = compiled(body)
    image = template.function(torch.ones(1, 2, **DOUBLE), [torch.tensor(3.0)], {})
    assert image.tolist() == [[6.0, 6.0]]


def test_other_equations_are_no_fixed_point():
    def twice(x=Variable(), y=Variable()):
        return solve(x == y**2, x == 2 * y + 3)

    def part(x=Variable("2")):
        return solve(x[0] == x[1], x[1] == 1)

    def wide(x=Variable(), y=Variable()):
        return solve(x + y == 1, x - y == 0)

    for body in (twice, part, wide):
        assert not compiled(body).is_fixed_point


def test_two_variables_in_one_equation_take_what_the_others_leave():
    def body(x=Variable(), y=Variable(), w=Parameter()):
        return solve(x == y, x == torch.cos(y * w))

    template = compiled(body)
    assert template.is_fixed_point
    assert template.row_names == ("equation_1", "equation_0")


def test_precision_is_kept_where_modules_are_called():
    def by_function(x=Variable("2")):
        return solve(x == ol.smooth(lambda v: net(v))(x))

    def direct(x=Variable("2")):
        return solve(x == net(x))

    def plain(x=Variable("2"), w=Parameter()):
        return solve(x == w * net.bias)

    assert compiled(by_function).function.inputs.dtypes({}) == {"net": net.bias.dtype}
    reads = compiled(direct).function.inputs
    assert reads.module_names == ("net",)
    assert reads.dtypes({"net": net}) == {"net": net.bias.dtype}
    reads = compiled(plain).function.inputs
    assert not reads.dtypes({})
    assert list(reads.learned_ndims) == ["net_bias"] and reads.module_names == ()


def test_promises_within_equations_are_checked():
    def body(x=Variable(nonneg=True), w=Parameter("2")):
        return solve(x**2 == ol.nonneg(ol.sum(w)))

    template = compiled(body)
    w = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    texts = [one.text for one in template.promises.checks]
    assert any("ol.nonneg" in text for text in texts)
    of_parameter, vouched = template.promises.checked({"w": w}, {})
    assert of_parameter is w and vouched.tolist() == [3.0, 7.0]


def test_only_functions_of_the_user_may_close_over_tensors():
    def data(x=Variable(), v=Parameter(3), t=Parameter()):
        return solve(torch.sin(x) == ol.hold(v, [0.0, 1.0, 2.0], t))

    def own(x=Variable(), t=Parameter()):
        return solve(ol.smooth(lambda value: value**3)(x) == t)

    assert not compiled(data).function.inputs.reads_closures
    assert compiled(own).function.inputs.reads_closures
