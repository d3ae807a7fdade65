"""What tests of compiled steps share."""

import pytest
import torch

from optlayers.solvers.ode import compiled


@pytest.fixture
def graphs(monkeypatch):
    """Compiles without a compiler, and remembers which graphs were made."""
    made = []

    def backend(module, examples, **options):
        made.append(module)
        return module.forward

    monkeypatch.setattr(compiled, "_compiled", {})
    monkeypatch.setattr(compiled, "_hopeless", set())
    monkeypatch.setattr(compiled, "has_compiler", lambda: True)
    monkeypatch.setattr(torch._dynamo, "lookup_backend", lambda name: backend)
    torch._dynamo.reset()
    return made
