"""Third-party solvers enter through their entry points and can do no harm."""

import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]


@pytest.fixture
def run_with(tmp_path):
    """Run a script in which the named packages of this folder are installed."""

    def run(script: str, *packages: str) -> str:
        for package in packages:
            install_metadata(package, tmp_path)
        paths = [str(REPOSITORY), str(tmp_path), *(str(HERE / p) for p in packages)]
        lines = f"import sys; sys.path[:0] = {paths!r}\n" + textwrap.dedent(script)
        done = subprocess.run(
            [sys.executable, "-B", "-W", "error", "-c", lines],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def install_metadata(package: str, site: Path) -> None:
    """What an installer writes: the dist-info folder, entry points included."""
    project = tomllib.loads((HERE / package / "pyproject.toml").read_text())["project"]
    folder = (
        site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    )
    folder.mkdir()
    (folder / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\n"
        f"Version: {project['version']}\n"
    )
    lines = []
    for group, points in project["entry-points"].items():
        lines.append(f"[{group}]")
        lines += [f"{name} = {target}" for name, target in points.items()]
    (folder / "entry_points.txt").write_text("\n".join(lines) + "\n")


SOLVE_EQUALITY = """
    import torch
    from optlayers import registry
    from optlayers.programs.cone_program import ConeProgram
    from optlayers.programs.cones import Cones
    from optlayers.solvers.opaque import solve
    from optlayers.solvers.plan import Plan

    def program(cones):
        one = torch.eye(2, dtype=torch.float64)
        q = torch.tensor([[-1.0, -3.0]], dtype=torch.float64)
        return ConeProgram(
            one, q, torch.ones(1, 2).double(), torch.zeros(1, 1).double(), cones
        )

    def answer(name):
        solver = registry.create("convex", name)
        p = program(Cones(zero=1))
        return solve(p, Plan(structure=p.structure(), solvers=(solver,)))
"""


# Every script imports torch anew, which takes seconds: each serves several claims.


def test_an_installed_solver_is_named_ranked_last_and_conforms(run_with):
    said = run_with(
        SOLVE_EQUALITY
        + """
    from optlayers.testing import check_solver

    assert registry.names("convex") == ("daqp", "clarabel", "acme")
    names = [type(s).__name__ for s in registry.ranked(program(Cones(zero=1)))]
    assert names == ["Daqp", "Clarabel", "Acme"], names
    names = [type(s).__name__ for s in registry.ranked(program(Cones(nonneg=1)))]
    assert names == ["Daqp", "Clarabel"], names
    check_solver(registry.create("convex", "acme"))
    print(answer("acme").point.tolist())
    """,
        "acme",
    )
    assert said.strip() == "[[-1.0, 1.0, 2.0]]"


def test_an_installed_solver_states_its_options(run_with):
    said = run_with(
        """
    from optlayers import registry
    from optlayers.errors import UnknownOption
    assert registry.create("convex", "acme", ridge=0.5).ridge == 0.5
    try:
        registry.create("convex", "acme", rigde=0.5)
    except UnknownOption as error:
        print(error)
    """,
        "acme",
    )
    assert "no option 'rigde'" in said
    assert "Did you mean 'ridge'?" in said
    assert "options: ridge" in said


def test_a_broken_package_harms_no_one_and_is_listed_with_its_reason(run_with):
    said = run_with(
        SOLVE_EQUALITY
        + """
    from optlayers.errors import SolverRefused

    assert type(registry.choose(program(Cones(zero=1)))).__name__ == "Daqp"
    assert answer("acme").status.tolist() == [0]
    assert answer("daqp").status.tolist() == [0]
    for name in ("broken", "absent"):
        try:
            registry.create("convex", name)
        except SolverRefused as error:
            print(error)
    assert set(registry.unavailable("convex")) == {"broken", "absent"}
    """,
        "acme",
        "broken",
    )
    assert "RuntimeError: the licence server is on fire" in said
    assert "No module named 'a_package_that_nobody_wrote'" in said
    assert "convex solver 'absent' cannot be used" in said


def test_gradients_that_need_the_steps_of_a_solver_say_that_it_hides_them(run_with):
    said = run_with(
        """
    import torch
    from optlayers.errors import NotSupported, ParameterError
    from optlayers.functional import integrate

    rate = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    start = torch.ones(1, 1, dtype=torch.float64)
    times = torch.tensor([0.0, 1.0], dtype=torch.float64)

    def last(solver, gradient):
        field = lambda t, x: -rate * x
        return integrate(
            field, start, times, solver=solver, gradient=gradient
        ).value[0, -1, 0]

    # x(1) = (1 - k / 100)^100, so its derivative in k is -(1 - k / 100)^99.
    for gradient in ("exact", "direct"):
        (found,) = torch.autograd.grad(last("acme", gradient), rate)
        assert abs(float(found) + 0.99**99) < 1e-12
        try:
            last("acme_closed", gradient)
        except NotSupported as error:
            print(error)
    with torch.no_grad():
        assert abs(float(last("acme_closed", "exact")) - 0.99**100) < 1e-12
    for gradient in ("sweep", "checkpoint", "backsolve"):
        try:
            last("acme", gradient)
        except ParameterError as error:
            print(error)
    """,
        "acme",
    )
    assert said.count("AcmeClosed returned values without a graph") == 2
    for gradient in ("sweep", "checkpoint", "backsolve"):
        assert f'gradient="{gradient}" takes the steps of the solver' in said
    assert said.count("AcmeEuler takes them all at once") == 3
