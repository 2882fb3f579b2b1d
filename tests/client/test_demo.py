"""The demo: its patches keep training and test apart, its link counts, and it runs to the end."""

import json
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("skimage")

from dsqclient.demo.link import SlowLink
from dsqclient.demo.photographs import SIDE, load_photographs, make_patches, split_corners


def test_no_training_patch_touches_a_test_patch():
    for name, photograph in load_photographs().items():
        train, test = split_corners(photograph.shape[:2])
        assert len(train) >= 100, name
        assert len(test) >= 40, name
        covered = np.zeros(photograph.shape[:2], "?")
        for y, x in test:
            covered[y : y + SIDE, x : x + SIDE] = True
        assert not any(covered[y : y + SIDE, x : x + SIDE].any() for y, x in train), name


def test_patches_are_balanced_and_repeatable():
    patches, again = make_patches(1), make_patches(1)
    assert len(patches.names) >= 8
    assert len(set(np.bincount(patches.train_label))) == 1
    assert len(set(np.bincount(patches.test_label))) == 1
    assert len(patches.train) <= 4000
    np.testing.assert_array_equal(patches.train, again.train)
    np.testing.assert_array_equal(patches.test, again.test)


def test_the_link_carries_and_counts_every_byte():
    import socket

    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(20)
    payload = bytes(range(256)) * 400

    def answer():
        connection, _ = server.accept()
        with connection:
            assert connection.recv(4) == b"ping"
            connection.sendall(payload)

    thread = threading.Thread(target=answer)
    thread.start()
    with SlowLink(f"http://127.0.0.1:{server.getsockname()[1]}", 1e6) as link:
        host, port = link.url.removeprefix("http://").split(":")
        started = time.monotonic()
        with socket.create_connection((host, int(port)), timeout=20) as client:
            client.sendall(b"ping")
            received = b""
            while len(received) < len(payload):
                received += client.recv(1 << 16)
        took = time.monotonic() - started
        assert received == payload
        assert link.nbytes == len(payload) + 4
    thread.join(20)
    server.close()
    # A rate is a promise about the least time, whatever else the machine does.
    assert took >= 0.9 * (len(payload) / 1e6 - 0.02)


def test_it_runs_and_leaves_table_picture_and_figures(tmp_path):
    command = "from dsqformat.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", command, "demo", "--quick", "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    rows = {row["name"]: row for row in summary["rows"]}
    layered = [rows[f"DSQ block, {n} of 3 layers"] for n in (1, 2, 3)]
    for figure in ("wire_nbytes_per_sample", "stored_nbytes_per_sample", "psnr_db"):
        values = [row[figure] for row in layered]
        assert values == sorted(values)
    tars, exact = rows["PNG in WebDataset tars"], rows["DSQ lossless"]
    for row in (*layered, exact, tars):
        assert row["first_batch_s"] < row["epoch_s"]
        # What is stored is sent, and something around it.
        assert row["stored_nbytes_per_sample"] < row["wire_nbytes_per_sample"]
    assert layered[2]["wire_nbytes_per_sample"] < exact["wire_nbytes_per_sample"] < 3072
    assert tars["wire_nbytes_per_sample"] > 3072
    for name in ("WebP", "JPEG"):
        other = rows[f"{name} (bytes only)"]
        assert other["psnr_db"] >= layered[2]["psnr_db"]
        assert other["stored_nbytes_per_sample"] > layered[2]["stored_nbytes_per_sample"]
    assert "mean colour" in (tmp_path / "out" / "table.md").read_text()
    assert (tmp_path / "out" / "layers.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]
