"""The command line lists solvers, and says what the demo needs."""

import importlib

import pytest
from typer.testing import CliRunner

from optlayers import registry
from optlayers.cli import app


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_solvers_lists_every_convex_solver(run):
    result = run("solvers")
    assert result.exit_code == 0
    for name in registry.names("convex"):
        assert name in result.output
    assert "ready" in result.output


def test_solvers_says_why_one_cannot_be_used(run, monkeypatch):
    monkeypatch.setattr(
        registry,
        "unavailable",
        lambda kind: {"daqp": "not installed (pip install daqp)"},
    )
    assert "pip install daqp" in run("solvers").output


def test_demo_names_the_extra_it_needs(run, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name="gymnasium")

    monkeypatch.setattr(importlib, "import_module", missing)
    result = run("demo")
    assert result.exit_code == 1
    assert "gymnasium" in result.output
    assert "optlayers[demo]" in result.output


def test_without_a_command_help_is_shown(run):
    output = run().output
    assert "demo" in output
    assert "solvers" in output


def test_explain_shows_the_reasons_of_a_problem(run):
    result = run("explain", "optlayers.testing.zoo:relu", "n=3")
    assert result.exit_code == 0
    assert "relu (n = 3)" in result.output
    assert "x.nonneg: constant <= affine" in result.output


def test_explain_says_what_is_missing(run):
    for wrong in (["optlayers.testing.zoo:relu"], ["no_module:x"], ["optlayers:nil"]):
        result = run("explain", *wrong)
        assert result.exit_code == 1
        assert wrong[0] in result.output


def test_explain_says_how_a_size_is_given(run):
    for wrong in ("n=x", "n", "n="):
        result = run("explain", "optlayers.testing.zoo:relu", wrong)
        assert result.exit_code == 1
        assert f"{wrong}: give an integer, as in n=4" in result.output


def test_explain_passes_faults_of_its_own_on(run, monkeypatch):
    def broken(**sizes):
        raise AttributeError("an internal fault")

    monkeypatch.setattr("optlayers.testing.zoo.relu.explain", broken)
    result = run("explain", "optlayers.testing.zoo:relu", "n=3")
    assert isinstance(result.exception, AttributeError)
    assert "internal" not in result.output
