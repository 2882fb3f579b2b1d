"""The writer: what it refuses, in which words, and how much memory it takes."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from dsqformat import Column, DatasetError, DatasetWriter, FieldSpec, SampleError, open_dataset
from writing import write_pictures

PICTURE = np.zeros((4, 4, 3), "u1")


def nothing_in(folder):
    return not folder.exists() or list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("fields", "samples", "says"),
    [
        (None, [{"x": np.full((2, 2), np.nan, "f4")}], r"sample 0: field 'x': holds NaN"),
        (
            None,
            [{"x": np.ones((2,), "f4")}, {"x": np.full((2,), np.inf, "f4")}],
            r"sample 1: .*NaN",
        ),
        (None, [{"x": np.zeros((2, 2))}], r"needs dtype uint8 or float32, got float64"),
        (None, [{"x": np.zeros((2, 2), "i4")}], r"got int32"),
        (None, [{"x": PICTURE}, {"x": PICTURE.astype("f4")}], r"dtype float32, expected uint8"),
        (None, [{"x": PICTURE}, {"x": PICTURE[0]}], r"2 dimensions, expected 3"),
        (None, [{"x": PICTURE}, {"x": PICTURE, "label": 1}], r"has \['label', 'x'\], expected"),
        (None, [{"x": PICTURE, "label": 1}, {"x": PICTURE, "label": "cat"}], r"is no int64"),
        (None, [{"x": PICTURE, "label": 1 << 63}], r"beyond 64 bits"),
        (None, [{"x": PICTURE, "label": None}], r"NoneType is neither an array nor"),
        (None, [{"label": 1}], r"at least one"),
        (None, [{"key": PICTURE}], r"name 'key'"),
        (None, [{"a-b": PICTURE}], r"name 'a-b'"),
        (None, [{"x": PICTURE, "shard": 3}], r"column 'shard': the sample table has"),
        ({"y": FieldSpec()}, [{"x": PICTURE}], r"expected \['y'\] among them"),
        (FieldSpec("raw"), [{"x": np.array(["a"])}], r"dtype 'str"),
        (FieldSpec(dtype="uint8"), [{"x": np.array([1.5])}], r"unharmed"),
        (FieldSpec(shape=(4, 4, 4)), [{"x": PICTURE}], r"does not fit \(4, 4, 4\)"),
    ],
)
def test_bad_samples_are_refused_and_nothing_is_written(tmp_path, fields, samples, says):
    def write_them():
        with DatasetWriter(tmp_path / "d", fields=fields) as writer:
            for sample in samples:
                writer.write(sample)

    with pytest.raises(SampleError, match=says) as caught:
        write_them()
    assert "\n" not in str(caught.value)
    assert nothing_in(tmp_path)


def test_duplicate_and_missing_keys_are_named(tmp_path):
    writer = DatasetWriter(tmp_path / "d")
    writer.write({"x": PICTURE}, key="a")
    with pytest.raises(SampleError, match=r"sample 1 \('a'\): key 'a': another sample has it"):
        writer.write({"x": PICTURE}, key="a")
    with pytest.raises(SampleError, match="every sample has a key or none"):
        writer.write({"x": PICTURE})
    with pytest.raises(SampleError, match="1 to 4096 bytes"):
        writer.write({"x": PICTURE}, key="")
    writer.write({"x": PICTURE}, key="b")
    writer.close()
    assert sorted(open_dataset(tmp_path / "d").keys()) == ["a", "b"]
    appending = DatasetWriter(tmp_path / "d", mode="append")
    with pytest.raises(SampleError, match="key 'b': the sample at position"):
        appending.write({"x": PICTURE}, key="b")
    appending.abort()


@pytest.mark.parametrize(
    ("spec", "width", "says"),
    [
        (FieldSpec("lsq"), 1, r"lsq takes 0 \(dropped\) or 2 to 16"),
        (FieldSpec("affine"), 17, r"affine takes 0 \(dropped\) or 1 to 16"),
        (FieldSpec("affine"), -1, r"affine takes"),
    ],
)
def test_bit_widths_out_of_range(tmp_path, spec, width, says):
    with DatasetWriter(tmp_path / "d", fields=spec) as writer:
        writer.write({"x": PICTURE})
        with pytest.raises(SampleError, match=says):
            writer.write({"x": PICTURE}, bit_width=width)


def test_one_bit_with_lsq_is_refused_with_the_reason():
    with pytest.raises(ValueError, match=r"divided by 2\^\(1-1\) - 1 = 0"):
        FieldSpec("lsq", 1)


def test_wider_codes_than_bytes_need_are_capped(tmp_path):
    for quantizer, cap in (("affine", 8), ("lsq", 9)):
        path = tmp_path / quantizer
        write_pictures(path, 10, spec=FieldSpec(quantizer, 16))
        chunk_bits = {8: 8, 9: 8}[cap]  # lsq of bytes is never negative: one bit less is stored
        dataset = open_dataset(path)
        stored = sum(dataset.snapshot.segment_nbytes[1:])
        assert stored <= 10 * 8 * 8 * 3 * chunk_bits / 8 + 64


def test_a_batch_writes_what_single_samples_write(tmp_path):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (50, 6, 6, 3), dtype="u1")
    labels = rng.integers(0, 5, 50)
    widths = rng.integers(1, 9, 50)
    keys = [f"k{number}" for number in range(50)]
    with DatasetWriter(tmp_path / "a") as writer:
        writer.write_batch({"x": pictures, "label": labels}, keys=keys, bit_width=widths)
    with DatasetWriter(tmp_path / "b") as writer:
        for number in range(50):
            sample = {"x": pictures[number], "label": int(labels[number])}
            writer.write(sample, key=keys[number], bit_width=int(widths[number]))
    a, b = open_dataset(tmp_path / "a"), open_dataset(tmp_path / "b")
    assert a.snapshot.id == b.snapshot.id


def test_the_report_counts_every_byte_of_the_folder(tmp_path):
    path = tmp_path / "d"
    with DatasetWriter(path, shard_nbytes=300 << 10) as writer:
        rng = np.random.default_rng(0)
        for number in range(300):
            picture = rng.integers(0, 256, (32, 32, 3), dtype="u1")
            writer.write({"x": picture, "label": number % 3}, key=str(number))
    on_disk = sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    assert writer.report.total_nbytes == on_disk
    assert writer.report.source_nbytes == 300 * 3072


def test_the_report_counts_files_that_were_added(tmp_path):
    path, weights = tmp_path / "d", tmp_path / "weights.bin"
    weights.write_bytes(bytes(range(256)) * 40)
    with DatasetWriter(path) as writer:
        writer.write({"x": PICTURE, "label": 1})
        writer.add_blob("reconstructor", weights, "application/octet-stream", "bin")
        writer.add_blob("licence", b"to be used by all", "text/plain", "txt")
        # The same content is the same file.
        writer.add_blob("weights", weights, "application/octet-stream", "bin")
    files = {p: p.stat().st_size for p in path.rglob("*") if p.is_file()}
    assert writer.report.other_blob_nbytes == 10_240 + 17
    assert writer.report.total_nbytes == sum(files.values())
    # Appending keeps them, and writes none of them anew.
    with DatasetWriter(path, mode="append") as more:
        more.write({"x": PICTURE + 1, "label": 2})
        more.add_blob("note", b"two", "text/plain", "txt")
    new = sum(p.stat().st_size for p in path.rglob("*") if p.is_file() and p not in files)
    assert more.report.total_nbytes == new + (path / "dataset.json").stat().st_size


def test_declared_columns_and_names(tmp_path):
    columns = [Column("label", "int64", ("cat", "dog")), Column("score", "float32")]
    with DatasetWriter(tmp_path / "d", columns=columns) as writer:
        writer.write({"x": PICTURE, "label": True, "score": 1})
    dataset = open_dataset(tmp_path / "d")
    assert dataset.schema.column("label").names == ("cat", "dog")
    assert dataset[0]["label"] == 1
    assert dataset[0]["score"] == 1.0


def test_progress_is_told(tmp_path):
    told = []
    progress = lambda *event: told.append(event)  # noqa: E731
    with DatasetWriter(tmp_path / "d", on_progress=progress) as writer:
        for _ in range(7):
            writer.write({"x": PICTURE})
    assert told[0] == ("read", 1, None)
    assert told[-1] == ("encode", 7, 7)


MEASURED = textwrap.dedent(
    """
    import re, sys
    import numpy as np
    from dsqformat import DatasetWriter
    count, shuffle = int(sys.argv[2]), sys.argv[3] == "shuffle"
    rng = np.random.default_rng(0)
    block = rng.integers(0, 256, (1000, 32, 32, 3), dtype="u1") // 16 * 16
    with DatasetWriter(sys.argv[1], shuffle=shuffle, zstd_level=1) as writer:
        for start in range(0, count, 1000):
            labels = np.arange(start, start + 1000)
            keys = [f"picture-{number}" for number in labels]
            writer.write_batch({"image": block, "label": labels}, keys=keys)
    # ru_maxrss would begin with that of the process that started this one.
    status = open("/proc/self/status").read()
    print(int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) * 1024)
    """
)


@pytest.mark.parametrize("order", ["shuffle", "keep"])
def test_memory_does_not_grow_with_the_dataset(tmp_path, order):
    soak = os.environ.get("DSQ_SOAK") == "1"
    count = 200_000 if soak else 20_000
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path / "d"), str(count), order],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rss = int(done.stdout)
    print(f"{count} samples, {order}: {rss / 1e6:.0f} MB")  # noqa: T201
    assert rss < 500e6
    assert len(open_dataset(tmp_path / "d")) == count


BLOCKS_MEASURED = textwrap.dedent(
    """
    import re, sys
    import numpy as np
    from dsqformat import DatasetWriter, FieldSpec
    from dsqformat.writer import NbytesPerSample
    count, targeted = int(sys.argv[2]), sys.argv[3] == "target"
    rng = np.random.default_rng(0)
    batch = rng.integers(0, 256, (100, 4, 4, 3), dtype="u1").repeat(32, axis=1).repeat(32, axis=2)
    target = NbytesPerSample(128) if targeted else None
    options = dict(fields=FieldSpec("block", qp=130), target=target, table=False)
    options |= dict(chunk_nbytes=8 << 10, shard_nbytes=8 << 10)
    with DatasetWriter(sys.argv[1], **options) as writer:
        for start in range(0, count, 100):
            writer.write_batch({"image": batch})
    status = open("/proc/self/status").read()
    print(int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) * 1024)
    """
)


@pytest.mark.parametrize("how", ["given", "target"])
def test_memory_of_blocks_does_not_grow_with_the_dataset(tmp_path, how):
    # The smaller set has more values already than models are fitted to.
    counts = (1000, 4000) if os.environ.get("DSQ_SOAK") == "1" else (200, 300)
    peaks = []
    for count in counts:
        done = subprocess.run(
            [sys.executable, "-c", BLOCKS_MEASURED, str(tmp_path / str(count)), str(count), how],
            capture_output=True,
            text=True,
            timeout=1200,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout))
    print(counts, how, [f"{peak / 1e6:.0f} MB" for peak in peaks])  # noqa: T201
    assert peaks[1] - peaks[0] < 24e6
    assert peaks[1] < 700e6


def test_what_cannot_be_published_is_refused_before_any_sample(tmp_path):
    with pytest.raises(ValueError, match="ref '-'"):
        DatasetWriter(tmp_path / "d", ref="-")
    with pytest.raises(ValueError, match="at most 7 widths"):
        FieldSpec(layers=(40,))
    assert nothing_in(tmp_path)


def test_appending_other_label_names_is_refused(tmp_path):
    with DatasetWriter(tmp_path / "d", names={"label": ["cat", "dog"]}) as writer:
        writer.write({"x": PICTURE, "label": 1})

    def append():
        with DatasetWriter(tmp_path / "d", mode="append", names={"label": ["dog", "cat"]}) as w:
            w.write({"x": PICTURE, "label": 1})

    with pytest.raises(DatasetError, match="would mean something else"):
        append()
    assert len(open_dataset(tmp_path / "d")) == 1
