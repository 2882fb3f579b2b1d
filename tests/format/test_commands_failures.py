"""Full disks, read-only targets, Ctrl-C: one line, and nothing half-written."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

pytest.importorskip("PIL")
pytest.importorskip("pyarrow")

from inputs import RUN, listing, make_npz, make_pictures, spawn_dsq

TARGETS = {"folder": "out", "npz": "out.npz", "webdataset": "out.tar"}


@contextlib.contextmanager
def mounted(path, *options):
    """A small file system in memory, or skip where that is not allowed."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except FileNotFoundError:
        pytest.skip("there is no mount program")
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True, timeout=20)


@contextlib.contextmanager
def read_only(path):
    """Make a mounted folder read-only."""
    remount = ["mount", "-o"]
    subprocess.run([*remount, "remount,ro", str(path)], check=True, timeout=20)
    try:
        yield
    finally:
        subprocess.run([*remount, "remount,rw", str(path)], check=True, timeout=20)


def random_source(path, nbytes):
    """An .npz whose values do not compress."""
    import numpy as np

    pictures = np.random.default_rng(0).integers(0, 256, (nbytes // 3072, 32, 32, 3))
    return make_npz(path, pictures.astype("u1"))


def limit_files(nbytes):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, nbytes))


def test_packing_onto_a_full_disk(tmp_path):
    source = random_source(tmp_path / "a.npz", 4 << 20)
    with mounted(tmp_path / "disk", "size=2m") as disk:
        done = spawn_dsq("pack", source, disk / "d")
        assert done.error_line == f"{disk / 'd'}: No space left on device"
        assert listing(disk) == {}
        (disk / "mine.txt").write_text("x")
        small = make_npz(tmp_path / "b.npz", make_pictures(20))
        assert spawn_dsq("pack", small, disk / "d").code == 0
        before = listing(disk)
        done = spawn_dsq("pack", source, disk / "d", "--replace")
        assert "No space left on device" in done.error_line
        assert listing(disk) == before
        assert spawn_dsq("verify", disk / "d").code == 0


@pytest.mark.parametrize("order", [(), ("--keep-order",)])
@pytest.mark.parametrize("limit", [100_000, 900_000, 2_096_000])
def test_packing_into_files_that_may_not_grow(tmp_path, order, limit):
    source = random_source(tmp_path / "a.npz", 2 << 20)
    before = listing(tmp_path)
    done = spawn_dsq(
        "pack", source, tmp_path / "d", "--no-compare", *order,
        preexec_fn=partial(limit_files, limit),
    )  # fmt: skip
    assert "File too large" in done.error_line
    assert str(tmp_path / "d") in done.error_line
    assert listing(tmp_path) == before


@pytest.mark.parametrize("target", TARGETS)
def test_unpacking_onto_a_full_disk(tmp_path, target):
    source = random_source(tmp_path / "a.npz", 3 << 20)
    assert spawn_dsq("pack", source, tmp_path / "d", "--no-compare").code == 0
    with mounted(tmp_path / "disk", "size=1m") as disk:
        done = spawn_dsq("unpack", tmp_path / "d", disk / TARGETS[target])
        assert done.error_line == f"{disk / TARGETS[target]}: No space left on device"
        assert listing(disk) == {}


def test_read_only_targets(tmp_path):
    source = make_npz(tmp_path / "a.npz", make_pictures(20))
    with mounted(tmp_path / "disk", "size=8m") as disk:
        assert spawn_dsq("pack", source, disk / "d").code == 0
        before = listing(disk)
        with read_only(disk):
            for args in [
                ("pack", source, disk / "new"),
                ("pack", source, disk / "d", "--replace"),
                ("unpack", disk / "d", disk / "out"),
                ("unpack", disk / "d", disk / "out.npz"),
                ("gc", disk / "d"),
                ("info", disk / "d", "--picture", disk / "a.png"),
            ]:
                assert "Read-only file system" in spawn_dsq(*args).error_line, args
            assert spawn_dsq("info", disk / "d").code == 0
            assert spawn_dsq("verify", disk / "d").code == 0
        assert listing(disk) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_targets_without_permission(tmp_path):
    source = make_npz(tmp_path / "a.npz", make_pictures(20))
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    assert "Permission denied" in spawn_dsq("pack", source, closed / "d").error_line
    assert listing(closed) == {}


@pytest.mark.parametrize("moment_s", [0.0, 0.3, 0.8])
def test_an_interrupt_leaves_nothing(tmp_path, moment_s):
    source = random_source(tmp_path / "a.npz", 30 << 20)
    before = listing(tmp_path)
    args = ["pack", str(source), str(tmp_path / "d"), "--no-compare", "--level", "19"]
    with subprocess.Popen(
        [*RUN, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        # The folder of the dataset appears when the writer begins.
        deadline = time.monotonic() + 30
        while not (tmp_path / "d" / "blobs").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(moment_s)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode not in (0, None)
    assert b"Traceback" not in errors, errors
    assert listing(tmp_path) == before


def test_progress_is_only_shown_to_a_terminal(tmp_path):
    source = random_source(tmp_path / "a.npz", 1 << 20)
    args = [str(a) for a in ("pack", source, tmp_path / "d", "--no-compare")]
    done = spawn_dsq(*args)
    assert (done.code, done.err) == (0, "")
    program = (
        "import pty, sys; from dsqformat.commands import progress; progress._QUIET_S = 0.0\n"
        f"sys.argv[1:] = {[*args, '--replace']!r}\n"
        "from dsqformat.cli import main; main()"
    )
    pty = pytest.importorskip("pty")
    shown = bytearray()
    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=slave,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    ) as process:
        os.close(slave)
        with contextlib.suppress(OSError):  # how the end of a terminal reads
            while piece := os.read(master, 65536):
                shown += piece
        process.communicate(timeout=60)
    os.close(master)
    assert process.returncode == 0
    assert b"encode" in shown
