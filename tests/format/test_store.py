"""Publishing: whatever happens, a reader sees the old snapshot or the new one, whole."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from dsqformat import (
    CorruptShardError,
    DatasetError,
    DatasetWriter,
    PublishConflictError,
    UnsupportedFeatureError,
    open_dataset,
)
from dsqformat.dataset import LocalStore
from writing import shard_paths, write_pictures

KILLED_WRITER = textwrap.dedent(
    """
    import os, signal, sys
    calls, limit = 0, int(sys.argv[2])
    def deadly(name):
        real = getattr(os, name)
        def call(*args, **kwargs):
            global calls
            calls += 1
            if calls == limit:
                os.kill(os.getpid(), signal.SIGKILL)
            done = real(*args, **kwargs)
            calls += 1
            if calls == limit:
                os.kill(os.getpid(), signal.SIGKILL)
            return done
        setattr(os, name, call)
    import numpy as np
    from dsqformat import DatasetWriter
    for name in ("fsync", "replace", "open", "unlink", "rename"):
        deadly(name)
    with DatasetWriter(sys.argv[1], mode="replace", chunk_nbytes=300, shard_nbytes=900) as writer:
        for number in range(9):
            writer.write({"image": np.full((8, 8, 3), number, "u1"), "label": 1}, key=str(number))
    """
)


def test_a_writer_killed_at_any_step_leaves_the_old_snapshot_or_the_new(tmp_path):
    write_pictures(tmp_path / "base", 10)
    (tmp_path / "writer.py").write_text(KILLED_WRITER)
    seen = set()
    for limit in range(1, 500, 1 if os.environ.get("DSQ_SOAK") == "1" else 4):
        path = tmp_path / "d"
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(tmp_path / "base", path)
        done = subprocess.run(
            [sys.executable, tmp_path / "writer.py", path, str(limit)],
            timeout=60,
            check=False,
            capture_output=True,
        )
        with open_dataset(path) as dataset:
            count = len(list(dataset))
            assert count == len(list(dataset.keys())) == len(dataset)
            seen.add(count)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        # Nothing stands in the way of the next writer, nor of a garbage collection.
        LocalStore(path).gc()
    assert done.returncode == 0
    assert seen == {10, 9}


def test_an_exception_leaves_nothing_behind(tmp_path):
    def fail_halfway():
        with DatasetWriter(tmp_path / "d") as writer:
            writer.write({"image": np.zeros((4, 4), "u1")})
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail_halfway()
    assert list(tmp_path.iterdir()) == []


def test_an_aborted_replacement_leaves_the_files_that_were_there(tmp_path):
    path = tmp_path / "d"
    write_pictures(path, 30)
    before = sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file())
    writer = DatasetWriter(path, mode="replace", shuffle=False, chunk_nbytes=200)
    for number in range(400):
        writer.write({"image": np.full((8, 8, 3), number % 256, "u1"), "label": 1})
    writer.add_blob("note", b"hello", "text/plain", "txt")
    writer.abort()
    after = sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file())
    assert after == before
    assert len(open_dataset(path)) == 30


def test_two_writers_of_one_ref_do_not_overwrite_each_other(tmp_path):
    path = tmp_path / "d"
    write_pictures(path, 5)
    first = DatasetWriter(path, mode="replace")
    second = DatasetWriter(path, mode="replace")
    first.write({"x": np.zeros((1, 1), "u1")})
    second.write({"x": np.ones((1, 1), "u1")})
    first.close()
    with pytest.raises(PublishConflictError, match="moved"):
        second.close()
    dataset = open_dataset(path)
    assert dataset.snapshot.id == first.snapshot_id
    assert dataset[0]["x"].tolist() == [[0]]


def test_writers_of_different_refs_run_side_by_side(tmp_path):
    script = textwrap.dedent(
        """
        import sys, numpy as np
        from dsqformat import DatasetWriter
        with DatasetWriter(sys.argv[1], ref=sys.argv[2]) as writer:
            for number in range(200):
                writer.write({"x": np.full((8, 8), int(sys.argv[2][1:]), "u1"), "n": number})
        """
    )
    path = tmp_path / "d"
    running = [
        subprocess.Popen([sys.executable, "-c", script, str(path), f"r{number}"])
        for number in range(4)
    ]
    assert [process.wait(timeout=60) for process in running] == [0] * 4
    for number in range(4):
        dataset = open_dataset(path, ref=f"r{number}")
        assert (dataset.to_numpy()["x"] == number).all()
        assert len(dataset) == 200


def test_gc_removes_what_no_ref_reaches(tmp_path):
    path = tmp_path / "d"
    write_pictures(path, 20, seed=1)
    old = {p.name for p in (path / "blobs").iterdir()}
    write_pictures(path, 21, seed=2, mode="replace")
    stale = path / "blobs" / ".new-left-over"
    stale.write_bytes(b"x" * 10)
    fresh = path / "blobs" / ".new-at-work"
    fresh.write_bytes(b"y")
    os.utime(stale, (time.time() - 7200,) * 2)
    store = LocalStore(path)
    planned = store.gc(dry_run=True)
    assert stale.exists()
    report = store.gc()
    assert report == planned
    assert not stale.exists()
    assert fresh.exists()
    assert old.isdisjoint(p.name for p in (path / "blobs").iterdir())
    assert len(report.removed) == len(old) + 2
    assert len(list(open_dataset(path))) == 21
    assert store.gc().removed == ()


def test_gc_waits_for_writers(tmp_path):
    path = tmp_path / "d"
    write_pictures(path, 5)
    writer = DatasetWriter(path, mode="replace")
    with pytest.raises(DatasetError, match="a writer is at work"):
        LocalStore(path).gc()
    writer.abort()
    LocalStore(path).gc()


def test_folders_that_are_something_else_are_left_alone(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"holds 'a\.jpg' and no dataset"):
        DatasetWriter(tmp_path / "photos")
    assert [p.name for p in (tmp_path / "photos").iterdir()] == ["a.jpg"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(DatasetError, match="is a file"):
        DatasetWriter(tmp_path / "file")


def test_what_exists_is_not_overwritten_unasked(tmp_path):
    write_pictures(tmp_path / "d", 5)
    with pytest.raises(DatasetError, match="mode 'replace' or 'append'"):
        DatasetWriter(tmp_path / "d")
    with pytest.raises(DatasetError, match="no ref 'other' to append to"):
        DatasetWriter(tmp_path / "d", mode="append", ref="other")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{}", "format is not dsq-dataset"),
        ('{"format": "dsq-dataset"}', "canonical"),
        ("junk", "not canonical JSON"),
        ('{"format":"dsq-dataset","refs":{"main":"../../x"},"version":1}', "not sound"),
        ('{"format":"dsq-dataset","refs":{"../m":"0"},"version":1}', "not sound"),
    ],
)
def test_a_damaged_dataset_file_is_named(tmp_path, text, says):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DatasetError, match=says):
        open_dataset(tmp_path)


@pytest.mark.parametrize("version", ["2", "true", '"1"'])
def test_another_version_is_unsupported(tmp_path, version):
    text = f'{{"format":"dsq-dataset","refs":{{}},"version":{version}}}'
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(UnsupportedFeatureError, match="this reader knows 1"):
        open_dataset(tmp_path)


def test_missing_pieces_are_named(tmp_path):
    path = tmp_path / "d"
    with pytest.raises(DatasetError, match="no dataset here"):
        open_dataset(path)
    write_pictures(path, 5)
    with pytest.raises(DatasetError, match="no ref 'x'; there are"):
        open_dataset(path, ref="x")
    (snapshot,) = (path / "snapshots").iterdir()
    text = snapshot.read_text()
    snapshot.write_text(text.replace('"parent":null', '"parent":none'))
    with pytest.raises(CorruptShardError, match="SHA-256 differs"):
        open_dataset(path)
    snapshot.write_text(text)
    (shard,) = shard_paths(path)
    shard.unlink()
    with pytest.raises(FileNotFoundError):
        open_dataset(path)[0]
    snapshot.unlink()
    with pytest.raises(DatasetError, match=r"snapshot .* is missing"):
        open_dataset(path)


def test_a_snapshot_with_a_right_digest_may_still_lie(tmp_path):
    from dsqformat.canonical import canonical_json
    from dsqformat.dataset import parse_snapshot
    from dsqformat.wire import sha256_hex

    write_pictures(tmp_path / "d", 5)
    snapshot = open_dataset(tmp_path / "d").snapshot
    value = json.loads((tmp_path / "d" / snapshot.path).read_bytes())
    lies = [
        {"sample_count": 6},
        {"nbytes": -1},
        {"segment_nbytes": []},
        {"shards": {}},
        {"parent": "main"},
        {"blobs": value["blobs"] * 2},
        {"shards": [value["shards"][0] | {"digest": "../../etc/passwd"}]},
        {"shards": [value["shards"][0] | {"chunk_samples": [[1, 1]]}]},
        {"shards": [value["shards"][0] | {"head_nbytes": 1 << 40}]},
        {"blobs": [value["blobs"][0] | {"suffix": "../x"}]},
        {"version": 1.5},
        {"extra": 1},
    ]
    for lie in lies:
        if "version" in lie:
            data = json.dumps(value | lie, sort_keys=True, separators=(",", ":")).encode()
        else:
            data = canonical_json(value | lie)
        with pytest.raises(CorruptShardError):
            parse_snapshot(data, sha256_hex(data))
