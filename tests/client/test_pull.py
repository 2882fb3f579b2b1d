"""`dsq pull`: whole copies, first layers, refinement, kills, damage, and what is in the way."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from client_data import FAST, SAMPLE_COUNT, Written, forge, write_dataset
from dsqclient import HttpOptions, HttpSource, open_dataset
from dsqclient.pull import PullReport, pull_dataset
from dsqformat import DatasetWriter
from dsqformat import open_dataset as open_local
from dsqformat.bytesource import LocalSource
from dsqformat.dataset.verify import verify_dataset
from dsqformat.errors import CorruptShardError, DatasetError, FetchError
from fault_proxy import FaultProxy

TIMEOUT_S = 60
DSQ = [sys.executable, "-c", "from dsqformat.cli import main; main()"]


def pull(url: str, dest: Path, **options) -> PullReport:
    source = HttpSource(url, options=FAST)
    try:
        return pull_dataset(source, dest, **options)
    finally:
        source.close()


def files_of(path: Path) -> dict[str, str]:
    """Visible files of a dataset by relative path, with the digests of their content."""
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*"))
        if file.is_file() and not file.name.startswith(".")
    }


def assert_sound(path: Path) -> None:
    report = verify_dataset(LocalSource(path))
    assert not report.problems, report.problems[:3]


def decoded(path: Path, layers: int | None = None) -> dict[str, np.ndarray]:
    return open_local(path).to_numpy(layers=layers, output="float32")


def assert_same_samples(path: Path, written: Written, layers: int | None) -> None:
    found, expected = decoded(path), decoded(written.path, layers)
    assert found["index"].tolist() == expected["index"].tolist()
    assert (found["image"] == expected["image"]).all()
    assert open_local(path).by_key("key-33")["index"] == 33


# Whole -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", ["dsq_url", "nginx_url", "plain_url"])
def test_a_whole_copy_has_the_same_files(server, written, tmp_path, request):
    url = request.getfixturevalue(server)
    report = pull(url, tmp_path / "copy")
    assert files_of(tmp_path / "copy") == files_of(written.path)
    assert report.snapshot_id == report.source_snapshot_id == open_local(written.path).snapshot.id
    assert (report.sample_count, report.layers) == (SAMPLE_COUNT, 3)
    assert not list((tmp_path / "copy").rglob(".pull-*"))
    assert_sound(tmp_path / "copy")
    with FaultProxy(url) as proxy:
        again = pull(proxy.url, tmp_path / "copy")
        assert again.received_nbytes == 0
        assert len(proxy.requests) == 3  # dataset.json and the snapshot, twice to publish its bytes


def test_a_local_directory_can_be_copied(written, tmp_path):
    pull_dataset(LocalSource(written.path), tmp_path / "copy")
    assert files_of(tmp_path / "copy") == files_of(written.path)


def test_a_copy_is_brought_up_to_date(tmp_path):
    write_dataset(tmp_path / "source", 200)
    source = LocalSource(tmp_path / "source")
    pull_dataset(source, tmp_path / "copy")
    with DatasetWriter(tmp_path / "source", mode="append", chunk_nbytes=16 << 10) as writer:
        for number in range(200, 260):
            image = np.full((16, 16, 3), number % 256, "u1")
            sample = {"image": image, "label": 0, "index": number, "name": f"picture {number}"}
            writer.write(sample, key=f"key-{number}")
    report = pull_dataset(source, tmp_path / "copy")
    assert report.sample_count == 260
    assert report.reused_nbytes > 100_000 > report.received_nbytes
    assert (
        decoded(tmp_path / "copy")["index"].tolist()
        == decoded(tmp_path / "source")["index"].tolist()
    )
    assert_sound(tmp_path / "copy")


# Layers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 2])
def test_the_first_layers_are_a_dataset_of_their_own(dsq_url, written, tmp_path, layers):
    with FaultProxy(dsq_url) as proxy:
        report = pull(proxy.url, tmp_path / "copy", layers=layers)
        received = proxy.down_nbytes
    assert_same_samples(tmp_path / "copy", written, layers)
    assert_sound(tmp_path / "copy")
    source = open_local(written.path).snapshot
    copy = open_local(tmp_path / "copy").snapshot
    assert copy.provenance["reduced"] == {"layers": layers, "snapshot": source.id}
    assert copy.segment_nbytes == source.segment_nbytes[: 1 + layers]
    assert report.layers == copy.schema.layer_count == layers
    # Only heads, prefixes, keys, tables: no byte of a further layer crossed the wire.
    wanted = source.nbytes - sum(source.segment_nbytes[1 + layers :])
    wanted += sum(blob.nbytes for blob in source.blobs)
    assert wanted <= received < wanted + 900 * (len(proxy.requests) + 5)
    assert report.received_nbytes == wanted
    again = pull(dsq_url, tmp_path / "copy", layers=layers)
    assert again.snapshot_id == report.snapshot_id


@pytest.mark.parametrize("server", ["dsq_url", "plain_url"])
def test_a_copy_is_refined_layer_by_layer(server, written, tmp_path, request):
    url = request.getfixturevalue(server)
    sizes = open_local(written.path).snapshot.segment_nbytes
    for layers, stop in ((1, 2), (2, 3), (None, 4)):
        report = pull(url, tmp_path / "copy", layers=layers)
        assert_same_samples(tmp_path / "copy", written, layers)
        assert_sound(tmp_path / "copy")
        if stop > 2:  # heads and keys come again, segments do not
            assert report.received_nbytes < sizes[stop - 1] + 60_000
    assert set(files_of(written.path)) <= set(files_of(tmp_path / "copy"))


def test_a_reduced_copy_can_be_served_and_pulled_again(dsq_url, written, tmp_path):
    pull(dsq_url, tmp_path / "two", layers=2)
    pull_dataset(LocalSource(tmp_path / "two"), tmp_path / "one", layers=1)
    assert_same_samples(tmp_path / "one", written, 1)
    assert_sound(tmp_path / "one")


def test_asking_for_all_layers_by_number_is_a_whole_copy(dsq_url, written, tmp_path):
    pull(dsq_url, tmp_path / "copy", layers=7)
    assert files_of(tmp_path / "copy") == files_of(written.path)


# Faults ----------------------------------------------------------------------------------------


def test_cuts_and_flips_cost_what_was_lost(dsq_url, written, tmp_path):
    with FaultProxy(dsq_url) as clean:
        pull(clean.url, tmp_path / "clean")
    with FaultProxy(dsq_url, cuts=[0, 70_000, 90_000, 1, 40_000]) as proxy:
        proxy.faults.flips = {150_000, 300_000}
        pull(proxy.url, tmp_path / "copy")
        assert files_of(tmp_path / "copy") == files_of(written.path)
        assert proxy.down_nbytes < clean.down_nbytes + 2 * 4096 + 10_000


@pytest.mark.parametrize("layers", [None, 1])
def test_damage_at_the_source_is_told_and_nothing_is_published(written, tmp_path, layers):
    shutil.copytree(written.path, tmp_path / "source")
    shard = open_local(tmp_path / "source").shard(2)
    path = tmp_path / "source" / shard.path
    data = bytearray(path.read_bytes())
    data[shard.chunk_range(1, 1)[0] + 900] ^= 1
    path.write_bytes(data)
    source = LocalSource(tmp_path / "source")
    with pytest.raises(CorruptShardError, match=r"offset \d+: CRC-32C .* twice"):
        pull_dataset(source, tmp_path / "copy", layers=layers)
    assert not (tmp_path / "copy" / "dataset.json").exists()
    # The source is mended; what had come is not fetched again.
    shutil.rmtree(tmp_path / "source")
    shutil.copytree(written.path, tmp_path / "source")
    report = pull_dataset(source, tmp_path / "copy", layers=layers)
    assert report.reused_nbytes > 100_000
    assert_same_samples(tmp_path / "copy", written, layers)
    assert_sound(tmp_path / "copy")


def test_damage_with_right_checksums_is_found_by_the_digest(written, tmp_path):
    """Somebody who can write the source, but not the snapshot, cannot pass."""
    shutil.copytree(written.path, tmp_path / "source")
    table = open_local(tmp_path / "source").snapshot.blob("keys")
    path = tmp_path / "source" / table.path
    data = bytearray(path.read_bytes())
    data[500] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptShardError, match="SHA-256"):
        pull_dataset(LocalSource(tmp_path / "source"), tmp_path / "copy")
    assert not (tmp_path / "copy" / "dataset.json").exists()


def test_other_data_under_right_checksums_is_not_published(written, tmp_path):
    forged = LocalSource(forge(written, tmp_path / "forged"))
    with pytest.raises(CorruptShardError, match=r"SHA-256 of the segment.*cannot be trusted"):
        pull_dataset(forged, tmp_path / "copy", layers=2)
    assert not (tmp_path / "copy" / "dataset.json").exists()
    assert not list((tmp_path / "copy" / "blobs").glob("*.part"))


@pytest.mark.parametrize("layers", [None, 1])
def test_a_part_is_gone_on_with_at_its_last_byte(dsq_url, written, tmp_path, layers):
    with FaultProxy(dsq_url, stall_at=90_000) as proxy:
        impatient = HttpSource(proxy.url, options=HttpOptions(read_timeout_s=0.2, attempts=1))
        with pytest.raises(FetchError):
            pull_dataset(impatient, tmp_path / "copy", layers=layers)
        impatient.close()
    (part,) = (tmp_path / "copy" / "blobs").glob(".pull-*.part")
    present = part.stat().st_size
    assert present > 10_000
    with FaultProxy(dsq_url) as proxy:
        report = pull(proxy.url, tmp_path / "copy", layers=layers)
        ranges = [line for line in proxy.heads if line.startswith("Range:")]
    assert report.reused_nbytes >= present
    if layers is None:  # here bytes of the copy are where those of the shard are
        assert f"Range: bytes={present}-" in " ".join(ranges)
    assert_same_samples(tmp_path / "copy", written, layers)


def test_a_damaged_part_is_mended(dsq_url, written, tmp_path):
    with FaultProxy(dsq_url, stall_at=250_000) as proxy:
        impatient = HttpSource(proxy.url, options=HttpOptions(read_timeout_s=0.2, attempts=1))
        with pytest.raises(FetchError):
            pull_dataset(impatient, tmp_path / "copy")
        impatient.close()
    (part,) = (tmp_path / "copy" / "blobs").glob(".pull-*.part")
    data = bytearray(part.read_bytes())
    assert len(data) > 60_000
    data[30_000] ^= 1
    part.write_bytes(data)
    pull(dsq_url, tmp_path / "copy")
    assert files_of(tmp_path / "copy") == files_of(written.path)


@pytest.mark.parametrize("layers", [None, 2])
def test_kill_minus_9_in_mid_pull_then_go_on_at_the_byte(dsq_url, written, tmp_path, layers):
    options = [] if layers is None else ["--layers", str(layers)]
    with FaultProxy(dsq_url) as proxy:
        pull(proxy.url, tmp_path / "clean", layers=layers)
        clean = proxy.down_nbytes
    with FaultProxy(dsq_url, rate=250_000) as proxy:
        command = [*DSQ, "pull", proxy.url, str(tmp_path / "copy"), "--json", *options]
        for goal in (clean // 3, clean * 2 // 3):
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            deadline_s = time.monotonic() + TIMEOUT_S
            while proxy.down_nbytes < goal and time.monotonic() < deadline_s:
                assert process.poll() is None, process.communicate()
                time.sleep(0.01)
            os.kill(process.pid, signal.SIGKILL)
            process.communicate(timeout=TIMEOUT_S)
            assert not (tmp_path / "copy" / "dataset.json").exists()
        proxy.faults.rate = None
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=True)
        report = json.loads(done.stdout)
        total = proxy.down_nbytes
    assert report["sample_count"] == SAMPLE_COUNT
    assert_same_samples(tmp_path / "copy", written, layers)
    assert_sound(tmp_path / "copy")
    assert not list((tmp_path / "copy").rglob(".pull-*-*"))
    # What was on its way at each kill, metadata and the head of a shard come again; no more.
    assert total < clean + 2 * (160_000 if layers is None else 100_000), (total, clean)
    assert report["reused_nbytes"] > clean // 3


# In the way ------------------------------------------------------------------------------------


def test_another_dataset_in_the_way_is_not_lost(dsq_url, written, tmp_path):
    write_dataset(tmp_path / "mine", 30, seed=8)
    before = files_of(tmp_path / "mine")
    with pytest.raises(DatasetError, match="holds another dataset"):
        pull(dsq_url, tmp_path / "mine")
    assert files_of(tmp_path / "mine") == before
    pull(dsq_url, tmp_path / "mine", replace=True)
    assert_same_samples(tmp_path / "mine", written, None)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "diary.txt").write_text("dear diary")
    with pytest.raises(DatasetError, match=r"holds 'diary\.txt' and no dataset"):
        pull(dsq_url, tmp_path / "full")
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="is a file"):
        pull(dsq_url, tmp_path / "file")


def test_two_pulls_do_not_meet(dsq_url, tmp_path):
    with FaultProxy(dsq_url, rate=200_000) as proxy:
        command = [*DSQ, "pull", proxy.url, str(tmp_path / "copy")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            deadline_s = time.monotonic() + TIMEOUT_S
            while proxy.down_nbytes < 60_000 and time.monotonic() < deadline_s:
                time.sleep(0.01)
            with pytest.raises(DatasetError, match="another pull is at work"):
                pull(dsq_url, tmp_path / "copy")
        finally:
            process.kill()
            process.communicate(timeout=TIMEOUT_S)
    pull(dsq_url, tmp_path / "copy")


def test_no_room_is_told_beforehand(dsq_url, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("dsqclient.pull.shutil.disk_usage", lambda path: usage)
    with pytest.raises(DatasetError, match="1000 bytes are free, the copy needs"):
        pull(dsq_url, tmp_path / "copy")


def test_a_full_disk_is_told_and_nothing_is_published(dsq_url, tmp_path):
    """A limit on the size of files does what a full disk does."""
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (50000, 50000));"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "from dsqformat.cli import main; main()"
    )
    command = [sys.executable, "-c", script, "pull", dsq_url, str(tmp_path / "copy")]
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, text=True)
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "copy" / "dataset.json").exists()
    pull(dsq_url, tmp_path / "copy")
    assert_sound(tmp_path / "copy")


def run_dsq(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*DSQ, *args], capture_output=True, timeout=TIMEOUT_S, text=True)


def test_the_command_tells_errors_in_one_line(dsq_url, tmp_path):
    for url, text in (
        ("http://127.0.0.1:9/data", "is the server running there?"),
        (dsq_url + "-not", "no dataset here"),
        (str(tmp_path / "nothing"), "no dataset here"),
    ):
        done = run_dsq("pull", url, str(tmp_path / "copy"))
        assert done.returncode == 1
        assert text in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert not (tmp_path / "copy").exists()
    assert run_dsq("pull", "ftp://host/x", str(tmp_path / "copy")).returncode == 2
    assert run_dsq("pull", dsq_url, str(tmp_path / "copy"), "--layers", "0").returncode == 2


def test_the_command_says_what_it_did(dsq_url, tmp_path):
    done = run_dsq("pull", dsq_url, str(tmp_path / "copy"), "--layers", "2")
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path / 'copy'}: 600 samples with 2 layers" in done.stdout
    assert "received in" in done.stdout
    done = run_dsq("pull", dsq_url, str(tmp_path / "copy"), "--json")
    report = json.loads(done.stdout)
    assert report["layers"] == 3
    assert report["reused_nbytes"] > report["received_nbytes"] > 0
    with open_dataset(tmp_path / "copy") as dataset:
        assert len(dataset) == SAMPLE_COUNT
