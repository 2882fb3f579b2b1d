"""What tests of several commands start from."""

import pytest

from inputs import run_dsq


@pytest.fixture
def dsq(capsys):
    """Run a `dsq` command in this process."""
    return lambda *args: run_dsq(capsys, *args)
