"""Settings shared by all tests: how many examples hypothesis tries, which files come first."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The same examples on every run: a change that breaks a test is the change that broke it.
settings.register_profile(
    "everyday",
    max_examples=25,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
# Full counts, new examples on every run; a failure prints how to repeat it.
settings.register_profile(
    "soak",
    max_examples=500,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("soak" if os.environ.get("DSQ_SOAK") == "1" else "everyday")
PACKAGING = Path(__file__).with_name("packaging")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what builds wheels: at the end one process would wait for the other."""
    items.sort(key=lambda item: PACKAGING not in item.path.parents)
