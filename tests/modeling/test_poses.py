"""Poses in declarations: how they are declared, what they do, what they refuse."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import optlayers as ol
from optlayers import Parameter, minimize
from optlayers.errors import DeclarationError, ShapeError
from optlayers.geometry.groups import GROUPS
from optlayers.modeling.evaluate import Evaluator
from optlayers.modeling.problem import declare

DOUBLE = {"dtype": torch.float64}
EXACT = {"rtol": 0, "atol": 1e-12}

each_kind = pytest.mark.parametrize(
    "kind", [ol.SO2, ol.SO3, ol.SE2, ol.SE3], ids=lambda kind: kind.group.name
)


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, **DOUBLE)


def traced(function, **sizes):
    return declare(function).trace(sizes)


def words(T, U, p):
    """Everything that a pose says, as one vector."""
    said = [
        T.matrix(), (T @ U).matrix(), T.inverse().matrix(), T.log(), T.adjoint(),
        T.between(U).log(), T @ p, T[0].act(p[0]), T[:, None].act(p), T.rotation,
        T[[1, 0]].log(), *(one.log() for one in U),
    ]  # fmt: skip
    if T.group.moves:
        said += [T.translation]
    return said


@each_kind
def test_words_mean_the_same_in_a_declaration_and_on_tensors(kind):
    """Batched, with shared and batched operands, against one sample at a time."""
    group = kind.group

    def spoken(T=kind("2"), U=kind.parameter("2"), p=Parameter("2 d")):
        said = words(T, U, p)
        found.extend(said)
        return minimize(sum(ol.sum_squares(one) for one in said))

    found = []
    traced(spoken, d=group.space)
    T, p = kind.exp(normal(3, 2, group.degrees)), normal(3, 2, group.space, seed=2)
    for U in (kind.exp(normal(3, 2, group.degrees, seed=1)), kind.exp(T.log()[0])):
        values = {"T": T.matrix(), "U": U.matrix(), "p": p}
        shared = {n: one for n, one in values.items() if one.shape[0] != 3}
        got = Evaluator(found, variables=("T",)).batched(values, {})
        for k in range(3):
            sample = {n: one[k] for n, one in values.items() if n not in shared}
            sample |= shared
            own = [kind.from_matrix(sample[name]) for name in ("T", "U")]
            for one, is_batched, other in zip(
                got.values, got.is_batched, words(*own, sample["p"]), strict=True
            ):
                assert_close(one[k] if is_batched else one, other, **EXACT)


@each_kind
def test_made_of_parts_and_vectors(kind):
    group = kind.group
    v = normal(4, group.degrees)

    def made(T=kind(), v=Parameter("d"), R=Parameter("s s"), t=Parameter("s")):
        found.append(kind.exp(v).matrix())
        if group.moves:
            found.append(kind.from_parts(R, t).matrix())
        return minimize(ol.sum_squares(T.log()))

    found = []
    traced(made, d=group.degrees, s=group.space)
    R, t = group.rotation(group.exp(v)), normal(4, group.space)
    got = Evaluator(found).batched({"v": v, "R": R, "t": t}, {}).values
    assert_close(got[0], group.exp(v), **EXACT)
    if group.moves:
        assert_close(got[1], kind.from_parts(R, t).matrix(), **EXACT)
        assert_close(kind.from_parts(R, t).translation, t, **EXACT)


def test_rotation_of_a_quaternion():
    q = torch.tensor([2.0, 0.0, 0.0, 2.0], **DOUBLE)
    R = ol.SO3.from_quaternion(q)
    assert_close(R @ [1, 0, 0], torch.tensor([0.0, 1.0, 0.0], **DOUBLE), **EXACT)


def test_arrays_lists_and_learned_tensors_are_points():
    learned = torch.nn.Parameter(normal(3))

    def moved(T=ol.SE3()):
        for point in (np.ones(3), [1.0, 2.0, 3.0], learned, torch.ones(3)):
            assert (T @ point).shape == (3,)
        return minimize(ol.sum_squares(T @ learned))

    found = traced(moved)
    assert list(found.captured.values()) == [learned]


def test_printed_as_members_of_their_group():
    @ol.problem
    def graph(T=ol.SE3("k"), Z=ol.SE3.parameter("k-1"), R=ol.SO2()):
        error = ol.sum_squares(Z.between(T[:-1].between(T[1:])).log())
        return minimize(error + ol.sum_squares(R.log()))

    assert "T ∈ SE(3)ᵏ, R ∈ SO(2)" in str(graph)
    assert "Z ∈ SE(3)ᵏ⁻¹" in str(graph)
    assert r"\mathrm{SE}\left(3\right)^{k}" in graph._repr_latex_()
    assert 'T=SE3("k"), Z=SE3.parameter("k-1"), R=SO2()' in repr(graph)


def test_equal_poses_are_as_many_equations_as_degrees_of_freedom():
    for group in GROUPS:
        kind = getattr(ol, group.name)

        def pinned(T=kind("3"), U=kind.parameter("3")):
            return minimize(0.0, same=T == U)

        (same,) = traced(pinned).constraints
        assert same.shape == (3, group.degrees)


# ---- refusals ------------------------------------------------------------------------


def bend(matrix):
    return matrix * 1.01


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ol.SE3(lower=0), "bound what is read of them"),
        (lambda: ol.SE3(psd=True), "which take start and doc"),
        (lambda: ol.SE3.parameter(start=torch.eye(4)), "which take doc"),
        (lambda: ol.SO3("1.5"), "is no dimension"),
        (lambda: ol.SO3(start=bend(torch.eye(3))), "differs from I by 0.02"),
        (lambda: ol.SO3(start=torch.eye(4)), r"\[..., 3, 3\], given \[4, 4\]"),
        (lambda: ol.SO3(start="north"), "is no matrix"),
        (lambda: ol.SE2.from_quaternion([1, 0, 0, 0]), "only SO3"),
        (lambda: ol.SO2.from_parts(torch.eye(2), [1, 0]), "no translation"),
    ],
)
def test_words_that_poses_do_not_take(make, words):
    with pytest.raises(DeclarationError, match=words):
        make()


@pytest.mark.parametrize(
    ("use", "error", "words"),
    [
        (lambda T, R, x: T @ x, ShapeError, r"\[..., 3\], given \[2\]"),
        (lambda T, R, x: T @ R, DeclarationError, "cannot be composed"),
        (lambda T, R, x: R.translation, DeclarationError, "SE3 has one"),
        (lambda T, R, x: T[0, 0], DeclarationError, "chooses among poses"),
        (lambda T, R, x: T[..., 0], DeclarationError, "chooses among poses"),
        (lambda T, R, x: len(R), DeclarationError, "no list"),
        (lambda T, R, x: ol.sum_squares(R), DeclarationError, "write T.log"),
        (lambda T, R, x: x - R, DeclarationError, "write T.log"),
        (lambda T, R, x: np.ones((3, 3)) @ R, DeclarationError, "write T.log"),
        (lambda T, R, x: torch.ones(3, 3) @ R, DeclarationError, "write T.log"),
        (lambda T, R, x: T != T, DeclarationError, "between"),
        (lambda T, R, x: ol.SO3.exp(x), ShapeError, r"\[..., 3\] here"),
        (lambda T, R, x: ol.SO3.from_matrix(x), ShapeError, r"\[..., 3, 3\]"),
    ],
)
def test_mistakes_in_the_body(use, error, words):
    def mistaken(T=ol.SE3("2"), R=ol.SO3(), x=Parameter("2")):
        use(T, R, x)
        return minimize(0.0)

    with pytest.raises(error, match=words):
        traced(mistaken)


def test_a_word_that_was_not_called():
    def forgotten(T=ol.SE3):
        return minimize(0.0)

    with pytest.raises(DeclarationError, match=r"write T=SE3\(\)"):
        declare(forgotten)
