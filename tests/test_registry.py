"""The registry: names, options, ranks and refusals."""

import threading
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from optlayers import registry
from optlayers.errors import SolverRefused, UnknownName, UnknownOption
from optlayers.interfaces import Kind
from optlayers.programs.cone_program import ConeProgram
from optlayers.programs.cones import Cones


@dataclass(frozen=True, kw_only=True)
class Lazy:
    """A solver that only refuses."""

    excuse: str = "is tired."
    kind: ClassVar[Kind] = Kind.MINIMIZE

    def refuses(self, program):
        return self.excuse

    def solve(self, program, start=None):
        raise AssertionError("never called")


class Unsolved:
    """Of a kind whose built-in solvers `own_entries` sets aside."""

    kind = Kind.MINIMIZE
    batch_size = 1


@pytest.fixture
def own_entries(monkeypatch):
    """Names registered in a test are forgotten after it."""
    registry.names("root")
    for table in ("_registrations", "_factories", "_unavailable"):
        known = getattr(registry, table)
        others = {key: one for key, one in known.items() if key[0] != "minimize"}
        monkeypatch.setattr(registry, table, others)
    built_in = tuple(one for one in registry.BUILT_IN if one.kind != "minimize")
    monkeypatch.setattr(registry, "BUILT_IN", built_in)


@pytest.fixture
def second_order_program():
    zeros = torch.zeros(1, 3, dtype=torch.float64)
    return ConeProgram(None, zeros, torch.eye(3).double(), zeros, Cones(soc=(3,)))


def test_built_in_names_come_best_ranked_first():
    assert registry.names("convex")[:2] == ("daqp", "clarabel")


def test_an_unknown_solver_suggests_the_nearest_name():
    with pytest.raises(UnknownName, match="Did you mean 'clarabel'") as caught:
        registry.create("convex", "clarable")
    assert "known: daqp, clarabel" in str(caught.value)


def test_an_unknown_kind_suggests_the_nearest_kind():
    with pytest.raises(UnknownName, match="Did you mean 'convex'"):
        registry.names("convx")


def test_an_unknown_option_lists_those_that_exist():
    with pytest.raises(UnknownOption) as caught:
        registry.create("convex", "daqp", max_step=3)
    assert str(caught.value) == (
        "convex solver 'daqp' has no option 'max_step'. Did you mean 'max_steps'?\n"
        "  options: max_steps, feasibility, max_size"
    )


@pytest.mark.parametrize("name", ["daqp", "clarabel"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), "many", True])
def test_options_are_validated_at_construction(name, value):
    with pytest.raises(ValueError, match="give a number above zero"):
        registry.create("convex", name, max_steps=value)


def test_the_first_that_does_not_refuse_is_chosen(second_order_program):
    chosen = registry.choose(second_order_program)
    assert type(chosen).__name__ == "Clarabel"


def test_refresh_finds_what_was_installed_meanwhile(own_entries, monkeypatch, tmp_path):
    folder = tmp_path / "late_plugin-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Name: late-plugin\nVersion: 1.0\n")
    entry = f"[{registry.ENTRY_POINT_GROUP}]\nroot.late = late_plugin:Late\n"
    (folder / "entry_points.txt").write_text(entry)
    monkeypatch.syspath_prepend(tmp_path)
    assert "late" not in registry.names("root")
    registry.refresh()
    assert "late" in registry.names("root")


def test_refresh_tries_what_could_not_be_loaded_again(own_entries):
    late = iter([ImportError("not yet"), None])

    def load():
        if (error := next(late)) is not None:
            raise error
        return Lazy

    registry._remember(registry.Registration("minimize", "late", load, rank=1))
    with pytest.raises(SolverRefused, match="late: could not be loaded"):
        registry.choose(Unsolved())
    registry.refresh()
    with pytest.raises(SolverRefused, match="late: is tired"):
        registry.choose(Unsolved())


def test_when_all_refuse_each_says_why(own_entries):
    registry.register("minimize", "sleepy", Lazy)

    @registry.register("minimize", "busy", rank=1)
    class Busy(Lazy):
        def refuses(self, program):
            raise OSError("no line")

    with pytest.raises(SolverRefused) as caught:
        registry.choose(Unsolved())
    assert str(caught.value) == (
        "no minimize solver takes this program.\n"
        "  busy: failed when asked (OSError: no line).\n"
        "  sleepy: is tired."
    )


def test_ranked_says_the_same_as_choose_when_all_refuse(own_entries):
    registry.register("minimize", "sleepy", Lazy)
    with pytest.raises(SolverRefused, match="sleepy: is tired"):
        registry.ranked(Unsolved())


def test_a_kind_without_solvers_says_so(own_entries):
    with pytest.raises(SolverRefused, match="none is registered"):
        registry.choose(type("P", (Unsolved,), {"kind": Kind.MINIMIZE})())


def test_a_solver_that_cannot_be_imported_names_the_remedy(own_entries):
    def load():
        raise ImportError("No module named 'fast'")

    key = ("minimize", "fast")
    registry._registrations[key] = registry.Registration(*key, load, 5, "fast-solver")
    with pytest.raises(SolverRefused, match=r"fast: not installed \(pip install fast-"):
        registry.choose(Unsolved())
    with pytest.raises(SolverRefused, match="'fast' cannot be used: not installed"):
        registry.create("minimize", "fast")


def test_eight_threads_load_a_solver_at_once(own_entries):
    registry._factories.clear()
    made, start = [], threading.Barrier(8)

    def make():
        start.wait()
        made.append(type(registry.create("convex", "clarabel")))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len(set(made)) == 1


def test_solvers_are_reached_by_kind_and_class_name():
    from optlayers import solvers

    assert solvers.convex.Clarabel(max_steps=7).max_steps == 7
    assert {"Clarabel", "Daqp"} <= set(dir(solvers.convex))
    with pytest.raises(AttributeError, match="it has Clarabel, Daqp"):
        solvers.convex.Clarable  # noqa: B018
    with pytest.raises(AttributeError, match="it has Anderson, Auto, "):
        solvers.root.Newtn  # noqa: B018


def test_every_built_in_root_solver_is_reached_by_its_class_name():
    from optlayers import solvers

    made = {type(registry.create("root", name)) for name in registry.names("root")}
    own = {one for one in made if one.__module__.startswith("optlayers.solvers.root.")}
    assert own == {getattr(solvers.root, name) for name in dir(solvers.root)}


def test_an_option_is_found_at_the_best_ranked_solver_that_has_it():
    assert registry.taking("root", "max_steps") == "Newton"
    assert registry.taking("root", "restart") == "NewtonKrylov"
    assert registry.taking("convex", "no_such_option") is None
