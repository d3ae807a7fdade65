"""What every test may rely on: fixed seeds, one thread, nothing left on disk."""

import tempfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

# hypothesis keeps its tables of characters on disk even without an example database.
_hypothesis_home = tempfile.TemporaryDirectory(prefix="hypothesis-")
set_hypothesis_home_dir(_hypothesis_home.name)
settings.register_profile(
    "optlayers",
    database=None,
    deadline=None,
    derandomize=True,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("optlayers")


def pytest_configure():
    # The workers of pytest-xdist share the cores: more threads would only wait.
    torch.set_num_threads(1)


def pytest_unconfigure():
    # Explicitly: the workers of pytest-xdist end without running finalizers.
    _hypothesis_home.cleanup()


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    without = pytest.mark.skip(reason="no CUDA device")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(without)


@pytest.fixture(autouse=True)
def _fixed_seeds():
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture
def generator():
    """A numpy generator of its own for every test, always with the same seed."""
    return np.random.default_rng(0)
