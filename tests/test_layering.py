"""Imports only ever point down the list of rooms, wherever in a file they stand."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "optlayers"

# Ground floor first; rooms on one line may know each other.
FLOORS = (
    {"errors", "types"},
    {"linalg", "batching", "geometry"},
    {"solution", "interfaces"},
    {"registry", "catalogue"},
    {"programs"},
    {"implicit"},
    {"solvers"},
    {"modeling"},
    {"compile"},
    {"functional", "layers"},
    {"compat", "testing", "cli", "demo", "optlayers"},
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
TOP = len(FLOORS) - 1

# modeling is data about mathematics: it may use the words of these rooms, no others.
MODELING_KNOWS = {"errors", "types", "linalg", "batching", "geometry", "modeling"}


def imported_modules(source: str) -> Iterator[tuple[int, str]]:
    """Line and full name of every module that `source` imports, at any depth."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            name = node.module or ""
            if node.level:
                yield node.lineno, "." * node.level + name
            elif name == "optlayers":
                for alias in node.names:
                    inner = f"optlayers.{alias.name}"
                    yield node.lineno, inner if alias.name in FLOOR_OF else name
            else:
                yield node.lineno, name


def room_of(module: str) -> str:
    """The room of "optlayers.room.file"; "optlayers" for the package itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def broken_rules(room: str, source: str) -> list[str]:
    """One sentence for every import of `source` that its room may not have."""
    broken = []
    for line, module in imported_modules(source):
        if module.startswith("."):
            broken.append(f"line {line}: relative import; write optlayers.{room}")
            continue
        if module.split(".")[0] == "cvxpy" and FLOOR_OF[room] < TOP:
            if room != "compile":
                broken.append(f"line {line}: only compile knows cvxpy")
            continue
        if module.split(".")[0] != "optlayers":
            continue
        other = room_of(module)
        if other not in FLOOR_OF:
            broken.append(f"line {line}: {module} is in no room of the list")
        elif FLOOR_OF[other] > FLOOR_OF[room]:
            broken.append(f"line {line}: {room} imports {module}, which stands above")
        elif room == "modeling" and other not in MODELING_KNOWS:
            broken.append(f"line {line}: modeling must not know {module}")
    return broken


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of_file(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "optlayers" if first == "__init__" else first


@pytest.mark.parametrize(
    "path", files(), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_imports_point_down(path):
    room = room_of_file(path)
    assert room in FLOOR_OF, f"{room} is in no room of the list"
    assert broken_rules(room, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("solvers", "from optlayers.modeling.fields import Field"),
        ("programs", "def late():\n    import optlayers.solvers.opaque"),
        ("registry", "from optlayers import layers"),
        ("layers", "import optlayers as ol"),
        ("modeling", "from optlayers.programs.cones import Cones"),
        ("layers", "import cvxpy as cp"),
        ("linalg", "from . import dense"),
        ("errors", "from optlayers.cellar import wine"),
        ("linalg", "if TYPE_CHECKING:\n    from optlayers.solution import Solution"),
    ],
)
def test_an_import_that_points_up_is_found(room, source):
    assert len(broken_rules(room, source)) == 1


def test_an_import_that_points_down_is_allowed():
    source = "import torch\nfrom optlayers.errors import ShapeError\n"
    assert broken_rules("modeling", source) == []
