"""`dsq` itself: help, versions, plugins and one-line errors. Commands have tests of their own."""

import os
import subprocess
import sys

import pytest

PLUGIN = '''
import errno, os, sys
from dsqformat.errors import CorruptShardError

def corrupt():
    raise CorruptShardError("shard 'a.dsq': chunk 3: got checksum 1,\\n expected 2")

def full():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out.dsq")

def broken():
    raise RuntimeError("a fault of the program")

def needs_server():
    sys.modules["fastapi"] = None  # as if it were not installed
    import fastapi

def needs_unknown():
    import no_such_module_anywhere

def named_extra():
    raise ImportError("streaming needs torch: pip install 'dsqformat[torch]'")

def echo(word: str, times: int = 1):
    """Say a word."""
    print(" ".join([word] * times))
'''
COMMANDS = ["corrupt", "full", "broken", "needs_server", "needs_unknown", "named_extra", "echo"]


@pytest.fixture
def dsq(tmp_path):
    """Run `dsq` with a plugin installed beside the packages."""
    (tmp_path / "plugin_of_test.py").write_text(PLUGIN)
    info = tmp_path / "plugin_of_test-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin-of-test\nVersion: 1.0\n")
    lines = [f"{name} = plugin_of_test:{name}" for name in COMMANDS]
    lines.append("absent = no_such_module_anywhere:command")
    (info / "entry_points.txt").write_text("\n".join(["[dsq.commands]", *lines, ""]))

    def run(*args):
        return subprocess.run(
            [sys.executable, "-c", "from dsqformat.cli import main; main()", *args],
            env={**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "80"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def test_help_fits_one_screen_and_lists_plugins(dsq):
    done = dsq("--help")
    assert done.returncode == 0
    lines = [line for line in done.stdout.splitlines() if "plugin-of-test" not in line]
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert "echo           (added by plugin-of-test)" in done.stdout


def test_version(dsq):
    from dsqformat import __version__

    assert dsq("--version").stdout == f"dsq {__version__}\n"


def test_plugin_takes_arguments(dsq):
    assert dsq("echo", "hey", "--times", "3").stdout == "hey hey hey\n"
    assert "Say a word." in dsq("echo", "--help").stdout


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("corrupt", "dsq: error: shard 'a.dsq': chunk 3: got checksum 1, expected 2"),
        ("full", "dsq: error: out.dsq: No space left on device"),
        (
            "needs_server",
            "dsq: error: `dsq needs_server` needs fastapi, which is not installed: "
            "pip install 'dsqformat[server]'",
        ),
        ("named_extra", "dsq: error: streaming needs torch: pip install 'dsqformat[torch]'"),
    ],
)
def test_expected_errors_are_one_line(dsq, command, line):
    done = dsq(command)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{line}\n")


@pytest.mark.parametrize("command", ["broken", "needs_unknown", "absent"])
def test_faults_of_the_program_keep_their_traceback(dsq, command):
    done = dsq(command)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


@pytest.mark.parametrize("args", [(), ("no-such-command",), ("--no-such-option",), ("echo",)])
def test_wrong_usage_is_code_2(dsq, args):
    done = dsq(*args)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
